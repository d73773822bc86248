//! Reads a partition of `__consumer_offsets` to its end.

use std::collections::HashMap;

use bytes::Bytes;
use whimbrel_wire::{
    Batch, BatchError, Batches, ErrorCode, Record, RecordError, codec, control, record,
};

use super::super::{
    machine::GroupRecord,
    offsets::Offsets,
    records::{self, Entry, EntryError},
    store::OffsetsLog,
};

/// Bytes asked for at once.
const READ_BYTES: usize = 1 << 20;

/// Why a log could not be read; loading is tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("read at {offset}: {}", code.name())]
    Read { offset: i64, code: ErrorCode },
    #[error("nothing durable yet at {offset}, the log ends at {end}")]
    NotDurable { offset: i64, end: i64 },
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Records(#[from] RecordError),
    #[error(transparent)]
    Entry(#[from] EntryError),
}

/// A partition's contents.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) groups: HashMap<String, GroupRecord>,
    pub(super) offsets: Offsets,
    /// Records of transactions without a marker so far, by producer id.
    undecided: HashMap<i64, Vec<Record>>,
}

/// Everything the log held when the reading began, and what came meanwhile. Only durable records count, so an end
/// that is not durable yet is an error to try again after.
pub(super) async fn load(log: &dyn OffsetsLog, partition: i32) -> Result<Loaded, LoadError> {
    let mut loaded = Loaded::default();
    let end = log.end(partition);
    let mut offset = log.start(partition);
    while offset < end {
        let (bytes, next) = log
            .read(partition, offset, READ_BYTES)
            .await
            .map_err(|code| LoadError::Read { offset, code })?;
        if next <= offset {
            return Err(LoadError::NotDurable { offset, end });
        }
        loaded.take(bytes)?;
        offset = next;
        // A long log must not hold up the other tasks of this thread.
        tokio::task::yield_now().await;
    }
    Ok(loaded)
}

impl Loaded {
    fn take(&mut self, bytes: Bytes) -> Result<(), LoadError> {
        for batch in Batches::new(bytes) {
            self.take_batch(&batch?)?;
        }
        Ok(())
    }

    fn take_batch(&mut self, batch: &Batch) -> Result<(), LoadError> {
        batch.verify_crc()?;
        let header = &batch.header;
        if header.is_control() {
            let marker = control::parse_batch(batch)?;
            let decided = self
                .undecided
                .remove(&header.producer_id)
                .unwrap_or_default();
            if marker.is_some_and(|m| m.control_type == control::ControlType::Commit) {
                for record in decided {
                    self.apply(&record)?;
                }
            }
            return Ok(());
        }
        for found in record::records(batch, codec::Limits::default())? {
            let found = found?;
            if header.is_transactional() {
                self.undecided
                    .entry(header.producer_id)
                    .or_default()
                    .push(found);
            } else {
                self.apply(&found)?;
            }
        }
        Ok(())
    }

    fn apply(&mut self, record: &Record) -> Result<(), LoadError> {
        match records::decode(record)? {
            None => {}
            Some(Entry::Position {
                group,
                at,
                committed: Some(committed),
            }) => self.offsets.apply(&group, at, committed),
            Some(Entry::Position {
                group,
                at,
                committed: None,
            }) => self.offsets.remove(&group, &at),
            Some(Entry::Group {
                group,
                record: Some(record),
            }) => drop(self.groups.insert(group, record)),
            Some(Entry::Group {
                group,
                record: None,
            }) => drop(self.groups.remove(&group)),
        }
        Ok(())
    }
}
