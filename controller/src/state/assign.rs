//! Which brokers hold a partition: round robin inside each region.

use std::collections::BTreeMap;

use whimbrel_fleet::{FailoverGroup, LeaderEpoch, NodeId, Partition, RegionName, TopicId, View};

/// The brokers of `region`, in the order of their ids.
pub(super) fn brokers(view: &View, region: &RegionName) -> Vec<NodeId> {
    view.nodes
        .values()
        .filter(|n| &n.region == region)
        .map(|n| n.id)
        .collect()
}

/// Partition `index` of a topic: min(RF, brokers) copies in every region, led by the home's first. The
/// topic's id decides where the round begins, so that small topics spread. The home's copies may be `named`.
pub(super) fn partition(
    view: &View,
    group: &FailoverGroup,
    (topic_id, index): (TopicId, usize),
    replication_factor: usize,
    named: Option<&[NodeId]>,
) -> Partition {
    let mut replicas = BTreeMap::new();
    for region in view.regions.keys() {
        let brokers = brokers(view, region);
        if brokers.is_empty() {
            continue;
        }
        let start = usize::try_from(topic_id.as_u128() % brokers.len() as u128)
            .unwrap_or(0)
            .wrapping_add(index);
        let copies = replication_factor.clamp(1, brokers.len());
        let chosen = brokers
            .iter()
            .cycle()
            .skip(start % brokers.len())
            .take(copies)
            .copied()
            .collect();
        replicas.insert(region.clone(), chosen);
    }
    if let Some(named) = named {
        replicas.insert(group.home.clone(), named.to_vec());
    }
    let home: Vec<NodeId> = replicas.get(&group.home).cloned().unwrap_or_default();
    let live = |n: &NodeId| view.is_live(*n);
    let mut isr: Vec<NodeId> = home.iter().copied().filter(live).collect();
    if isr.is_empty() {
        isr = home;
    }
    Partition {
        leader: isr.first().copied(),
        leader_epoch: LeaderEpoch(0),
        replicas,
        isr,
        ..Partition::default()
    }
}

#[cfg(test)]
mod tests;
