//! The logs of a plan, as the bucket has them below the cut.

use std::collections::BTreeMap;

use whimbrel_fleet::{Lineage, RegionEpoch, TopicPartition};

use super::{Described, Extent, Plan};
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
}

impl Stored {
    /// Of all partitions that the plan brings back.
    pub fn all(
        plan: &Plan,
        extents: &BTreeMap<TopicPartition, Extent>,
    ) -> BTreeMap<TopicPartition, Self> {
        let epochs: BTreeMap<_, _> = plan
            .groups
            .iter()
            .map(|group| (&group.name, group.region_epoch.begins))
            .collect();
        let mut all = BTreeMap::new();
        for topic in &plan.topics {
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
                    slices: extent.map_or_else(Vec::new, |e| e.upto(planned.end).slices),
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
}
