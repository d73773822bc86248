//! What the fleet view says about the partitions that flow into one region.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_fleet::{GroupName, NodeId, RegionEpoch, RegionName, TopicPartition, View};

/// Where a partition comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub topic: String,
    pub group: GroupName,
    pub home: RegionName,
    pub epoch: RegionEpoch,
    /// A move is under way.
    pub fenced: bool,
    /// The broker that leads it at home, if one does and is registered.
    pub leader: Option<NodeId>,
    /// The broker of our region that takes it.
    pub head: Option<NodeId>,
}

/// All partitions of failover groups that are at home elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Places {
    by_partition: BTreeMap<TopicPartition, Place>,
}

impl Places {
    pub fn of(view: &View, region: &RegionName) -> Self {
        let mut by_partition = BTreeMap::new();
        for topic in view.topics.values() {
            let Some(group) = view.group_of(topic).filter(|g| g.home != *region) else {
                continue;
            };
            for (index, partition) in topic.partitions.iter().enumerate() {
                let Ok(index) = i32::try_from(index) else {
                    break;
                };
                let home = |node: &NodeId| {
                    let found = view.nodes.get(node);
                    found.is_some_and(|n| n.region == group.home)
                };
                let place = Place {
                    topic: topic.name.clone(),
                    group: group.name.clone(),
                    home: group.home.clone(),
                    epoch: group.epoch,
                    fenced: group.fence.is_some(),
                    leader: partition.leader.filter(home),
                    head: partition.head(region),
                };
                by_partition.insert(TopicPartition::new(topic.id, index), place);
            }
        }
        Self { by_partition }
    }

    pub fn get(&self, at: TopicPartition) -> Option<&Place> {
        self.by_partition.get(&at)
    }

    /// Partitions whose copy in our region belongs on `node`.
    pub fn of_head(&self, node: NodeId) -> impl Iterator<Item = TopicPartition> {
        let mine = self
            .by_partition
            .iter()
            .filter(move |(_, p)| p.head == Some(node));
        mine.map(|(at, _)| *at)
    }

    /// Leaders of the given partitions.
    pub fn leaders<'a>(&self, of: impl Iterator<Item = &'a TopicPartition>) -> BTreeSet<NodeId> {
        of.filter_map(|at| self.get(*at)?.leader).collect()
    }
}
