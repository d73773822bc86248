//! The logs of a plan, as the bucket has them below the cut.

use std::{collections::BTreeMap, ops::Range};

use whimbrel_fleet::{Lineage, RegionEpoch, TopicPartition};

use super::{Described, Extent, Missing, Plan};
use crate::root::Entry;

/// A plan, and what is needed to carry it out.
#[derive(Clone, Debug)]
pub struct Found {
    pub plan: Plan,
    pub described: Described,
    pub logs: BTreeMap<TopicPartition, Stored>,
}

/// One log of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub at: TopicPartition,
    pub topic: String,
    pub shard: u16,
    /// The last before those that the restored fleet gives.
    pub region_epoch: RegionEpoch,
    pub leader_epoch: i32,
    pub log_start: i64,
    /// Clipped at the cut, which is its end.
    pub lineage: Lineage,
    /// That hold it, in order; the last may hold more.
    pub slices: Vec<Entry>,
    /// Ranges that the plan names as missing, rising. Nothing is looked for in them.
    pub holes: Vec<Range<i64>>,
    /// Its turn among all logs of the plan: internal topics first, then by name and number.
    pub turn: usize,
}

impl Stored {
    /// Of all partitions that the plan brings back. `unread`: what was found damaged on the way.
    pub fn all(
        plan: &Plan,
        extents: &BTreeMap<TopicPartition, Extent>,
        unread: &[Missing],
    ) -> BTreeMap<TopicPartition, Self> {
        let epochs: BTreeMap<_, _> = plan
            .groups
            .iter()
            .map(|group| (&group.name, group.region_epoch.begins))
            .collect();
        let mut all = BTreeMap::new();
        let internal = plan.topics.iter().filter(|topic| topic.internal);
        let others = plan.topics.iter().filter(|topic| !topic.internal);
        for topic in internal.chain(others) {
            // A topic without its group is missing in the plan, and has no epoch to be sent in.
            let Some(begins) = epochs.get(&topic.group) else {
                continue;
            };
            let region_epoch = u32::try_from(begins.saturating_sub(1)).unwrap_or(u32::MAX);
            for planned in &topic.partitions {
                let at = TopicPartition::new(topic.id, planned.partition);
                let extent = extents.get(&at);
                let begun = extent.map_or(&[][..], |extent| &extent.lineage);
                let begun = begun.iter().filter(|e| e.start_offset < planned.end);
                let leader_epoch = planned.leader_epoch.begins.saturating_sub(1);
                let part = extent.map(|e| e.upto(planned.end)).unwrap_or_default();
                let of_log = unread
                    .iter()
                    .filter(|m| (&m.topic, m.partition) == (&topic.name, planned.partition));
                let unread = of_log.map(|m| m.from_offset..m.to_offset);
                let missing = part.missing.iter().map(|(from, to, _)| *from..*to);
                let holes = joined(missing.chain(unread).collect());
                let mut slices = part.slices;
                slices.retain(|entry| !begins_in(&holes, entry, part.log_start));
                let stored = Self {
                    at,
                    topic: topic.name.clone(),
                    shard: extent.map_or(0, |extent| extent.shard),
                    region_epoch: RegionEpoch(region_epoch),
                    leader_epoch: i32::try_from(leader_epoch).unwrap_or(i32::MAX),
                    log_start: planned.log_start,
                    lineage: Lineage {
                        epochs: begun.copied().collect(),
                        end_offset: planned.end,
                    },
                    slices,
                    holes,
                    turn: all.len(),
                };
                all.insert(at, stored);
            }
        }
        all
    }

    /// Exclusive: where the cut is.
    pub fn end(&self) -> i64 {
        self.lineage.end_offset
    }

    /// Where the hole ends that `offset` lies in.
    pub fn hole_end(&self, offset: i64) -> Option<i64> {
        let hole = self.holes.iter().find(|hole| hole.contains(&offset))?;
        Some(hole.end.min(self.end()))
    }
}

/// A slice is missing as a whole or not at all.
fn begins_in(holes: &[Range<i64>], entry: &Entry, log_start: i64) -> bool {
    let begins = entry.base.max(log_start);
    holes.iter().any(|hole| hole.contains(&begins))
}

/// Rising, none touching another.
fn joined(mut ranges: Vec<Range<i64>>) -> Vec<Range<i64>> {
    ranges.retain(|range| range.start < range.end);
    ranges.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<i64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_that_touch_are_one() {
        assert_eq!(
            joined(vec![7..9, 0..2, 2..3, 8..8, 8..10, 12..13]),
            [0..3, 7..10, 12..13]
        );
    }
}
