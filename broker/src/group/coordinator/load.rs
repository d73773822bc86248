//! Reads a partition of `__consumer_offsets` to its end.

use std::collections::HashMap;

use whimbrel_wire::{Batch, Record, RecordError, codec, control, record};

use super::super::{
    consumer::Stored,
    machine::GroupRecord,
    offsets::Offsets,
    records::{self, Entry, EntryError},
    store::OffsetsLog,
};
use super::txn::Undecided;
use crate::{
    state_log::{self, ReplayError},
    txn::Producer,
};

/// Why a log could not be read; loading is tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error(transparent)]
    Replay(#[from] ReplayError),
    #[error(transparent)]
    Records(#[from] RecordError),
    #[error(transparent)]
    Entry(#[from] EntryError),
}

/// A partition's contents.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) groups: HashMap<String, GroupRecord>,
    pub(super) consumers: HashMap<String, Stored>,
    pub(super) offsets: Offsets,
    /// Positions of transactions without a marker so far.
    pub(super) undecided: Undecided,
}

/// Everything the log held when the reading began, and what came meanwhile.
pub(super) async fn load(log: &dyn OffsetsLog, partition: i32) -> Result<Loaded, LoadError> {
    let mut loaded = Loaded::default();
    state_log::replay(log, partition, |batch| loaded.take_batch(batch)).await?;
    loaded.consumers.retain(|_, stored| !stored.is_gone());
    Ok(loaded)
}

impl Loaded {
    fn take_batch(&mut self, batch: &Batch) -> Result<(), LoadError> {
        let header = &batch.header;
        if header.is_control() {
            let marker = control::parse_batch(batch)?;
            let commit = marker.is_some_and(|m| m.control_type == control::ControlType::Commit);
            for (group, at, committed) in self.undecided.take(header.producer_id) {
                if commit {
                    self.offsets.apply(&group, at, committed);
                }
            }
            return Ok(());
        }
        for found in record::records(batch, codec::Limits::default())? {
            let found = found?;
            if header.is_transactional() {
                let producer = Producer {
                    id: header.producer_id,
                    epoch: header.producer_epoch,
                };
                self.wait(producer, &found)?;
            } else {
                self.apply(&found)?;
            }
        }
        Ok(())
    }

    /// Only positions are ever part of a transaction.
    fn wait(&mut self, producer: Producer, record: &Record) -> Result<(), LoadError> {
        if let Some(Entry::Position {
            group,
            at,
            committed: Some(committed),
        }) = records::decode(record)?
        {
            self.undecided.add(producer, group, at, committed);
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
            Some(Entry::Consumer { group, change }) => {
                self.consumers.entry(group).or_default().apply(change);
            }
        }
        Ok(())
    }
}
