//! Zstandard frames.

use std::io;

use crate::codec::{Failure, read_bounded};

/// Magic numbers of the formats before 0.8 (RUSTSEC-2026-0392, -0403 were in their decoders, which are not linked).
const LEGACY_MAGICS: std::ops::RangeInclusive<u32> = 0xFD2F_B521..=0xFD2F_B527;

/// Largest window, as a power of two: what levels up to 22 use, and zstd's own bound. Its pages become resident
/// only as output fills them, and output is bounded.
const WINDOW_LOG_MAX: u32 = 27;

pub(super) fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, Failure> {
    if let Some(&magic) = input.first_chunk::<4>() {
        let magic = u32::from_le_bytes(magic);
        if LEGACY_MAGICS.contains(&magic) {
            return Err(Failure::LegacyZstd(magic));
        }
    }
    let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    read_bounded(decoder, limit)
}

pub(super) fn compress(input: &[u8]) -> io::Result<Vec<u8>> {
    zstd::bulk::compress(input, zstd::DEFAULT_COMPRESSION_LEVEL)
}
