//! Logs on real directories.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

mod basics;
mod concurrency;
mod disk;
mod freeing;
mod model;
mod recovery;
mod support;
mod truncation;
