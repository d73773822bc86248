//! Control records: the markers that end a transaction in a partition.
//!
//! Key: `i16` version, `i16` type (0 abort, 1 commit). Value: `i16` version, `i32` epoch of the transaction
//! coordinator. Higher versions may append fields, which are skipped. Types 2-6 belong to KRaft and are reported as
//! [`ControlType::Other`].

use bytes::{BufMut, Bytes, BytesMut};

use crate::batch::{Batch, BatchBuilder, BuildError};
use crate::codec::Limits;
use crate::record::{Record, RecordError, records};

/// What a control record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlType {
    /// The transaction was aborted.
    Abort,
    /// The transaction was committed.
    Commit,
    /// Not about transactions; Kafka's number.
    Other(i16),
}

impl ControlType {
    const fn id(self) -> i16 {
        match self {
            ControlType::Abort => 0,
            ControlType::Commit => 1,
            ControlType::Other(id) => id,
        }
    }
}

/// End of a producer's transaction in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker {
    /// Abort or commit.
    pub control_type: ControlType,
    /// Epoch of the coordinator that wrote it; -1 where the type carries none.
    pub coordinator_epoch: i32,
}

/// Who ends which transaction, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkerBatch {
    /// Offset of the marker.
    pub base_offset: i64,
    /// Leader epoch.
    pub leader_epoch: i32,
    /// Time in ms.
    pub timestamp_ms: i64,
    /// The transaction's producer.
    pub producer_id: i64,
    /// The producer's epoch.
    pub producer_epoch: i16,
    /// What it says.
    pub marker: Marker,
}

impl MarkerBatch {
    /// The batch holding the marker: transactional, control, one record, no sequence.
    ///
    /// # Errors
    /// [`BuildError`] for offsets or timestamps out of range.
    pub fn build(&self) -> Result<Bytes, BuildError> {
        let mut key = BytesMut::with_capacity(4);
        key.put_i16(0);
        key.put_i16(self.marker.control_type.id());
        let mut value = BytesMut::with_capacity(6);
        value.put_i16(0);
        value.put_i32(self.marker.coordinator_epoch);
        let mut builder = BatchBuilder::new(self.base_offset)
            .leader_epoch(self.leader_epoch)
            .producer(self.producer_id, self.producer_epoch, -1)
            .transactional(true)
            .control(true);
        builder.add(self.timestamp_ms, Some(&key), Some(&value), &[])?;
        builder.finish()
    }
}

/// Reads the record of a control batch.
///
/// # Errors
/// [`RecordError::Malformed`] if key or value are too short.
pub fn parse(record: &Record) -> Result<Marker, RecordError> {
    let malformed = |field| RecordError::Malformed {
        base_offset: record.offset,
        index: 0,
        field,
    };
    let key = record.key.as_deref().and_then(|key| key.first_chunk::<4>());
    let [_, _, high, low] = *key.ok_or_else(|| malformed("control record key"))?;
    let control_type = match i16::from_be_bytes([high, low]) {
        0 => ControlType::Abort,
        1 => ControlType::Commit,
        other => {
            return Ok(Marker {
                control_type: ControlType::Other(other),
                coordinator_epoch: -1,
            });
        }
    };
    let value = record
        .value
        .as_deref()
        .and_then(|value| value.first_chunk::<6>());
    let [_, _, epoch @ ..] = *value.ok_or_else(|| malformed("control record value"))?;
    Ok(Marker {
        control_type,
        coordinator_epoch: i32::from_be_bytes(epoch),
    })
}

/// Reads the marker of a control batch; `None` if the batch is not a control batch or compaction emptied it.
///
/// # Errors
/// [`RecordError`].
pub fn parse_batch(batch: &Batch) -> Result<Option<Marker>, RecordError> {
    if !batch.header.is_control() {
        return Ok(None);
    }
    match records(batch, Limits::default())?.next() {
        None => Ok(None),
        Some(record) => parse(&record?).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_comes_back() {
        for control_type in [ControlType::Abort, ControlType::Commit] {
            let marker = Marker {
                control_type,
                coordinator_epoch: 7,
            };
            let bytes = MarkerBatch {
                base_offset: 12,
                leader_epoch: 3,
                timestamp_ms: 1_700_000_000_000,
                producer_id: 4000,
                producer_epoch: 2,
                marker,
            };
            let batch = Batch::take(&mut bytes.build().unwrap()).unwrap();
            batch.verify_crc().unwrap();
            assert!(batch.header.is_control() && batch.header.is_transactional());
            assert_eq!(batch.header.base_sequence, -1);
            assert_eq!(parse_batch(&batch).unwrap(), Some(marker));
        }
    }

    #[test]
    fn short_control_records_are_refused() {
        let record = Record {
            key: Some(Bytes::from_static(&[0, 0, 0])),
            ..Record::default()
        };
        assert!(parse(&record).is_err());
        let record = Record {
            key: Some(Bytes::from_static(&[0, 0, 0, 1])),
            ..Record::default()
        };
        assert!(parse(&record).is_err());
        let record = Record {
            key: Some(Bytes::from_static(&[0, 0, 0, 2])),
            ..Record::default()
        };
        assert_eq!(parse(&record).unwrap().control_type, ControlType::Other(2));
    }
}
