//! Where each partition goes on, from the brokers' reports. Pure.

use std::collections::BTreeMap;

use whimbrel_fleet::{
    Fence, LeaderEpoch, NodeId, Partition, Position, Promotion, RegionName, TopicPartition, View,
    view::FailoverGroup,
};
use whimbrel_rpc::controller::PartitionPosition;

use crate::{codes, positions::Reports, state::Promoted};

/// The partitions of a group.
pub(super) fn partitions<'a>(
    view: &'a View,
    group: &'a FailoverGroup,
) -> impl Iterator<Item = (TopicPartition, &'a Partition)> {
    let topics = view.topics.values().filter(|t| t.group == group.name);
    topics.flat_map(|t| {
        (0_i32..)
            .zip(&t.partitions)
            .map(|(index, p)| (TopicPartition::new(t.id, index), p))
    })
}

/// Whether replicas that do not answer are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Every broker that holds a replica must have sealed.
    All,
    /// One sealed replica per partition is enough: the others are taken to be down.
    AnyReplica,
}

/// What is still missing, in words with a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Missing(pub(super) String);

/// The outcome of a move: who leads where, and what is durable there.
#[derive(Clone, Debug, Default)]
pub(super) struct Decision {
    pub(super) promoted: Vec<Promoted>,
    pub(super) durable: BTreeMap<TopicPartition, Position>,
}

/// Failover: each partition goes on at the log end of the target's most advanced sealed replica.
pub(super) fn failover(
    view: &View,
    group: &FailoverGroup,
    fence: &Fence,
    reports: &Reports,
    patience: Patience,
) -> Result<Decision, Missing> {
    let mut decision = Decision::default();
    for (at, partition) in partitions(view, group) {
        let replicas = replicas(partition, &fence.to);
        let sealed = |node: &NodeId| {
            reports
                .get(node)
                .filter(|r| r.is_sealed(&group.name, fence.epoch))
        };
        let copies: Vec<_> = replicas
            .iter()
            .filter_map(|n| Some((*n, *sealed(n)?.partitions.get(&at)?)))
            .collect();
        if patience == Patience::All && copies.len() < replicas.len() {
            return Err(missing_seal(view, at, &fence.to));
        }
        let Some(best) = most_advanced(&copies) else {
            return Err(missing_seal(view, at, &fence.to));
        };
        // Who holds less joins the ack set when it has caught up.
        let equal = |p: &PartitionPosition| {
            (p.last_epoch, p.end_offset) == (best.1.last_epoch, best.1.end_offset)
        };
        let level = copies.iter().filter(|(_, p)| equal(p)).map(|(n, _)| *n);
        decision.add(at, best, level.collect());
    }
    Ok(decision)
}

/// Switchover and failback: the home's sealed ends, once replicas of the target have reached them.
pub(super) fn planned(
    view: &View,
    group: &FailoverGroup,
    fence: &Fence,
    reports: &Reports,
) -> Result<Decision, Missing> {
    let mut decision = Decision::default();
    for (at, partition) in partitions(view, group) {
        let Some(leader) = partition.leader else {
            return Err(Missing(format!(
                "{}: {} has no leader to drain",
                codes::HOME_AWAY,
                describe(view, at)
            )));
        };
        let home = reports
            .get(&leader)
            .filter(|r| r.is_sealed(&group.name, fence.epoch));
        let Some(end) = home.and_then(|r| r.partitions.get(&at)) else {
            return Err(Missing(format!(
                "{}: broker {leader} of the home has not sealed {}",
                codes::NOT_SEALED,
                describe(view, at)
            )));
        };
        let reached = |p: &PartitionPosition| {
            p.end_offset == end.end_offset && p.last_epoch == end.last_epoch
        };
        let copies: Vec<_> = replicas(partition, &fence.to)
            .iter()
            .filter_map(|n| {
                Some((
                    *n,
                    *reports.get(n)?.partitions.get(&at).filter(|p| reached(p))?,
                ))
            })
            .collect();
        let wanted = view
            .topic_by_id(at.topic_id)
            .map_or(1, |topic| view.min_insync_replicas(topic));
        let Some(first) = copies.first().filter(|_| copies.len() >= wanted) else {
            let message = format!(
                "{}: {} has not reached offset {} in {}",
                codes::NOT_DRAINED,
                describe(view, at),
                end.end_offset,
                fence.to
            );
            return Err(Missing(message));
        };
        decision.add(at, *first, copies.iter().map(|(n, _)| *n).collect());
    }
    Ok(decision)
}

/// The most advanced reported copy of each partition in `region`, sealed or not; for plans.
pub(super) fn durable_in(
    view: &View,
    group: &FailoverGroup,
    region: &RegionName,
    reports: &Reports,
) -> BTreeMap<TopicPartition, Position> {
    let mut durable = BTreeMap::new();
    for (at, partition) in partitions(view, group) {
        let copies: Vec<_> = replicas(partition, region)
            .iter()
            .filter_map(|n| Some((*n, *reports.get(n)?.partitions.get(&at)?)))
            .collect();
        if let Some((_, best)) = most_advanced(&copies) {
            durable.insert(at, position(&best));
        }
    }
    durable
}

impl Decision {
    fn add(&mut self, at: TopicPartition, best: (NodeId, PartitionPosition), isr: Vec<NodeId>) {
        let promotion = Promotion {
            epoch: LeaderEpoch(best.1.last_epoch),
            offset: best.1.end_offset,
        };
        self.promoted.push(Promoted {
            at,
            leader: best.0,
            promotion,
            isr,
        });
        self.durable.insert(at, position(&best.1));
    }
}

fn replicas<'a>(partition: &'a Partition, region: &RegionName) -> &'a [NodeId] {
    partition.replicas.get(region).map_or(&[], Vec::as_slice)
}

/// By (epoch, offset), never by offset alone; of equals the first, which is the head.
fn most_advanced(copies: &[(NodeId, PartitionPosition)]) -> Option<(NodeId, PartitionPosition)> {
    copies
        .iter()
        .rev()
        .max_by_key(|(_, p)| (p.last_epoch, p.end_offset))
        .copied()
}

fn position(at: &PartitionPosition) -> Position {
    Position {
        records: u64::try_from(at.end_offset).unwrap_or(0),
        bytes: at.bytes,
    }
}

fn missing_seal(view: &View, at: TopicPartition, region: &RegionName) -> Missing {
    Missing(format!(
        "{}: not every broker of {region} that holds {} has sealed it",
        codes::NOT_SEALED,
        describe(view, at)
    ))
}

fn describe(view: &View, at: TopicPartition) -> String {
    view.topic_by_id(at.topic_id).map_or_else(
        || at.to_string(),
        |t| format!("{}-{}", t.name, at.partition),
    )
}

#[cfg(test)]
mod tests;
