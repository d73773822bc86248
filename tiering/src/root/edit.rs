//! What a root's owner may change. Pure: an edit works on a copy that is then swapped in.

use whimbrel_fleet::{EpochStart, TopicPartition};

use super::{Entry, Orphaned, Partition, Root, Unlinked, codec::check_partition};
use crate::format::Keys;

/// One uploaded and verified object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    pub at: TopicPartition,
    pub topic: String,
    pub group: String,
    pub region_epoch: u32,
    pub log_start: i64,
    /// Epoch starts that touch the object.
    pub lineage: Vec<EpochStart>,
    pub entry: Entry,
}

/// What an edit did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    Changed,
    /// It was so already: a repeated request.
    Already,
}

/// Why an edit was refused; the root is unchanged.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Reject {
    #[error("{at}: the object begins at {base}, the bucket ends at {end}")]
    Gap {
        at: TopicPartition,
        base: i64,
        end: i64,
    },
    #[error("{at}: the object begins at {base}, the bucket already holds up to {end}")]
    Overlap {
        at: TopicPartition,
        base: i64,
        end: i64,
    },
    #[error(
        "{at}: epoch {epoch} at {offset} does not continue the bucket's lineage (epoch {last})"
    )]
    Lineage {
        at: TopicPartition,
        epoch: i32,
        offset: i64,
        last: i32,
    },
    #[error(
        "{at}: the record below {offset} is of epoch {found:?} in the bucket, {asked} was named"
    )]
    Epoch {
        at: TopicPartition,
        offset: i64,
        found: Option<i32>,
        asked: i32,
    },
    /// By another daemon, which owns the shard.
    #[error("{reason}")]
    ByOwner {
        at: Option<TopicPartition>,
        reason: String,
    },
    #[error("{holds} holds stand already, which is the most")]
    Held { holds: usize },
    #[error("{at}: numbers that cannot be ({reason})")]
    Unsound { at: TopicPartition, reason: String },
}

impl Reject {
    pub fn at(&self) -> Option<TopicPartition> {
        match self {
            Self::ByOwner { at, .. } => *at,
            Self::Held { .. } => None,
            Self::Gap { at, .. }
            | Self::Overlap { at, .. }
            | Self::Lineage { at, .. }
            | Self::Epoch { at, .. }
            | Self::Unsound { at, .. } => Some(*at),
        }
    }
}

/// What a truncation took away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Truncation {
    pub orphaned: Vec<Orphaned>,
    pub end: i64,
}

impl Root {
    /// Appends an object to its partition.
    pub fn commit(&mut self, keys: &Keys, commit: &Commit, now_ms: i64) -> Result<Applied, Reject> {
        let (at, entry) = (commit.at, commit.entry);
        let mut partition = self
            .partitions
            .get(&at)
            .cloned()
            .unwrap_or_else(|| Partition {
                end: entry.base,
                log_start: commit.log_start.max(0),
                ..Partition::default()
            });
        if partition.entries.contains(&entry) {
            return Ok(Applied::Already);
        }
        // The log begins above all that is here: what lies between was deleted before it was uploaded.
        let restart = commit.log_start >= entry.base && partition.end < entry.base;
        if !restart && entry.base != partition.end {
            let (base, end) = (entry.base, partition.end);
            return Err(if base > end {
                Reject::Gap { at, base, end }
            } else {
                Reject::Overlap { at, base, end }
            });
        }
        let mut unlinked = Vec::new();
        if restart {
            unlinked.append(&mut partition.entries);
        }
        partition.continue_lineage(at, &commit.lineage, entry)?;
        partition.entries.push(entry);
        partition.end = entry.end;
        partition.log_start = partition.log_start.max(commit.log_start);
        partition.topic.clone_from(&commit.topic);
        partition.group.clone_from(&commit.group);
        partition.region_epoch = commit.region_epoch;
        check_partition(&partition).map_err(|reason| Reject::Unsound { at, reason })?;
        self.partitions.insert(at, partition);
        self.unlink(keys, at, unlinked, now_ms);
        Ok(Applied::Changed)
    }

    /// Drops and clips everything at or above `offset`, whose predecessor must be of `epoch`. Objects that
    /// held some of it are listed as orphaned and never deleted. What is cut off begins with a record of epoch
    /// `tail`: where another one stands here, this is not the log that is meant (another replica has cut the same
    /// tail already and the home's records were uploaded since), and nothing is done.
    pub fn truncate(
        &mut self,
        keys: &Keys,
        at: TopicPartition,
        epoch: i32,
        offset: i64,
        tail: i32,
    ) -> Result<Truncation, Reject> {
        let shard = self.shard;
        let Some(partition) = self.partitions.get_mut(&at) else {
            return Ok(Truncation {
                orphaned: Vec::new(),
                end: offset,
            });
        };
        if partition.end <= offset {
            return Ok(Truncation {
                orphaned: Vec::new(),
                end: partition.end,
            });
        }
        if !partition.has_tail(offset, tail) {
            return Ok(Truncation {
                orphaned: Vec::new(),
                end: partition.end,
            });
        }
        let below = offset
            .checked_sub(1)
            .filter(|below| (partition.start()..partition.end).contains(below))
            .and_then(|below| partition.epoch_of(below));
        if below.is_some_and(|found| found != epoch) {
            return Err(Reject::Epoch {
                at,
                offset,
                found: below,
                asked: epoch,
            });
        }
        let mut orphaned = Vec::new();
        partition.entries.retain_mut(|entry| {
            if entry.end <= offset {
                return true;
            }
            let key = entry.key(keys, shard, at);
            orphaned.push(Orphaned {
                key,
                at,
                from: entry.base.max(offset),
                end: entry.end,
            });
            entry.end = offset;
            entry.base < offset
        });
        partition.lineage.retain(|e| e.start_offset < offset);
        let held = partition.entries.last().map(|e| e.end);
        let held = held.or(partition.runs.last().map(|r| r.end));
        partition.end = held.unwrap_or(offset.max(0));
        let end = partition.end;
        self.orphaned.extend(orphaned.iter().cloned());
        Ok(Truncation { orphaned, end })
    }

