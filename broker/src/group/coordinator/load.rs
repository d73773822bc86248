//! Reads a partition of `__consumer_offsets` to its end.

use std::collections::{HashMap, HashSet};

use whimbrel_wire::{Batch, Record, RecordError, codec, control, record};

use super::super::{
    consumer::{Change, Stored},
    machine::{GroupRecord, Now},
    offsets::{Committed, Offsets},
    records::{self, Entry, EntryError},
    store::OffsetsLog,
};
use super::{elsewhere::Marks, txn::Undecided};
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
    /// Where the lossy move cut the log that the leadership begins with.
    moved_at: Option<i64>,
    /// Classic groups that were written of since, and members (group, id) of the consumer protocol that joined since.
    written_since: HashSet<String>,
    joined_since: HashSet<(String, String)>,
    /// The moves of other failover groups that its positions were set back to.
    pub(super) marks: Marks,
    /// Positions of transactions without a marker so far.
    pub(super) undecided: Undecided,
}

/// Everything the log held when the reading began, and what came meanwhile. `moved_at`: where a lossy move cut it.
pub(super) async fn load(
    log: &dyn OffsetsLog,
    partition: i32,
    moved_at: Option<i64>,
) -> Result<Loaded, LoadError> {
    let mut loaded = Loaded {
        moved_at,
        ..Loaded::default()
    };
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

    /// Takes out the members of before the lossy move, if there was one, and tells what says so.
    pub(super) fn let_members_go(&mut self, now: Now) -> Vec<Entry> {
        let Self {
            groups,
            consumers,
            written_since,
            joined_since,
            ..
        } = self;
        let mut entries = Vec::new();
        if self.moved_at.is_none() {
            return entries;
        }
        for (id, record) in groups {
            if record.members.is_empty() || written_since.contains(id) {
                continue;
            }
            entries.push(emptied(id, record, now));
        }
        for (id, stored) in consumers {
            let old = |member: &str| !joined_since.contains(&(id.clone(), member.to_owned()));
            let changes = stored.let_go(old).into_iter();
            entries.extend(changes.map(|change| Entry::Consumer {
                group: id.clone(),
                change,
            }));
        }
        entries
    }

    /// What was written at the beginning stands in the log. The members that it lets go are out already.
    pub(super) fn wrote(&mut self, entry: Entry, log_offset: i64) {
        match entry {
            Entry::Position {
                group,
                at,
                committed: Some(committed),
            } => {
                let committed = Committed {
                    log_offset,
                    ..committed
                };
                self.offsets.apply(&group, at, committed);
            }
            Entry::Move(id) => self.marks.add(id, log_offset),
            Entry::Position { .. } | Entry::Group { .. } | Entry::Consumer { .. } => {}
        }
    }

    fn apply(&mut self, record: &Record) -> Result<(), LoadError> {
        let is_new = self.moved_at.is_some_and(|at| record.offset >= at);
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
            }) => {
                if is_new {
                    self.written_since.insert(group.clone());
                }
                self.groups.insert(group, record);
            }
            Some(Entry::Group {
                group,
                record: None,
            }) => drop(self.groups.remove(&group)),
            Some(Entry::Move(id)) => self.marks.add(id, record.offset),
            Some(Entry::Consumer { group, change }) => {
                if let Change::Member(id, Some(_)) = &change
                    && is_new
                {
                    self.joined_since.insert((group.clone(), id.clone()));
                }
                self.consumers.entry(group).or_default().apply(change);
            }
        }
        Ok(())
    }
}

/// Takes the members out of a classic group, and tells what says so. It is empty from now on: that is what the age of its
/// positions is reckoned by.
pub(super) fn emptied(id: &str, record: &mut GroupRecord, now: Now) -> Entry {
    *record = GroupRecord {
        protocol_type: std::mem::take(&mut record.protocol_type),
        generation: record.generation,
        state_since_ms: now.wall_ms,
        ..GroupRecord::default()
    };
    Entry::Group {
        group: id.to_owned(),
        record: Some(record.clone()),
    }
}
