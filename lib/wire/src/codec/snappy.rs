//! Snappy: one raw block (librdkafka, most clients), or Java's framing of several (xerial):
//!
//! ```text
//! 82 "SNAPPY" 00 | i32 version | i32 oldest compatible version | { i32 length | raw block }
//! ```
//!
//! A raw block states its uncompressed length first; it is checked against the limit before it is believed.

use std::io;

use crate::codec::Failure;

const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_LEN: usize = 16;
/// Uncompressed bytes in a block of the framing; Java's default.
const BLOCK_LEN: usize = 32 << 10;

pub(super) fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::new();
    if !input.starts_with(XERIAL_MAGIC) {
        append_block(&mut out, input, limit)?;
        return Ok(out);
    }
    let mut rest = input
        .get(XERIAL_HEADER_LEN..)
        .ok_or_else(|| corrupt("framing ends in its header"))?;
    while !rest.is_empty() {
        let (length, after) = rest
            .split_first_chunk::<4>()
            .ok_or_else(|| corrupt("framing ends in a length"))?;
        let length = usize::try_from(i32::from_be_bytes(*length))
            .map_err(|_| corrupt("negative block length"))?;
        let (block, after) = after
            .split_at_checked(length)
            .ok_or_else(|| corrupt("framing ends in a block"))?;
        append_block(&mut out, block, limit)?;
        rest = after;
    }
    Ok(out)
}

fn append_block(out: &mut Vec<u8>, block: &[u8], limit: usize) -> Result<(), Failure> {
    let length = snap::raw::decompress_len(block).map_err(io::Error::from)?;
    let start = out.len();
    if length > limit.saturating_sub(start) {
        return Err(Failure::TooLarge);
    }
    // Snappy's densest element yields 64 bytes from 3: a block that promises more is lying, and gets no memory.
    if length > block.len().saturating_mul(32) {
        return Err(corrupt("block cannot hold its stated length"));
    }
    out.resize(start + length, 0);
    let written = snap::raw::Decoder::new()
        .decompress(block, &mut out[start..])
        .map_err(io::Error::from)?;
    out.truncate(start + written);
    Ok(())
}

pub(super) fn compress(input: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(XERIAL_HEADER_LEN + input.len() / 2);
    out.extend_from_slice(XERIAL_MAGIC);
    out.extend_from_slice(&1i32.to_be_bytes());
    out.extend_from_slice(&1i32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for chunk in input.chunks(BLOCK_LEN) {
        let block = encoder.compress_vec(chunk)?;
        let length = i32::try_from(block.len()).map_err(io::Error::other)?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&block);
    }
    Ok(out)
}

fn corrupt(what: &'static str) -> Failure {
    Failure::Corrupt(io::Error::new(io::ErrorKind::InvalidData, what))
}
