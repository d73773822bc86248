//! The wire crate as its users see it: every message in every version against the `kafka-protocol` crate, hostile
//! bytes, and the memory decoding takes.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests may unwrap, as tests may"
)]

mod batches;
mod cases;
mod hostile;
mod memory;
mod oracle;
mod wire_bytes;
