//! Consistent cuts: where the logs of a failover group ended at a moment at which no transaction was half ended.
//!
//! Logs that are truncated to a cut hold each committed transaction whole or not at all, once coordinators have
//! finished what they had decided below it, and no group position above the records that it counts. Four rules make a
//! vector of ends a cut; [`Gate`] keeps the first, whoever takes the cut the others:
//!
//! 1. No marker is written from before the first end is read until after the last, and none is under way. One is under
//!    way until the record that says that its transaction is complete is durable: otherwise the producer's next
//!    transaction could begin above an end that still says "prepared", and be committed in part with the one before.
//! 2. Ends are fsynced ones, of `__transaction_state` first, then of `__consumer_offsets`, then of the rest.
//! 3. Whoever names an end leads the partition then, under a lease.
//! 4. No partition of the group is left out but those that have no record.
//!
//! Deliberately not here: how brokers ask each other, and what is done with a cut.

pub mod format;
mod gate;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use gate::Gate;

use crate::{GroupName, Lineage, RegionEpoch, TopicPartition};

/// Where a log is cut: below `offset`, whose last record `epoch` wrote. An offset alone would name other records after
/// a lossy move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub epoch: i32,
    pub offset: i64,
}

/// One cut of a failover group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    pub group: GroupName,
    pub region_epoch: RegionEpoch,
    /// Of the view by which no partition was left out.
    pub view_version: u64,
    /// Wall clock of who took it, for people and for restores to a time.
    pub taken_ms: i64,
    /// A partition that is not named had no record.
    pub ends: BTreeMap<TopicPartition, End>,
}

/// What a region holds of a partition, durably.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub log_start: i64,
    /// Up to the durable end.
    pub lineage: Lineage,
}

impl Standing {
    /// True if the records below `end` are here, or were until retention took them everywhere.
    pub fn holds(&self, end: End) -> bool {
        end.offset <= self.log_start
            || self
                .lineage
                .end_of(end.epoch)
                .is_some_and(|ends| ends >= end.offset)
    }
}

/// What is known of a partition that a cut names.
#[derive(Clone, Copy, Debug)]
pub enum Known<'a> {
    Stands(&'a Standing),
    /// The topic was deleted after the cut.
    Deleted,
    /// Nobody has said, or the topic is newer than what is known here.
    Unknown,
}

impl Cut {
    /// True if all of it is durable where `known` is from.
    pub fn is_complete<'a>(&self, known: impl Fn(TopicPartition) -> Known<'a>) -> bool {
        self.ends.iter().all(|(at, end)| match known(*at) {
            Known::Stands(standing) => standing.holds(*end),
            Known::Deleted => true,
            Known::Unknown => false,
        })
    }
}
