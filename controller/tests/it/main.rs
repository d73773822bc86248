//! Three voters in one process, on real sqlite files and real sockets, with links that can be cut.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod broker;
mod election;
mod harness;
mod hostile;
mod leases;
mod link;
mod moves;
