//! What can be wrong with a batch, and the Kafka error code each fault is answered with; what can keep one from being
//! built.

use crate::codec::CompressError;
use crate::error_code::ErrorCode;

/// A batch that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("batch needs {needed} bytes, {have} are there")]
    Truncated {
        /// Bytes the batch (or, if fewer than 61 are there, its header) takes.
        needed: usize,
        /// Bytes given.
        have: usize,
    },
    /// The length field cannot be that of a batch.
    #[error("batch length field says {length}")]
    BadLength {
        /// The field's value.
        length: i32,
    },
    /// Not format 2.
    #[error("batch format {magic}, only 2 is read")]
    UnsupportedMagic {
        /// The magic byte.
        magic: i8,
    },
    /// Negative offsets, or offsets past the end of their range.
    #[error("batch offsets make no sense: base {base_offset}, last delta {last_offset_delta}")]
    BadOffsets {
        /// Base offset.
        base_offset: i64,
        /// Last offset delta.
        last_offset_delta: i32,
    },
    /// The number of records does not go with the offsets.
    #[error("batch of {records_count} records with last offset delta {last_offset_delta}")]
    BadCount {
        /// Records count.
        records_count: i32,
        /// Last offset delta.
        last_offset_delta: i32,
    },
    /// The bytes are not those that were written.
    #[error("batch CRC is {computed:#010x}, stored is {stored:#010x}")]
    CrcMismatch {
        /// CRC in the header.
        stored: u32,
        /// CRC of the bytes.
        computed: u32,
    },
    /// A produce request carries exactly one batch per partition.
    #[error("{bytes} bytes of records are not exactly one batch")]
    NotOneBatch {
        /// Bytes of the records field.
        bytes: usize,
    },
    /// Larger than the topic allows.
    #[error("batch of {size} bytes, at most {max} are allowed")]
    TooLarge {
        /// Bytes of the batch.
        size: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// No codec has this id, or this request version may not use it.
    #[error("compression {codec} is not supported here")]
    UnsupportedCodec {
        /// The codec bits.
        codec: u8,
    },
    /// Attributes only a broker may set.
    #[error("attributes {attributes:#06x} may not come from a client")]
    ForbiddenAttributes {
        /// The attributes field.
        attributes: i16,
    },
    /// Producer id, epoch and sequence do not go together.
    #[error(
        "producer id {producer_id}, epoch {producer_epoch}, sequence {base_sequence} do not go together"
    )]
    BadProducer {
        /// Producer id.
        producer_id: i64,
        /// Producer epoch.
        producer_epoch: i16,
        /// Base sequence.
        base_sequence: i32,
    },
    /// A timestamp outside the allowed range, or a kind of timestamp only a broker may set.
    #[error("timestamps {base_timestamp_ms} to {max_timestamp_ms} ms are not allowed")]
    BadTimestamp {
        /// Base timestamp.
        base_timestamp_ms: i64,
        /// Highest timestamp.
        max_timestamp_ms: i64,
    },
}

impl BatchError {
    /// The code Kafka answers with.
    #[must_use]
    pub const fn error_code(&self) -> ErrorCode {
        match self {
            BatchError::Truncated { .. }
            | BatchError::BadLength { .. }
            | BatchError::CrcMismatch { .. } => ErrorCode::CORRUPT_MESSAGE,
            BatchError::UnsupportedMagic { .. }
            | BatchError::BadOffsets { .. }
            | BatchError::BadCount { .. }
            | BatchError::NotOneBatch { .. }
            | BatchError::ForbiddenAttributes { .. }
            | BatchError::BadProducer { .. } => ErrorCode::INVALID_RECORD,
            BatchError::TooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
            BatchError::UnsupportedCodec { .. } => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            BatchError::BadTimestamp { .. } => ErrorCode::INVALID_TIMESTAMP,
        }
    }

    /// True where sending the same bytes again may help: they were damaged on the way.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        self.error_code().is_retryable()
    }
}

/// A record or batch that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Offsets must rise and stay within `i32::MAX` of the base offset.
    #[error("offset {offset} does not follow {last} in a batch starting at {base_offset}")]
    Offset {
        /// The offset to add.
        offset: i64,
        /// The last one added.
        last: i64,
        /// The batch's base offset.
        base_offset: i64,
    },
    /// Timestamps of one batch are further apart than an `i64` holds.
    #[error("timestamp {timestamp_ms} ms is too far from the batch's {base_timestamp_ms} ms")]
    Timestamp {
        /// The record's timestamp.
        timestamp_ms: i64,
        /// The batch's base timestamp.
        base_timestamp_ms: i64,
    },
    /// A record or the batch is larger than its length field can say.
    #[error("{bytes} bytes are too many for one batch")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The codec failed.
    #[error(transparent)]
    Compress(#[from] CompressError),
}
