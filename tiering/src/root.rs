//! Roots: one object per manifest shard that names every data object of its partitions.
//!
//! A root is only ever replaced by compare-and-swap, by the daemon that claimed the shard. What may be
//! changed, and how an unknown outcome is decided, is pure ([`edit`](Root::commit), [`judge`]); the IO around
//! it is [`crate::committer`]'s.
//!
//! Invariants, checked when a root is read and kept by every edit: a partition's entries are in rising
//! order without gap or overlap, from its first entry to its end; `visible end <= object end`; the lineage
//! rises; keys are derived from entries.

pub(crate) mod codec;
mod edit;
mod entry;
mod hold;
mod judge;
mod moved;
mod part;
mod replace;
mod rewrite;

use std::collections::BTreeMap;

use uuid::Uuid;
use whimbrel_fleet::{EpochStart, TopicPartition};

pub use edit::{Applied, Commit, Reject, Truncation};
pub use entry::{Entry, Merged};
pub use hold::{Hold, MOST_HOLDS};
pub use judge::{Claim, Reading, Verdict, claim, judge};
pub use moved::Moved;
pub use part::{Run, SPILL_BYTES, Shared, Spilled};

use crate::format::{FieldError, Fields, Key, Keys, ObjectName, Put};

/// A root never grows beyond this: older entries go out into parts long before. One that is full all the same
/// says so and takes no more.
pub const MAX_BYTES: u64 = 1 << 20;
/// Every so many sequence numbers a root is also kept under its own key.
pub const KEEP_EVERY: u64 = 64;

/// Who wrote a root, and which write it was. Never repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub incarnation: Uuid,
    /// Raised by every claim.
    pub epoch: u64,
    /// Counts the writes of the shard.
    pub sequence: u64,
    pub nonce: Uuid,
}

impl Stamp {
    /// 48 bytes, as all that is replaced by a swap begins.
    pub(crate) fn encode(&self, body: &mut Vec<u8>) {
        body.put(self.incarnation.as_bytes());
        body.put_u64(self.epoch);
        body.put_u64(self.sequence);
        body.put(self.nonce.as_bytes());
    }

    pub(crate) fn read(fields: &mut Fields<'_>) -> Result<Self, FieldError> {
        Ok(Self {
            incarnation: fields.uuid()?,
            epoch: fields.u64()?,
            sequence: fields.u64()?,
            nonce: fields.uuid()?,
        })
    }

    /// Rises with every write of the shard.
    pub fn number(&self) -> (u64, u64) {
        (self.epoch, self.sequence)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    pub stamp: Stamp,
    pub region: String,
    pub shard: u16,
    pub shards: u16,
    pub written_ms: i64,
    pub partitions: BTreeMap<TopicPartition, Partition>,
    /// Unlinked objects, to be deleted after the grace.
    pub pending: Vec<Unlinked>,
    /// Objects that held something beyond a truncation; kept for ever.
    pub orphaned: Vec<Orphaned>,
    /// How many slices in runs lie in which merged object.
    pub shared: Shared,
    /// Of other regions that read from this bucket.
    pub holds: Vec<Hold>,
}

/// The tiered part of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Partition {
    pub topic: String,
    pub group: String,
    pub region_epoch: u32,
    pub log_start: i64,
    /// Exclusive; stays when all entries are gone.
    pub end: i64,
    pub lineage: Vec<EpochStart>,
    /// Older entries, in parts; they end where `entries` begin.
    pub runs: Vec<Run>,
    pub entries: Vec<Entry>,
}

