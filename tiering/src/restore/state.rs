//! What coordinators would find in the internal topics below a cut: positions of groups, and transactions.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;
use whimbrel_wire::{
    Batch, DecodeError, Record, RecordError, codec,
    control::{self, ControlType},
    internal::{Key, OffsetCommitValue, TransactionLogKey, TransactionLogValue, Versioned},
    record,
};

const ONGOING: i8 = 1;
const PREPARE_COMMIT: i8 = 2;
const PREPARE_ABORT: i8 = 3;

/// A record of an internal topic that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error(transparent)]
    Records(#[from] RecordError),
    #[error("record {offset}: {source}")]
    Record { offset: i64, source: DecodeError },
}

/// A transaction that the cut finds begun and not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Open {
    pub transactional_id: String,
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// It was decided already: its markers are written, and it is whole. All others are aborted.
    pub commits: bool,
    pub partitions: usize,
}

/// What stands in `__transaction_state` below the cut.
#[derive(Clone, Debug, Default)]
pub struct Transactions {
    ids: BTreeMap<String, (i8, Open)>,
    /// The highest that any id has or had.
    pub highest_producer_id: Option<i64>,
}

impl Transactions {
    /// What of `batch` lies below `end`.
    pub fn take(&mut self, batch: &Batch, end: i64) -> Result<(), StateError> {
        each(batch, end, |record| self.record(record))
    }

    fn record(&mut self, record: &Record) -> Result<(), DecodeError> {
        let Some(key) = &record.key else {
            return Ok(());
        };
        let id = TransactionLogKey::from_record(key.clone())?.transactional_id;
        let Some(value) = &record.value else {
            self.ids.remove(&id);
            return Ok(());
        };
        let value = TransactionLogValue::from_record(value.clone())?;
        let ids = [value.producer_id, value.next_producer_id];
        self.highest_producer_id = ids.into_iter().chain(self.highest_producer_id).max();
        let partitions = value.transaction_partitions.unwrap_or_default();
        let open = Open {
            transactional_id: id.clone(),
            producer_id: value.producer_id,
            producer_epoch: value.producer_epoch,
            commits: value.transaction_status == PREPARE_COMMIT,
            partitions: partitions.iter().map(|p| p.partition_ids.len()).sum(),
        };
        self.ids.insert(id, (value.transaction_status, open));
        Ok(())
    }

    pub fn ids(&self) -> usize {
        self.ids.len()
    }

    pub fn open(&self) -> impl Iterator<Item = &Open> {
        let is_open = |status: i8| matches!(status, ONGOING | PREPARE_COMMIT | PREPARE_ABORT);
        self.ids
            .values()
            .filter(move |(status, _)| is_open(*status))
            .map(|(_, open)| open)
    }
}

/// Group, topic and partition.
type Place = (String, String, i32);
/// `None` removes it.
type Change = (Place, Option<i64>);

/// What stands in one partition of `__consumer_offsets` below the cut.
#[derive(Clone, Debug, Default)]
pub struct Positions {
    committed: BTreeMap<Place, i64>,
    groups: BTreeSet<String>,
    /// By producer id: sent in a transaction whose end has not come yet.
    pending: HashMap<i64, Vec<Change>>,
}

impl Positions {
    /// What of `batch` lies below `end`.
    pub fn take(&mut self, batch: &Batch, end: i64) -> Result<(), StateError> {
        let header = batch.header;
        if header.is_control() {
            if header.base_offset < end
                && let Some(marker) = control::parse_batch(batch)?
            {
                let pending = self.pending.remove(&header.producer_id);
                if marker.control_type == ControlType::Commit {
                    self.apply(pending.unwrap_or_default());
                }
            }
            return Ok(());
        }
        let producer = header.is_transactional().then_some(header.producer_id);
        each(batch, end, |record| self.record(record, producer))
    }

    fn record(&mut self, record: &Record, producer: Option<i64>) -> Result<(), DecodeError> {
        let Some(key) = &record.key else {
            return Ok(());
        };
        let is_there = record.value.is_some();
        let place = match Key::from_record(key.clone())? {
            Key::OffsetCommit(key) => (key.group, key.topic, key.partition),
            Key::GroupMetadata(key) => {
                self.group(key.group, is_there);
                return Ok(());
            }
            Key::ConsumerGroup(key) => {
                self.group(key.group, is_there);
                return Ok(());
            }
            _ => return Ok(()),
        };
        let value = record.value.clone().map(OffsetCommitValue::from_record);
        let change = (place, value.transpose()?.map(|value| value.offset));
        match producer {
            Some(id) => self.pending.entry(id).or_default().push(change),
            None => self.apply(vec![change]),
        }
        Ok(())
    }

    fn group(&mut self, group: String, is_there: bool) {
        if is_there {
            self.groups.insert(group);
        } else {
            self.groups.remove(&group);
        }
    }

    fn apply(&mut self, changes: Vec<Change>) {
        for (place, offset) in changes {
            match offset {
                Some(offset) => drop(self.committed.insert(place, offset)),
                None => drop(self.committed.remove(&place)),
            }
        }
    }

    /// The log ends here: what was sent in a transaction that is decided counts, all else that is pending does not.
    pub fn finish(&mut self, transactions: &Transactions) {
        let decided: Vec<_> = transactions.open().filter(|open| open.commits).collect();
        for open in decided {
            let pending = self.pending.remove(&open.producer_id);
            self.apply(pending.unwrap_or_default());
        }
        self.pending.clear();
    }

    /// Groups with a position or with members.
    pub fn groups(&self) -> BTreeSet<&str> {
        let with_positions = self.committed.keys().map(|(group, _, _)| group.as_str());
        with_positions
            .chain(self.groups.iter().map(String::as_str))
            .collect()
    }

    /// Group, topic, partition and position.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str, i32, i64)> {
        let all = self.committed.iter();
        all.map(|((group, topic, partition), offset)| {
            (group.as_str(), topic.as_str(), *partition, *offset)
        })
    }
}

fn each(
    batch: &Batch,
    end: i64,
    mut take: impl FnMut(&Record) -> Result<(), DecodeError>,
) -> Result<(), StateError> {
    if batch.header.is_control() {
        return Ok(());
    }
    for record in record::records(batch, codec::Limits::default())? {
        let record = record?;
        if record.offset >= end {
            break;
        }
        let offset = record.offset;
        take(&record).map_err(|source| StateError::Record { offset, source })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
