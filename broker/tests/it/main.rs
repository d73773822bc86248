//! The broker against a real controller, over real sockets and a real disk.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bad_input;
mod client;
mod configs;
mod daemon;
mod disk;
mod fleet;
mod mirror;
mod moves;
mod produce_fetch;
mod sessions;
mod transactions;
mod uploads;
