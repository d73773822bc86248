#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on shall say so by panicking"
)]

mod kafka;
mod replica;
mod translated;
