//! What the fleet view says about the partitions that flow into one region.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_fleet::{GroupName, HostPort, NodeId, RegionEpoch, RegionName, TopicPartition, View};

/// Stands where a leader's id would, while the fleet is filled from a bucket. No broker has it.
pub const BUCKET: NodeId = NodeId(i32::MIN);

/// Where the replica listener of `node` is, or the stream over the bucket.
pub fn address(view: &View, node: NodeId) -> Option<HostPort> {
    if node == BUCKET {
        let restore = view.restore.as_ref()?;
        return restore.address.parse().ok();
    }
    view.nodes.get(&node).map(|node| node.replica.clone())
}

/// Which copies a flow fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Each region's head, from the home's leader.
    Between,
    /// This broker's other copies: at home from the leader, elsewhere from the region's head.
    Within(NodeId),
}

/// Where a partition comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub topic: String,
    pub group: GroupName,
    pub home: RegionName,
    pub epoch: RegionEpoch,
    /// A move is under way.
    pub fenced: bool,
    /// The broker that it is taken from, if there is one and it is registered: the home's leader, or the
    /// region's head; [`BUCKET`] where the home is what a bucket has of it.
    pub leader: Option<NodeId>,
    /// The broker of our region that takes it.
    pub head: Option<NodeId>,
}

/// All partitions that a flow of this scope may fill.
#[derive(Clone, Debug, Default)]
pub struct Places {
    by_partition: BTreeMap<TopicPartition, Place>,
    /// Where the bucket's stream is, while the fleet is filled from one.
    pub bucket: Option<String>,
}

impl Places {
    pub fn of(view: &View, region: &RegionName, scope: Scope) -> Self {
        let mut by_partition = BTreeMap::new();
        let restore = view.restore.as_ref();
        let restore = restore.filter(|_| scope == Scope::Between);
        for topic in view.topics.values() {
            let Some(group) = view.group_of(topic) else {
                continue;
            };
            let at_home = group.home == *region;
            if at_home && scope == Scope::Between {
                continue;
            }
            let is_stored = restore.is_some_and(|restore| restore.region == group.home);
            let bucket = is_stored.then_some(BUCKET);
            for (index, partition) in topic.partitions.iter().enumerate() {
                let Ok(index) = i32::try_from(index) else {
                    break;
                };
                let (source, sink) = match scope {
                    Scope::Between => (partition.leader, partition.head(region)),
                    Scope::Within(node) => {
                        let held = partition.replicas.get(region);
                        let source = if at_home {
                            partition.leader
                        } else {
                            partition.head(region)
                        };
                        if source == Some(node) || held.is_none_or(|held| !held.contains(&node)) {
                            continue;
                        }
                        (source, Some(node))
                    }
                };
                let from = match scope {
                    Scope::Between => &group.home,
                    Scope::Within(_) => region,
                };
                let stands = |node: &NodeId| {
                    let found = view.nodes.get(node);
                    found.is_some_and(|n| n.region == *from)
                };
                let place = Place {
                    topic: topic.name.clone(),
                    group: group.name.clone(),
                    home: group.home.clone(),
                    epoch: group.epoch,
                    fenced: group.fence.is_some(),
                    leader: bucket.or(source.filter(stands)),
                    head: sink,
                };
                by_partition.insert(TopicPartition::new(topic.id, index), place);
            }
        }
        Self {
            by_partition,
            bucket: restore.map(|restore| restore.address.clone()),
        }
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
