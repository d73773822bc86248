//! LZ4 frames. Blocks are at most 4 MiB by the format, whatever a frame claims; the decoder holds one block in each form,
//! 8 MiB at most, besides the output.

use std::io::{self, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use crate::codec::{Failure, read_bounded};

pub(super) fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, Failure> {
    read_bounded(FrameDecoder::new(input), limit)
}

pub(super) fn compress(input: &[u8]) -> io::Result<Vec<u8>> {
    // Independent blocks are all that Java's consumer reads; 64 KiB is what Java's producer writes.
    let info = FrameInfo::new()
        .block_mode(BlockMode::Independent)
        .block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(input)?;
    encoder.finish().map_err(io::Error::other)
}
