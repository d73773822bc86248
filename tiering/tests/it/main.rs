//! The daemon against real folders, a real MinIO where one is given, and a broker that is real in all but
//! its log.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests fail the test, and say what was skipped"
)]

mod away;
mod bad_input;
mod borrow;
mod broker;
mod by_time;
mod cache;
mod clock_off;
mod cold_readers;
mod compacted;
mod conformance;
mod contended;
mod crash;
mod daemon;
mod endpoint;
mod fault;
mod formats;
mod freed;
mod hasty;
mod holds;
mod kept;
mod listing;
mod log_starts;
mod mates;
mod memory;
mod merged;
mod meta;
mod minio;
mod moving;
mod older_root;
mod parts;
mod probe;
mod rebuild;
mod refused;
mod region;
mod repair;
mod restore;
mod seldom;
mod spill;
mod support;
mod timed;
mod transactions;
mod two_fleets;
mod unclean;
mod usage;
mod verify;
mod world;
mod zombie;
