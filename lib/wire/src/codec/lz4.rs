//! LZ4 frames. Blocks are at most 4 MiB by the format, whatever a frame claims; the decoder holds one block in each form,
//! 8 MiB at most, besides the output.

use std::io::{self, Write};

use lz4_flex::frame::{FrameDecoder, FrameEncoder};

use crate::codec::{Failure, read_bounded};

pub(super) fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, Failure> {
    read_bounded(FrameDecoder::new(input), limit)
}

pub(super) fn compress(input: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = FrameEncoder::new(Vec::new());
    encoder.write_all(input)?;
    encoder.finish().map_err(io::Error::other)
}
