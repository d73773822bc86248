//! Randomness: ids that must never repeat, and jitter.

use std::time::Duration;

use rand::Rng;
use uuid::Uuid;

#[expect(clippy::disallowed_methods, reason = "the one place that draws")]
fn source() -> impl Rng {
    rand::rng()
}

/// 122 random bits as an id.
pub fn uuid() -> Uuid {
    uuid::Builder::from_random_bytes(source().random()).into_uuid()
}

pub fn u64() -> u64 {
    source().random()
}

/// For secrets.
pub fn bytes<const N: usize>() -> [u8; N] {
    source().random()
}

/// `base` plus or minus up to `percent`, so that many processes do not act in step.
pub fn jitter(base: Duration, percent: u32) -> Duration {
    let spread = f64::from(percent.min(100)) / 100.0;
    base.mul_f64(1.0 + source().random_range(-spread..=spread))
}
