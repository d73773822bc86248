//! The four compressions of record batches, with bounded output.
//!
//! Everything is streamed into a buffer that grows with what really comes out, never with what a header promises;
//! a block that states its length up front (snappy) is held against the limit before anything is allocated.

mod gzip;
mod lz4;
mod snappy;
mod zstandard;

use std::io::{self, Read};

use bytes::Bytes;

use crate::error_code::ErrorCode;

/// Compression of a batch's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Codec {
    /// Not compressed.
    #[default]
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Snappy: raw blocks, or Java's framing (xerial), which is also what is written.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard frames (RFC 8878).
    Zstd,
}

/// How much decompression may yield.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes out of one batch.
    pub max_output_bytes: usize,
    /// Most bytes out per byte in, above the first [`RATIO_FREE_BYTES`].
    pub max_ratio: usize,
    /// Most headers of one record.
    pub max_headers: usize,
}

/// Output to which the ratio does not apply: a small batch of one repeated byte is no attack.
pub const RATIO_FREE_BYTES: usize = 4 << 20;

impl Default for Limits {
    fn default() -> Self {
        // 64 MiB is sixty times the default largest batch. gzip cannot exceed 1,032 to 1, so 1,100 hits only what
        // no client sends. A record with more than 100,000 headers is an attack on memory.
        Limits {
            max_output_bytes: 64 << 20,
            max_ratio: 1_100,
            max_headers: 100_000,
        }
    }
}

impl Limits {
    /// Most bytes that `input_len` compressed bytes may become.
    fn output_cap(self, input_len: usize) -> usize {
        input_len
            .saturating_mul(self.max_ratio)
            .max(RATIO_FREE_BYTES)
            .min(self.max_output_bytes)
    }
}

/// Data that cannot be decompressed.
#[derive(Debug, thiserror::Error)]
pub enum DecompressError {
    /// More comes out than the limits allow.
    #[error("{codec:?}: {input_bytes} compressed bytes yield more than {limit_bytes}")]
    TooLarge {
        /// The codec.
        codec: Codec,
        /// Compressed size.
        input_bytes: usize,
        /// The limit that was hit.
        limit_bytes: usize,
    },
    /// Not the codec's format.
    #[error("{codec:?}: {source}")]
    Corrupt {
        /// The codec.
        codec: Codec,
        /// What the codec said.
        source: io::Error,
    },
    /// A zstd frame from before version 0.8, which no Kafka client has ever written.
    #[error("zstd frame of the legacy format {magic:#010x}")]
    LegacyZstd {
        /// The frame's magic number.
        magic: u32,
    },
}

impl DecompressError {
    /// The code Kafka answers with.
    #[must_use]
    pub const fn error_code(&self) -> ErrorCode {
        match self {
            DecompressError::TooLarge { .. } | DecompressError::Corrupt { .. } => {
                ErrorCode::CORRUPT_MESSAGE
            }
            DecompressError::LegacyZstd { .. } => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
        }
    }
}

/// Compression failed; input in memory gives a codec no reason to.
#[derive(Debug, thiserror::Error)]
#[error("{codec:?}: {source}")]
pub struct CompressError {
    /// The codec.
    pub codec: Codec,
    /// What it said.
    pub source: io::Error,
}

impl Codec {
    /// All codecs, by id.
    pub const ALL: &[Codec] = &[
        Codec::None,
        Codec::Gzip,
        Codec::Snappy,
        Codec::Lz4,
        Codec::Zstd,
    ];

    /// The codec with this id in the batch attributes.
    #[must_use]
    pub const fn from_id(id: u8) -> Option<Codec> {
        match id {
            0 => Some(Codec::None),
            1 => Some(Codec::Gzip),
            2 => Some(Codec::Snappy),
            3 => Some(Codec::Lz4),
            4 => Some(Codec::Zstd),
            _ => None,
        }
    }

    /// Its id in the batch attributes.
    #[must_use]
    pub const fn id(self) -> u8 {
        match self {
            Codec::None => 0,
            Codec::Gzip => 1,
            Codec::Snappy => 2,
            Codec::Lz4 => 3,
            Codec::Zstd => 4,
        }
    }

    /// Its name in topic configs (`compression.type`).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Codec::None => "uncompressed",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }

    /// Decompresses all of `input`; `None` hands it back as it is, without a copy.
    ///
    /// # Errors
    /// [`DecompressError`].
    pub fn decompress(self, input: Bytes, limits: Limits) -> Result<Bytes, DecompressError> {
        let limit = limits.output_cap(input.len());
        let output = match self {
            Codec::None => return Ok(input),
            Codec::Gzip => gzip::decompress(&input, limit),
            Codec::Snappy => snappy::decompress(&input, limit),
            Codec::Lz4 => lz4::decompress(&input, limit),
            Codec::Zstd => zstandard::decompress(&input, limit),
        };
        output.map(Bytes::from).map_err(|failure| match failure {
            Failure::TooLarge => DecompressError::TooLarge {
                codec: self,
                input_bytes: input.len(),
                limit_bytes: limit,
            },
            Failure::Corrupt(source) => DecompressError::Corrupt {
                codec: self,
                source,
            },
            Failure::LegacyZstd(magic) => DecompressError::LegacyZstd { magic },
        })
    }

    /// Compresses all of `input` at the codec's default level.
    ///
    /// # Errors
    /// [`CompressError`].
    pub fn compress(self, input: &[u8]) -> Result<Bytes, CompressError> {
        let output = match self {
            Codec::None => Ok(input.to_vec()),
            Codec::Gzip => gzip::compress(input),
            Codec::Snappy => snappy::compress(input),
            Codec::Lz4 => lz4::compress(input),
            Codec::Zstd => zstandard::compress(input),
        };
        output.map(Bytes::from).map_err(|source| CompressError {
            codec: self,
            source,
        })
    }
}

/// What a codec reports; the entry point adds codec and sizes.
enum Failure {
    TooLarge,
    Corrupt(io::Error),
    LegacyZstd(u32),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Corrupt(error)
    }
}

/// First size of an output buffer.
const FIRST_OUTPUT_BYTES: usize = 8 << 10;

/// Reads `decoder` to its end. The buffer doubles, but never past one byte more than `limit`, so that together with
/// its predecessor it takes twice the limit at most.
fn read_bounded(mut decoder: impl Read, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::new();
    loop {
        let target = out
            .len()
            .saturating_mul(2)
            .max(FIRST_OUTPUT_BYTES)
            .min(limit.saturating_add(1));
        let room = target - out.len();
        out.reserve_exact(room);
        let mut part = decoder
            .by_ref()
            .take(u64::try_from(room).unwrap_or(u64::MAX));
        if part.read_to_end(&mut out)? < room {
            return Ok(out);
        }
        if out.len() > limit {
            return Err(Failure::TooLarge);
        }
    }
}

#[cfg(test)]
mod tests;
