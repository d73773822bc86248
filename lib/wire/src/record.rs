//! The records inside a batch.
//!
//! ```text
//! varint length | i8 attributes | varlong timestamp delta | varint offset delta
//! varint key length (-1 null) | key | varint value length (-1 null) | value
//! varint header count | { varint key length | key | varint value length (-1 null) | value }
//! ```
//!
//! A compressed batch is decompressed once, into one buffer whose size [`Limits`] bound; keys and values are slices
//! of that buffer, or of the batch itself where it is not compressed. Header keys are bytes: they need not be UTF-8,
//! and duplicates are kept in order.

use bytes::Bytes;

use crate::batch::{Batch, BatchError, BatchHeader};
use crate::codec::{DecompressError, Limits};
use crate::error_code::ErrorCode;
use crate::varint;

/// One record, with offset and timestamp made absolute.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Offset in the partition.
    pub offset: i64,
    /// Timestamp in ms: the producer's, or the broker's in a LogAppendTime batch; -1 for none.
    pub timestamp_ms: i64,
    /// Key.
    pub key: Option<Bytes>,
    /// Value; none is a tombstone on a compacted topic.
    pub value: Option<Bytes>,
    /// Headers, in order, duplicates included.
    pub headers: Vec<Header>,
    /// Attributes, unused by Kafka so far.
    pub attributes: i8,
}

/// A record header.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// Key, not necessarily UTF-8.
    pub key: Bytes,
    /// Value.
    pub value: Option<Bytes>,
}

/// Records that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The batch itself is unsound.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The records cannot be decompressed within the limits.
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    /// A record does not follow the format.
    #[error("record {index} of the batch at offset {base_offset}: bad {field}")]
    Malformed {
        /// Base offset of the batch.
        base_offset: i64,
        /// The record's place in the batch, from 0.
        index: i32,
        /// What is wrong with it.
        field: &'static str,
    },
    /// A timestamp delta leaves the range of timestamps.
    #[error("record {index} of the batch at offset {base_offset}: timestamp overflows")]
    Timestamp {
        /// Base offset of the batch.
        base_offset: i64,
        /// The record's place in the batch, from 0.
        index: i32,
    },
}

impl RecordError {
    /// The code Kafka answers with.
    #[must_use]
    pub const fn error_code(&self) -> ErrorCode {
        match self {
            RecordError::Batch(error) => error.error_code(),
            RecordError::Decompress(error) => error.error_code(),
            RecordError::Malformed { .. } => ErrorCode::INVALID_RECORD,
            RecordError::Timestamp { .. } => ErrorCode::INVALID_TIMESTAMP,
        }
    }

    /// Never: the same bytes stay what they are.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        false
    }
}

/// Iterates over the records of `batch`. The CRC is not looked at.
///
/// # Errors
/// [`RecordError`] if the batch cannot be decompressed within `limits`.
pub fn records(batch: &Batch, limits: Limits) -> Result<Records, RecordError> {
    let codec = batch.header.codec()?;
    let body = codec.decompress(batch.body(), limits)?;
    Ok(Records {
        header: batch.header,
        rest: body,
        index: 0,
        last_delta: -1,
        max_headers: limits.max_headers,
    })
}

/// Iterator over the records of a batch; ends after the first error. An error is also what follows the last record
/// if bytes are left over.
#[derive(Debug, Clone)]
pub struct Records {
    header: BatchHeader,
    rest: Bytes,
    index: i32,
    last_delta: i32,
    max_headers: usize,
}

impl Records {
    /// The batch's header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    fn malformed(&self, field: &'static str) -> RecordError {
        RecordError::Malformed {
            base_offset: self.header.base_offset,
            index: self.index,
            field,
        }
    }

    fn read(&mut self) -> Result<Record, RecordError> {
        let mut body = take_sized(&mut self.rest)
            .flatten()
            .ok_or_else(|| self.malformed("length"))?;
        let Some((&attributes, mut input)) = body.split_first() else {
            return Err(self.malformed("length"));
        };
        let timestamp_delta =
            varint::read_long(&mut input).ok_or_else(|| self.malformed("timestamp"))?;
        let offset_delta = varint::read(&mut input).ok_or_else(|| self.malformed("offset"))?;
        if offset_delta <= self.last_delta || offset_delta > self.header.last_offset_delta {
            return Err(self.malformed("offset"));
        }
        let timestamp_ms = if self.header.is_log_append_time() {
            self.header.max_timestamp
        } else {
            self.header
                .base_timestamp
                .checked_add(timestamp_delta)
                .ok_or(RecordError::Timestamp {
                    base_offset: self.header.base_offset,
                    index: self.index,
                })?
        };
        let consumed = body.len() - input.len();
        let _ = body.split_to(consumed);
        let key = take_sized(&mut body).ok_or_else(|| self.malformed("key"))?;
        let value = take_sized(&mut body).ok_or_else(|| self.malformed("value"))?;
        let headers = self.read_headers(&mut body)?;
        if !body.is_empty() {
            return Err(self.malformed("length"));
        }
        self.last_delta = offset_delta;
        Ok(Record {
            offset: self
                .header
                .base_offset
                .saturating_add(i64::from(offset_delta)),
            timestamp_ms,
            key,
            value,
            headers,
            attributes: attributes.cast_signed(),
        })
    }

    fn read_headers(&self, body: &mut Bytes) -> Result<Vec<Header>, RecordError> {
        let count = take_varint(body).and_then(|count| usize::try_from(count).ok());
        // A header takes at least two bytes.
        let fits = |count: &usize| *count <= body.len() / 2 && *count <= self.max_headers;
        let count = count
            .filter(fits)
            .ok_or_else(|| self.malformed("header count"))?;
        let mut headers = Vec::with_capacity(count);
        for _ in 0..count {
            let key = take_sized(body)
                .flatten()
                .ok_or_else(|| self.malformed("header key"))?;
            let value = take_sized(body).ok_or_else(|| self.malformed("header value"))?;
            headers.push(Header { key, value });
        }
        Ok(headers)
    }
}

impl Iterator for Records {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.header.records_count {
            if self.rest.is_empty() {
                return None;
            }
            self.rest.clear();
            return Some(Err(self.malformed("end: bytes are left over")));
        }
        let record = self.read();
        if record.is_ok() {
            self.index += 1;
        } else {
            self.index = self.header.records_count;
            self.rest.clear();
        }
        Some(record)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // The count is the sender's word; only what the bytes left could hold is worth reserving for.
        let claimed = usize::try_from(self.header.records_count - self.index).unwrap_or(0);
        (0, Some(claimed.min(self.rest.len()).saturating_add(1)))
    }
}

fn take_varint(input: &mut Bytes) -> Option<i32> {
    let mut slice: &[u8] = input;
    let value = varint::read(&mut slice)?;
    let consumed = input.len() - slice.len();
    let _ = input.split_to(consumed);
    Some(value)
}

/// Takes a length and as many bytes: `None` if the input is bad, `Some(None)` for length -1.
#[expect(
    clippy::option_option,
    reason = "the outer one is failure, the inner one the value null"
)]
fn take_sized(input: &mut Bytes) -> Option<Option<Bytes>> {
    let length = take_varint(input)?;
    if length == -1 {
        return Some(None);
    }
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= input.len())?;
    Some(Some(input.split_to(length)))
}

#[cfg(test)]
mod tests;