    /// Moves a partition's log start up to what [`Partition::taken`] said and unlinks what lies wholly below it.
    pub fn raise_log_start(
        &mut self,
        keys: &Keys,
        at: TopicPartition,
        log_start: i64,
        now_ms: i64,
    ) -> Applied {
        let Some(partition) = self.partitions.get_mut(&at) else {
            return Applied::Already;
        };
        if log_start <= partition.log_start {
            return Applied::Already;
        }
        partition.log_start = log_start;
        let gone = partition.entries.partition_point(|e| e.end <= log_start);
        let unlinked: Vec<_> = partition.entries.drain(..gone).collect();
        // The epoch that covers the first offset left stays, with its true start.
        let kept = partition
            .lineage
            .partition_point(|e| e.start_offset <= log_start)
            .saturating_sub(1);
        partition.lineage.drain(..kept);
        self.unlink(keys, at, unlinked, now_ms);
        Applied::Changed
    }

    /// Takes a partition of a deleted topic out and unlinks all that it has. Orphans stay.
    pub fn forget(&mut self, keys: &Keys, at: TopicPartition, now_ms: i64) -> Applied {
        match self.partitions.remove(&at) {
            Some(partition) => {
                self.unlink(keys, at, partition.entries, now_ms);
                Applied::Changed
            }
            None => Applied::Already,
        }
    }

    /// `entries` are out of the root already.
    pub(super) fn unlink(
        &mut self,
        keys: &Keys,
        at: TopicPartition,
        entries: Vec<Entry>,
        unlinked_ms: i64,
    ) {
        let shard = self.shard;
        for entry in entries {
            let key = entry.key(keys, shard, at);
            // A part of it may be an orphan: those are kept. Another slice may still lie in it.
            if !self.refers_to(keys, &key) {
                self.pending.push(Unlinked { key, unlinked_ms });
            }
        }
    }
}

impl Partition {
    /// Whether what it has at and above `offset` begins with a record of epoch `tail`.
    pub(crate) fn has_tail(&self, offset: i64, tail: i32) -> bool {
        offset < self.end && self.epoch_of(offset.max(self.start())) == Some(tail)
    }

    fn continue_lineage(
        &mut self,
        at: TopicPartition,
        lineage: &[EpochStart],
        entry: Entry,
    ) -> Result<(), Reject> {
        self.goes_on(at, lineage, entry)?;
        for start in lineage {
            // What an epoch wrote below this object is told by the objects below it.
            let begins = if self.entries.is_empty() {
                start.start_offset
            } else {
                start.start_offset.max(entry.base)
            };
            match self.lineage.last() {
                Some(last) if last.epoch == start.epoch => {}
                Some(last) if last.epoch > start.epoch || last.start_offset > begins => {
                    return Err(Reject::Lineage {
                        at,
                        epoch: start.epoch,
                        offset: begins,
                        last: last.epoch,
                    });
                }
                _ if begins >= entry.object_end => {
                    return Err(Reject::Unsound {
                        at,
                        reason: format!("epoch {} begins above the object", start.epoch),
                    });
                }
                _ => self.lineage.push(EpochStart {
                    epoch: start.epoch,
                    start_offset: begins,
                }),
            }
        }
        let last = self.lineage.last().map_or(-1, |e| e.epoch);
        if last == entry.leader_epoch {
            Ok(())
        } else {
            Err(Reject::Lineage {
                at,
                epoch: entry.leader_epoch,
                offset: entry.base,
                last,
            })
        }
    }

    /// An epoch that began below the object wrote what is right below it, here too: else the log has had another leader
    /// there, with fewer records than the bucket holds.
    fn goes_on(
        &self,
        at: TopicPartition,
        lineage: &[EpochStart],
        entry: Entry,
    ) -> Result<(), Reject> {
        let first = lineage.first().filter(|e| e.start_offset < entry.base);
        let holds = self.end == entry.base && self.start() < self.end;
        match (first, self.epoch_of(entry.base.saturating_sub(1))) {
            (Some(first), Some(last)) if holds && last != first.epoch => Err(Reject::Lineage {
                at,
                epoch: first.epoch,
                offset: first.start_offset,
                last,
            }),
            _ => Ok(()),
        }
    }
}
