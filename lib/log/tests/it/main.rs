//! Logs on real directories.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test"
)]

mod basics;
mod behind;
mod clean_ends;
mod compaction;
mod concurrency;
mod disk;
mod early_acks;
mod faults;
mod faults_house;
mod flips;
mod freeing;
mod holes;
mod kills;
mod lineage;
mod model;
mod platter;
mod power;
mod power_house;
mod recovery;
mod reordered;
mod shortened;
mod support;
mod truncation;
mod unreadable;
