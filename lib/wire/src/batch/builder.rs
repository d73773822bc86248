//! Writes a batch record by record.

use bytes::{BufMut, Bytes, BytesMut};

use crate::batch::header::{
    CONTROL_BIT, CRC_START, DELETE_HORIZON_BIT, HEADER_LEN, LENGTH_PREFIX_LEN, LOG_APPEND_TIME_BIT,
    TRANSACTIONAL_BIT,
};
use crate::batch::{BatchError, BatchHeader, BuildError};
use crate::codec::Codec;
use crate::record::Header;
use crate::varint;

/// Builds one batch. Records go in by rising offset; [`Self::add`] numbers them without gaps, [`Self::add_at`] keeps
/// the gaps of a compacted batch.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    header: BatchHeader,
    codec: Codec,
    records: BytesMut,
    scratch: BytesMut,
    base_timestamp_ms: Option<i64>,
    last_offset: Option<i64>,
    fixed_last_offset: Option<i64>,
    fixed_max_timestamp_ms: Option<i64>,
}

impl BatchBuilder {
    /// An empty batch starting at `base_offset`: uncompressed, no producer, leader epoch -1.
    #[must_use]
    pub fn new(base_offset: i64) -> Self {
        BatchBuilder {
            header: BatchHeader {
                base_offset,
                batch_length: 0,
                partition_leader_epoch: -1,
                magic: 2,
                crc: 0,
                attributes: 0,
                last_offset_delta: 0,
                base_timestamp: -1,
                max_timestamp: -1,
                producer_id: -1,
                producer_epoch: -1,
                base_sequence: -1,
                records_count: 0,
            },
            codec: Codec::None,
            records: BytesMut::new(),
            scratch: BytesMut::new(),
            base_timestamp_ms: None,
            last_offset: None,
            fixed_last_offset: None,
            fixed_max_timestamp_ms: None,
        }
    }

    /// A batch that is to hold some of the records of `header`'s: same offsets, producer, flags, codec and base
    /// timestamp, as compaction writes it (`last_offset_delta` stays).
    ///
    /// # Errors
    /// [`BatchError::UnsupportedCodec`].
    pub fn rewriting(header: &BatchHeader) -> Result<Self, BatchError> {
        let codec = header.codec()?;
        let mut builder = BatchBuilder::new(header.base_offset);
        builder.header = BatchHeader {
            records_count: 0,
            max_timestamp: -1,
            ..*header
        };
        builder.codec = codec;
        builder.base_timestamp_ms = Some(header.base_timestamp);
        builder.fixed_last_offset = Some(header.last_offset());
        if header.is_log_append_time() {
            builder.fixed_max_timestamp_ms = Some(header.max_timestamp);
        }
        Ok(builder)
    }

    /// Sets the leader epoch.
    #[must_use]
    pub fn leader_epoch(mut self, epoch: i32) -> Self {
        self.header.partition_leader_epoch = epoch;
        self
    }

