//! What a lossy move does to committed positions (design: "Moves").
//!
//! A group that had read and committed further than what reached the new home would skip the records that take the
//! lost ones' offsets. So positions above a promotion offset are set back to it by records of the new epoch. Positions of
//! a transaction whose commit was decided before the move, and whose marker comes after it, are set back just before the marker: it
//! then finds a newer position and leaves it.
//!
//! Members of before the move are let go, so that all join again and begin at their commits: a librdkafka consumer that
//! is told that a log was cut below where it *fetches* drops what it had fetched and not handed out, and goes on at the
//! cut. That is written too: whoever coordinates the group after that, in whatever epoch, does not take them back.

use std::collections::{BTreeMap, HashMap, HashSet};

use whimbrel_fleet::{GroupName, RegionEpoch};

use super::super::offsets::{Committed, Offsets, TopicPartition};

/// A move of a failover group, by the region epoch that it began.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MoveId {
    pub group: GroupName,
    pub epoch: RegionEpoch,
}

/// How far a partition reached the new home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    pub topic: String,
    pub partition: i32,
    /// The log end it was promoted at.
    pub promotion_offset: i64,
    /// Leader epoch of the last record below it, -1 if there is none.
    pub leader_epoch: i32,
    /// Leader epoch in which it went on, if that is known: a position of that or a later one is of what came after.
    pub opened: Option<i32>,
}

impl Limit {
    fn is_over(&self, committed: &Committed) -> bool {
        let came_after = self.opened.is_some_and(|o| committed.leader_epoch >= o);
        committed.offset > self.promotion_offset && !came_after
    }
}

/// The promotion offsets of one move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    id: MoveId,
    topics: HashSet<String>,
    positions: HashMap<TopicPartition, Limit>,
    offsets_partitions: HashMap<i32, i64>,
}

impl Limits {
    /// `positions`: the data partitions. `offsets_partitions`: promotion offsets of the partitions of
    /// `__consumer_offsets` that moved too: what was committed at or above is of the new epoch and stays.
    pub fn new(
        id: MoveId,
        positions: impl IntoIterator<Item = Limit>,
        offsets_partitions: impl IntoIterator<Item = (i32, i64)>,
    ) -> Self {
        let entry = |limit: Limit| {
            let at = TopicPartition {
                topic: limit.topic.clone(),
                partition: limit.partition,
            };
            (at, limit)
        };
        let positions: HashMap<_, _> = positions.into_iter().map(entry).collect();
        Self {
            id,
            topics: positions.keys().map(|at| at.topic.clone()).collect(),
            positions,
            offsets_partitions: offsets_partitions.into_iter().collect(),
        }
    }

    #[must_use]
    pub fn id(&self) -> &MoveId {
        &self.id
    }

    /// Whether a partition of the topic was moved.
    #[must_use]
    pub fn concerns(&self, topic: &str) -> bool {
        self.topics.contains(topic)
    }

    /// What stands in the partition of `__consumer_offsets` there or above is of the new epoch. None: the move did not
    /// cut it.
    #[must_use]
    pub fn moved_at(&self, offsets_partition: i32) -> Option<i64> {
        self.offsets_partitions.get(&offsets_partition).copied()
    }

    /// What must be set back among the positions of one partition of `__consumer_offsets`.
    #[must_use]
    pub fn above(&self, offsets_partition: i32, offsets: &Offsets) -> Vec<Clamped> {
        let moved_at = self.moved_at(offsets_partition).unwrap_or(i64::MAX);
        self.over(moved_at, offsets.iter())
    }

    /// The same for positions that a transaction's commit is about to make stand: those of before the move waited for
    /// their marker when the others were set back. One that a transaction of the new epoch brings is nobody's concern.
    #[must_use]
    pub fn above_at_commit<'a>(
        &self,
        moved_at: i64,
        positions: impl Iterator<Item = (&'a str, &'a TopicPartition, &'a Committed)>,
    ) -> Vec<Clamped> {
        self.over(moved_at, positions)
    }

    fn over<'a>(
        &self,
        moved_at: i64,
        positions: impl Iterator<Item = (&'a str, &'a TopicPartition, &'a Committed)>,
    ) -> Vec<Clamped> {
        let over = positions.filter_map(|(group, at, committed)| {
            let limit = self.positions.get(at)?;
            (limit.is_over(committed) && committed.log_offset < moved_at).then(|| Clamped {
                group: group.to_owned(),
                topic: at.topic.clone(),
                partition: at.partition,
                from: committed.offset,
                to: limit.promotion_offset,
                leader_epoch: limit.leader_epoch,
            })
        });
        let mut found: Vec<_> = over.collect();
        found.sort();
        found
    }
}

/// A position that was set back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Clamped {
    pub group: String,
    pub topic: String,
    pub partition: i32,
    pub from: i64,
    pub to: i64,
    pub leader_epoch: i32,
}

impl Clamped {
    /// Of several moves that set the same position back, the one that sets it back furthest.
    pub(super) fn lowest(all: impl Iterator<Item = Self>) -> Vec<Self> {
        let mut lowest: BTreeMap<(String, String, i32), Self> = BTreeMap::new();
        for clamped in all {
            let at = (
                clamped.group.clone(),
                clamped.topic.clone(),
                clamped.partition,
            );
            let known = lowest.entry(at).or_insert_with(|| clamped.clone());
            if clamped.to < known.to {
                *known = clamped;
            }
        }
        lowest.into_values().collect()
    }
}
