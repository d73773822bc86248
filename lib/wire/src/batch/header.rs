//! The 61 bytes before the records.

use crate::batch::BatchError;
use crate::codec::Codec;

/// Bytes of a batch header.
pub const HEADER_LEN: usize = 61;
/// Bytes of base offset and length field, which the length does not count.
pub const LENGTH_PREFIX_LEN: usize = 12;

/// Where the CRC-protected part begins.
pub(super) const CRC_START: usize = 21;
const CRC_AT: usize = 17;
const MAGIC_AT: usize = 16;
const MAGIC: i8 = 2;

pub(super) const CODEC_BITS: i16 = 0x07;
pub(super) const LOG_APPEND_TIME_BIT: i16 = 1 << 3;
pub(super) const TRANSACTIONAL_BIT: i16 = 1 << 4;
pub(super) const CONTROL_BIT: i16 = 1 << 5;
pub(super) const DELETE_HORIZON_BIT: i16 = 1 << 6;

/// The fields of a batch header, by Kafka's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Bytes after the length field.
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch.
    pub partition_leader_epoch: i32,
    /// Format, always 2.
    pub magic: i8,
    /// CRC-32C from the attributes to the end.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: i16,
    /// Last offset minus base offset; kept by compaction.
    pub last_offset_delta: i32,
    /// Timestamp the records' deltas count from, in ms; the delete horizon if [`Self::has_delete_horizon`].
    pub base_timestamp: i64,
    /// Highest timestamp in ms, -1 for none.
    pub max_timestamp: i64,
    /// Producer id, -1 without idempotence.
    pub producer_id: i64,
    /// Producer epoch, -1 without idempotence (KafkaJS writes 0).
    pub producer_epoch: i16,
    /// Sequence of the first record, -1 without idempotence (KafkaJS writes 0).
    pub base_sequence: i32,
    /// Records in the batch.
    pub records_count: i32,
}

fn array<const N: usize>(bytes: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`, which need not hold the whole batch.
    ///
    /// # Errors
    /// [`BatchError`] for fewer than 61 bytes, another format, or a length, offsets or count that cannot be.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        if let Some(&magic) = bytes.get(MAGIC_AT)
            && magic.cast_signed() != MAGIC
        {
            return Err(BatchError::UnsupportedMagic {
                magic: magic.cast_signed(),
            });
        }
        let Some(head) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(BatchError::Truncated {
                needed: HEADER_LEN,
                have: bytes.len(),
            });
        };
        let header = BatchHeader {
            base_offset: i64::from_be_bytes(array(head, 0)),
            batch_length: i32::from_be_bytes(array(head, 8)),
            partition_leader_epoch: i32::from_be_bytes(array(head, 12)),
            magic: head[MAGIC_AT].cast_signed(),
            crc: u32::from_be_bytes(array(head, CRC_AT)),
            attributes: i16::from_be_bytes(array(head, 21)),
            last_offset_delta: i32::from_be_bytes(array(head, 23)),
            base_timestamp: i64::from_be_bytes(array(head, 27)),
            max_timestamp: i64::from_be_bytes(array(head, 35)),
            producer_id: i64::from_be_bytes(array(head, 43)),
            producer_epoch: i16::from_be_bytes(array(head, 51)),
            base_sequence: i32::from_be_bytes(array(head, 53)),
            records_count: i32::from_be_bytes(array(head, 57)),
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), BatchError> {
        if usize::try_from(self.batch_length)
            .is_ok_and(|length| length >= HEADER_LEN - LENGTH_PREFIX_LEN)
        {
        } else {
            return Err(BatchError::BadLength {
                length: self.batch_length,
            });
        }
        // One below the maximum, so that "the offset after the last" is a number too.
        let end = self
            .base_offset
            .checked_add(i64::from(self.last_offset_delta));
        if self.base_offset < 0
            || self.last_offset_delta < 0
            || end.is_none_or(|end| end == i64::MAX)
        {
            return Err(BatchError::BadOffsets {
                base_offset: self.base_offset,
                last_offset_delta: self.last_offset_delta,
            });
        }
        if self.records_count < 0
            || i64::from(self.records_count) > i64::from(self.last_offset_delta) + 1
        {
            return Err(BatchError::BadCount {
                records_count: self.records_count,
                last_offset_delta: self.last_offset_delta,
            });
        }
        Ok(())
    }

    /// The header as it stands on the wire.
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        out[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        out[12..16].copy_from_slice(&self.partition_leader_epoch.to_be_bytes());
        out[MAGIC_AT] = self.magic.cast_unsigned();
        out[17..21].copy_from_slice(&self.crc.to_be_bytes());
        out[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        out[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        out[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        out[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        out[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        out[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        out[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        out[57..61].copy_from_slice(&self.records_count.to_be_bytes());
        out
    }

    /// Bytes of the whole batch, header included.
    #[must_use]
    pub fn size(&self) -> usize {
        // `parse` has seen to it that the length is positive.
        usize::try_from(self.batch_length).unwrap_or(0) + LENGTH_PREFIX_LEN
    }

    /// Offset of the last record (or of the last one there was before compaction).
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        self.base_offset
            .saturating_add(i64::from(self.last_offset_delta))
    }

    /// Offset after the last.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// Compression of the records.
    ///
    /// # Errors
    /// [`BatchError::UnsupportedCodec`] for ids 5-7.
    pub fn codec(&self) -> Result<Codec, BatchError> {
        // Three bits: always fits.
        let id = u8::try_from(self.attributes & CODEC_BITS).unwrap_or(u8::MAX);
        Codec::from_id(id).ok_or(BatchError::UnsupportedCodec { codec: id })
    }

    /// Whether the records' timestamps are the broker's (all equal `max_timestamp`).
    #[must_use]
    pub const fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME_BIT != 0
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub const fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Whether the records are control records, which no consumer sees.
    #[must_use]
    pub const fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// Whether `base_timestamp` is the time after which compaction may drop tombstones (KIP-534).
    #[must_use]
    pub const fn has_delete_horizon(&self) -> bool {
        self.attributes & DELETE_HORIZON_BIT != 0
    }

    /// Whether the batch has a producer id, and so sequences.
    #[must_use]
    pub const fn is_idempotent(&self) -> bool {
        self.producer_id >= 0
    }

    /// Sequence of the last record; sequences go on at 0 after `i32::MAX`. -1 without a producer id.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        if !self.is_idempotent() || self.base_sequence < 0 {
            return -1;
        }
        let last = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        i32::try_from(last % (i64::from(i32::MAX) + 1)).unwrap_or(-1)
    }

    /// Compares the stored CRC with that of `bytes`, the whole batch.
    ///
    /// # Errors
    /// [`BatchError::Truncated`], [`BatchError::CrcMismatch`].
    pub fn verify_crc(&self, bytes: &[u8]) -> Result<(), BatchError> {
        let protected = bytes
            .get(CRC_START..self.size())
            .ok_or(BatchError::Truncated {
                needed: self.size(),
                have: bytes.len(),
            })?;
        let computed = crc32c::crc32c(protected);
        if computed == self.crc {
            Ok(())
        } else {
            Err(BatchError::CrcMismatch {
                stored: self.crc,
                computed,
            })
        }
    }
}