/// A log start, as the home's leader said it in these epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub log_start: i64,
    pub region_epoch: u32,
    pub leader_epoch: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlinked {
    pub key: Key,
    /// Wall clock, for people: the grace runs on the daemon's own monotonic clock.
    pub unlinked_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphaned {
    pub key: Key,
    pub at: TopicPartition,
    /// What of the object is orphaned.
    pub from: i64,
    /// Exclusive.
    pub end: i64,
}

#[cfg(test)]
impl Root {
    /// The root of a bucket with one shard, which names this partition alone.
    pub(crate) fn sample(at: TopicPartition, partition: Partition) -> Self {
        let stamp = Stamp {
            incarnation: Uuid::nil(),
            epoch: 1,
            sequence: 1,
            nonce: Uuid::nil(),
        };
        let mut root = Self::empty(stamp, "east", 0, 1, 0);
        root.partitions.insert(at, partition);
        root
    }
}

impl Root {
    /// Whether it is the root of that shard, of so many, in that region.
    pub(crate) fn is_of(&self, region: &str, shard: u16, shards: u16) -> bool {
        self.region == region && self.shard == shard && self.shards == shards
    }
}

impl Partition {
    /// First offset that the bucket holds and consumers may see; equal to `end` when nothing is there.
    pub fn start(&self) -> i64 {
        let first = self.runs.first().map(|r| r.base);
        first
            .or(self.entries.first().map(|e| e.base))
            .map_or(self.end, |base| base.max(self.log_start.min(self.end)))
    }

    /// The entry that holds `offset`, if it is in the root itself and not in a run.
    pub fn find(&self, offset: i64) -> Option<&Entry> {
        let n = self.entries.partition_point(|e| e.base <= offset);
        self.entries
            .get(n.checked_sub(1)?)
            .filter(|e| offset < e.end)
    }

    /// Where the bucket's part may begin by what the home's leader said. Above what the bucket holds is a matter for
    /// the next upload, not a reason to delete; nor is the word of a leader that others have followed.
    pub fn taken(&self, said: Standing) -> Option<i64> {
        let newest = self.lineage.last().map_or(-1, |e| e.epoch);
        let current = said.region_epoch >= self.region_epoch && said.leader_epoch >= newest;
        let start = Some(said.log_start).filter(|_| current)?;
        (start > self.log_start && start <= self.end).then_some(start)
    }

    pub fn bytes(&self) -> u64 {
        let runs = self.runs.iter().map(|r| r.data_bytes);
        let runs = runs.fold(0, u64::saturating_add);
        runs.saturating_add(Entry::data_bytes_of(&self.entries))
    }

    /// The epoch that wrote `offset`, as far as the lineage tells.
    pub fn epoch_of(&self, offset: i64) -> Option<i32> {
        epoch_at(&self.lineage, offset)
    }

    /// Up to where (exclusive) this partition and a reader of `lineage` are the same log. An offset below
    /// the reader's first epoch start is one that the reader knows nothing against.
    pub fn agreed_end(&self, lineage: &[EpochStart]) -> i64 {
        let Some(first) = lineage.first() else {
            return self.end;
        };
        let mut points: Vec<i64> = self
            .lineage
            .iter()
            .chain(lineage)
            .map(|e| e.start_offset.max(first.start_offset))
            .collect();
        points.sort_unstable();
        let differs = |offset: &i64| {
            self.epoch_of(*offset)
                .is_some_and(|mine| epoch_at(lineage, *offset) != Some(mine))
        };
        points
            .into_iter()
            .filter(|o| *o < self.end)
            .find(differs)
            .unwrap_or(self.end)
    }
}

fn epoch_at(lineage: &[EpochStart], offset: i64) -> Option<i32> {
    let n = lineage.partition_point(|e| e.start_offset <= offset);
    Some(lineage.get(n.checked_sub(1)?)?.epoch)
}

impl Root {
    /// True when an object must not be deleted: an entry, an orphan or the pending list names it.
    pub fn refers_to(&self, keys: &Keys, key: &Key) -> bool {
        self.holds(keys, key) || self.pending.iter().any(|u| u.key == *key)
    }

    /// True when readers or orphans need the object. What a run holds of a partition counts by its range here, so that
    /// on doubt an object is kept; it may name another object there, which
    /// [`Runs::names`](crate::runs::Runs::names) looks up.
    pub fn holds(&self, keys: &Keys, key: &Key) -> bool {
        self.reads_from(keys, key) || self.orphaned.iter().any(|o| o.key == *key)
    }

    /// True when an entry names the object, or a run lies in it.
    pub fn reads_from(&self, keys: &Keys, key: &Key) -> bool {
        match keys.parse_object(key) {
            Some(ObjectName::Own(name)) => self.partitions.get(&name.at).is_some_and(|partition| {
                let entry = partition.find(name.base);
                entry.is_some_and(|e| e.merged.is_none() && e.name(self.shard, name.at) == name)
                    || partition.run_at(name.base).is_some()
            }),
            Some(ObjectName::Merged(name)) => {
                let in_runs = self.shared.contains_key(&(name.writer_epoch, name.random));
                let mut entries = self.partitions.values().flat_map(|p| &p.entries);
                in_runs || entries.any(|e| e.shares_object_with(&name))
            }
            None => keys
                .parse_part(key)
                .is_some_and(|part| self.runs().any(|(_, run)| run.part == part)),
        }
    }

    /// A root of nothing.
    pub fn empty(stamp: Stamp, region: &str, shard: u16, shards: u16, written_ms: i64) -> Self {
        Self {
            stamp,
            region: region.to_owned(),
            shard,
            shards,
            written_ms,
            partitions: BTreeMap::new(),
            pending: Vec::new(),
            orphaned: Vec::new(),
            shared: Shared::new(),
            holds: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
