//! The broker against a real controller, over real sockets and a real disk.

mod bad_input;
mod client;
mod daemon;
mod fleet;
mod mirror;
mod moves;
mod produce_fetch;
mod uploads;