    /// Sets the codec.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Sets producer id, epoch and the first record's sequence.
    #[must_use]
    pub fn producer(mut self, producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Self {
        self.header.producer_id = producer_id;
        self.header.producer_epoch = producer_epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Marks the batch as part of a transaction.
    #[must_use]
    pub fn transactional(self, transactional: bool) -> Self {
        self.flag(TRANSACTIONAL_BIT, transactional)
    }

    /// Marks the batch as one of control records.
    #[must_use]
    pub fn control(self, control: bool) -> Self {
        self.flag(CONTROL_BIT, control)
    }

    /// Makes `timestamp_ms` the timestamp of all records (LogAppendTime).
    #[must_use]
    pub fn log_append_time(mut self, timestamp_ms: i64) -> Self {
        self.fixed_max_timestamp_ms = Some(timestamp_ms);
        self.flag(LOG_APPEND_TIME_BIT, true)
    }

    /// Makes `horizon_ms` the time after which compaction may drop tombstones and markers of this batch. Must come
    /// before the first record, whose timestamp is written relative to it.
    #[must_use]
    pub fn delete_horizon(mut self, horizon_ms: i64) -> Self {
        self.base_timestamp_ms = Some(horizon_ms);
        self.flag(DELETE_HORIZON_BIT, true)
    }

    fn flag(mut self, bit: i16, on: bool) -> Self {
        if on {
            self.header.attributes |= bit;
        } else {
            self.header.attributes &= !bit;
        }
        self
    }

    /// Adds a record at the offset after the last one.
    ///
    /// # Errors
    /// [`BuildError`]; the builder is then unchanged.
    pub fn add(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
    ) -> Result<(), BuildError> {
        let offset = self
            .last_offset
            .map_or(self.header.base_offset, |last| last.saturating_add(1));
        self.add_at(offset, timestamp_ms, key, value, headers)
    }

    /// Adds a record at `offset`, which may leave a gap.
    ///
    /// # Errors
    /// [`BuildError`]; the builder is then unchanged.
    pub fn add_at(
        &mut self,
        offset: i64,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
    ) -> Result<(), BuildError> {
        let base_offset = self.header.base_offset;
        let rises = self.last_offset.is_none_or(|last| offset > last)
            && self.fixed_last_offset.is_none_or(|last| offset <= last);
        let offset_delta = offset
            .checked_sub(base_offset)
            .and_then(|delta| i32::try_from(delta).ok());
        let Some(offset_delta) = offset_delta.filter(|delta| rises && *delta >= 0) else {
            return Err(BuildError::Offset {
                offset,
                last: self.last_offset.unwrap_or(-1),
                base_offset,
            });
        };
        let base_timestamp_ms = self.base_timestamp_ms.unwrap_or(timestamp_ms);
        let timestamp_delta =
            timestamp_ms
                .checked_sub(base_timestamp_ms)
                .ok_or(BuildError::Timestamp {
                    timestamp_ms,
                    base_timestamp_ms,
                })?;

        self.scratch.clear();
        self.scratch.put_i8(0);
        varint::put_long(&mut self.scratch, timestamp_delta);
        varint::put(&mut self.scratch, offset_delta);
        put_nullable(&mut self.scratch, key)?;
        put_nullable(&mut self.scratch, value)?;
        varint::put(&mut self.scratch, length(headers.len())?);
        for header in headers {
            put_nullable(&mut self.scratch, Some(&header.key))?;
            put_nullable(&mut self.scratch, header.value.as_deref())?;
        }
        let record_len = length(self.scratch.len())?;
        length(self.records.len() + self.scratch.len() + HEADER_LEN)?;

        varint::put(&mut self.records, record_len);
        self.records.extend_from_slice(&self.scratch);
        self.base_timestamp_ms = Some(base_timestamp_ms);
        self.header.max_timestamp = self.header.max_timestamp.max(timestamp_ms);
        self.header.records_count += 1;
        self.last_offset = Some(offset);
        Ok(())
    }

    /// Records added so far.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.header.records_count).unwrap_or(0)
    }

    /// Whether no record was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.header.records_count == 0
    }

    /// Bytes of the batch so far, before compression.
    #[must_use]
    pub fn uncompressed_size(&self) -> usize {
        HEADER_LEN + self.records.len()
    }

    /// The batch, with its CRC.
    ///
    /// # Errors
    /// [`BuildError::TooLarge`], [`BuildError::Compress`].
    pub fn finish(self) -> Result<Bytes, BuildError> {
        let body = match self.codec {
            Codec::None => self.records.freeze(),
            codec => codec.compress(&self.records)?,
        };
        let mut header = self.header;
        header.attributes =
            (header.attributes & !super::header::CODEC_BITS) | i16::from(self.codec.id());
        let last_offset = self
            .fixed_last_offset
            .or(self.last_offset)
            .unwrap_or(header.base_offset);
        header.last_offset_delta =
            i32::try_from(last_offset.saturating_sub(header.base_offset)).unwrap_or(i32::MAX);
        header.base_timestamp = self.base_timestamp_ms.unwrap_or(-1);
        header.max_timestamp = self.fixed_max_timestamp_ms.unwrap_or(header.max_timestamp);
        header.batch_length = length(HEADER_LEN - LENGTH_PREFIX_LEN + body.len())?;

        let mut out = BytesMut::with_capacity(HEADER_LEN + body.len());
        out.extend_from_slice(&header.to_bytes());
        out.extend_from_slice(&body);
        let crc = crc32c::crc32c(&out[CRC_START..]);
        out[17..21].copy_from_slice(&crc.to_be_bytes());
        Ok(out.freeze())
    }
}

fn length(bytes: usize) -> Result<i32, BuildError> {
    i32::try_from(bytes).map_err(|_| BuildError::TooLarge { bytes })
}

fn put_nullable(out: &mut BytesMut, value: Option<&[u8]>) -> Result<(), BuildError> {
    match value {
        None => varint::put(out, -1),
        Some(bytes) => {
            varint::put(out, length(bytes.len())?);
            out.extend_from_slice(bytes);
        }
    }
    Ok(())
}
