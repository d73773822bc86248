//! Scenarios on real processes. What needs Toxiproxy or MinIO runs with WHIMBREL_PEERS=1.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and says what it passes over"
)]

mod binary;
mod restored;
mod scenarios;
mod toxiproxy;

/// True when the parts that only the second stage has are there; says so when they are not.
fn peers(test: &str) -> bool {
    let there = std::env::var_os("WHIMBREL_PEERS").is_some_and(|v| v == "1");
    if !there {
        println!(
            "{test} is passed over: it needs real peers (WHIMBREL_PEERS=1, and WHIMBREL_TOXIPROXY or WHIMBREL_MINIO)"
        );
    }
    there
}
