//! Ack sets, fenced brokers and leadership inside a region.
//!
//! A leader is chosen from the ack set, so it holds whatever its predecessor acknowledged or still may:
//! the predecessor waits for every member of an ack set that includes the committed one. Two things make
//! that complete: a broker that nobody hears from is fenced (its leases are not renewed until it has seen
//! so) before anything it leads is given away, and only the leader itself, in its epoch, adds to the set.

use std::collections::BTreeSet;

use whimbrel_fleet::{
    Incarnation, IsrChange, NodeId, Partition, RegionName, TopicPartition, View, view::Topic,
};

use super::{Change, Command, Outcome, State, kafka};
use crate::codes;

impl State {
    /// The commands that concern copies inside a region.
    pub(super) fn apply_to_replicas(&mut self, index: u64, command: Command) -> Change {
        match command {
            Command::AlterIsr {
                node,
                incarnation,
                changes,
            } => self.alter_isr(index, node, incarnation, changes),
            Command::FenceNode { node, incarnation } => self.fence_node(index, node, incarnation),
            Command::TakeOver { node, incarnation } => self.take_over(index, node, incarnation),
            Command::UnfenceNode { node, incarnation } => self.unfence_node(node, incarnation),
            Command::ElectLeaders {
                partitions,
                unclean,
            } => self.elect_leaders(index, partitions, unclean),
            Command::Reassign { changes } => self.reassign(index, changes),
            other => Change::hidden(Outcome::refused(
                codes::BAD_REQUEST,
                format!("{other} does not concern replicas"),
            )),
        }
    }

    /// The leader's proposals; those that no longer fit are passed over, the view says which.
    fn alter_isr(
        &mut self,
        index: u64,
        node: NodeId,
        incarnation: Incarnation,
        changes: Vec<IsrChange>,
    ) -> Change {
        if let Some(refusal) = self.refuse_leader(node, incarnation) {
            return Change::hidden(refusal);
        }
        let mut changed = false;
        for change in changes {
            changed |= self.alter_one(index, node, change);
        }
        Change {
            outcome: Outcome::Done,
            view: changed,
        }
    }

    fn refuse_leader(&self, node: NodeId, incarnation: Incarnation) -> Option<Outcome> {
        let known = self.view.nodes.get(&node);
        let is_it = known.is_some_and(|n| n.incarnation == incarnation);
        (!is_it || self.view.fenced.contains(&node)).then(|| {
            Outcome::refused(
                codes::SUPERSEDED,
                format!("node {node} is fenced, or this is not its registered start"),
            )
        })
    }

    fn alter_one(&mut self, index: u64, node: NodeId, change: IsrChange) -> bool {
        let view = &mut self.view;
        let Some((topic, home)) = topic_at(view, change.at) else {
            return false;
        };
        let live: BTreeSet<NodeId> = change
            .isr
            .iter()
            .copied()
            .filter(|n| view.is_live(*n))
            .collect();
        let heads = change.heads.map(|heads| {
            let live = heads.into_iter().filter(|n| view.is_live(*n));
            live.collect::<BTreeSet<NodeId>>()
        });
        let Some(partition) = partition_mut(view, &topic, change.at) else {
            return false;
        };
        let replicas = partition.replicas.get(&home).map_or(&[][..], Vec::as_slice);
        let fits = partition.leader == Some(node)
            && partition.leader_epoch == change.leader_epoch
            && partition.version == change.version
            && change.isr.contains(&node)
            && change.isr.len() == live.len()
            && live.iter().all(|n| replicas.contains(n));
        if !fits {
            return false;
        }
        // Shown only: proposals for the ack set stay what they are.
        let keeping_up = heads.map(|heads| {
            let current = partition.other_heads(&home);
            current.filter(|n| heads.contains(n)).collect::<Vec<_>>()
        });
        let mut changed = false;
        if let Some(mut standing) = change.standing {
            standing.retain(|r, _| *r != home && partition.replicas.contains_key(r));
            changed = partition.standing != standing;
            partition.standing = standing;
        }
        if let Some(keeping_up) = keeping_up
            && partition.keeping_up != keeping_up
        {
            partition.keeping_up = keeping_up;
            changed = true;
        }
        if is_same_set(&partition.isr, &change.isr) {
            return changed;
        }
        // In the order of preference, as everything that lists replicas.
        let order = replicas.to_vec();
        partition.isr = order.into_iter().filter(|n| live.contains(n)).collect();
        partition.version = partition.version.wrapping_add(1);
        self.finish_reassignment(index, change.at, &topic, &home);
        true
    }

    /// Nobody hears from the broker: it gets no lease before it has seen this, other leaders wait for it
    /// no longer, and other regions' streams go to another of their brokers.
    fn fence_node(&mut self, index: u64, node: NodeId, incarnation: Incarnation) -> Change {
        if let Some(refusal) = self.refuse_leader(node, incarnation) {
            return Change::hidden(refusal);
        }
        self.view.fenced.insert(node);
        self.node_floor.insert(node, index);
        self.leave_ack_sets(node);
        let live: BTreeSet<NodeId> = self.live();
        for (home, partition) in with_homes(&mut self.view) {
            for (_, nodes) in partition.replicas.iter_mut().filter(|(r, _)| **r != home) {
                let other = nodes.iter().any(|n| live.contains(n));
                if other && nodes.first() == Some(&node) {
                    nodes.rotate_left(1);
                    partition.version = partition.version.wrapping_add(1);
                }
            }
        }
        Change::shown(Outcome::Done)
    }

    /// Out of every ack set that somebody else is in; what it leads it keeps until somebody takes over.
    fn leave_ack_sets(&mut self, node: NodeId) {
        for (_, partition) in with_homes(&mut self.view) {
            let leads = partition.leader == Some(node);
            if !leads && partition.isr.len() > 1 && partition.isr.contains(&node) {
                partition.isr.retain(|n| *n != node);
                partition.version = partition.version.wrapping_add(1);
            }
        }
    }

    /// The leases that the fenced broker held have run out: what it leads goes to live members of the ack
    /// sets. A partition without one stays as it is, unless its topic allows an unclean election.
    fn take_over(&mut self, index: u64, node: NodeId, incarnation: Incarnation) -> Change {
        let known = self.view.nodes.get(&node);
        if known.is_none_or(|n| n.incarnation != incarnation) || !self.view.fenced.contains(&node) {
            return Change::hidden(Outcome::refused(
                codes::SUPERSEDED,
                format!("node {node} is not fenced any more"),
            ));
        }
        for at in self.led_by(node) {
            let unclean = self
                .view
                .topic_by_id(at.topic_id)
                .is_some_and(Topic::unclean_elections);
            self.elect(index, at, None, unclean);
        }
        Change::shown(Outcome::Done)
    }

    /// It is heard from again and has seen its fence. What it still leads begins anew.
    fn unfence_node(&mut self, node: NodeId, incarnation: Incarnation) -> Change {
        let known = self.view.nodes.get(&node);
        if known.is_none_or(|n| n.incarnation != incarnation) || !self.view.fenced.remove(&node) {
            return Change::hidden(Outcome::Done);
        }
        self.raise_leader_epochs_of(node);
        Change::shown(Outcome::Done)
    }

    /// A new start of a broker while others of its ack sets live: it catches up before it counts again.
    /// Its disk may be a new one.
    pub(super) fn step_aside(&mut self, index: u64, node: NodeId, alive: &BTreeSet<NodeId>) {
        for at in self.in_ack_sets(node) {
            let Some((topic, _)) = topic_at(&self.view, at) else {
                continue;
            };
            let live: BTreeSet<NodeId> = self.live();
            let Some(partition) = partition_mut(&mut self.view, &topic, at) else {
                continue;
            };
            let other = |n: &NodeId| *n != node && alive.contains(n) && live.contains(n);
            let Some(next) = partition.isr.iter().copied().find(other) else {
                continue;
            };
            if partition.leader == Some(node) && !self.elect(index, at, Some(next), false) {
                continue;
            }
            if let Some(partition) = partition_mut(&mut self.view, &topic, at) {
                partition.isr.retain(|n| *n != node);
                partition.version = partition.version.wrapping_add(1);
            }
        }
    }

    /// Preferred replicas lead again; with `unclean`, any live replica where nobody of the ack set lives.
    fn elect_leaders(&mut self, index: u64, asked: Vec<TopicPartition>, unclean: bool) -> Change {
        let all = asked.is_empty();
        let asked = if all { self.partitions() } else { asked };
        let mut results = Vec::new();
        let mut changed = false;
        for at in asked {
            let (error_code, message) = match self.elect_one(index, at, unclean) {
                Ok(()) => (0, String::new()),
                Err((_, _)) if all => continue,
                Err((error_code, message)) => (error_code, message.to_owned()),
            };
            changed |= error_code == 0;
            results.push((at, error_code, message));
        }
        Change {
            outcome: Outcome::Partitions { results },
            view: changed,
        }
    }

    fn elect_one(
        &mut self,
        index: u64,
        at: TopicPartition,
        unclean: bool,
    ) -> Result<(), (i16, &'static str)> {
        let Some((topic, home)) = topic_at(&self.view, at) else {
            return Err((kafka::UNKNOWN_TOPIC_OR_PARTITION, "no such partition"));
        };
        let group = self
            .view
            .topics
            .get(&topic)
            .and_then(|t| self.view.group_of(t));
        if group.is_none_or(|g| g.fence.is_some()) {
            return Err((
                kafka::PREFERRED_LEADER_NOT_AVAILABLE,
                "its failover group is moving",
            ));
        }
        let Some((_, partition)) = self.view.partition(at) else {
            return Err((kafka::UNKNOWN_TOPIC_OR_PARTITION, "no such partition"));
        };
        let preferred = partition
            .replicas
            .get(&home)
            .and_then(|r| r.first())
            .copied();
        let leads_well = partition.leader.is_some_and(|l| self.view.is_live(l));
        let elected = if unclean {
            if leads_well {
                return Err((kafka::ELECTION_NOT_NEEDED, "it has a live leader"));
            }
            self.elect(index, at, None, true)
        } else {
            if partition.leader == preferred && leads_well {
                return Err((kafka::ELECTION_NOT_NEEDED, "the preferred replica leads"));
            }
            let able = preferred.filter(|p| partition.isr.contains(p) && self.view.is_live(*p));
            able.is_some() && self.elect(index, at, able, false)
        };
        match (elected, unclean) {
            (true, _) => Ok(()),
            (false, true) => Err((
                kafka::ELIGIBLE_LEADERS_NOT_AVAILABLE,
                "no replica is live, or the old leader's lease may still run",
            )),
            (false, false) => Err((
                kafka::PREFERRED_LEADER_NOT_AVAILABLE,
                "the preferred replica is not live and in sync",
            )),
        }
    }

    /// Gives the leadership to `chosen`, or to the first live member of the ack set in the order of
    /// preference. False when there is none, or the group is moving as a whole.
    fn elect(
        &mut self,
        index: u64,
        at: TopicPartition,
        chosen: Option<NodeId>,
        unclean: bool,
    ) -> bool {
        let Some((topic, home)) = topic_at(&self.view, at) else {
            return false;
        };
        let live = self.live();
        let fenced_leader = |p: &Partition| p.leader.is_some_and(|l| !live.contains(&l));
        let moving = self.view.topics.get(&topic).is_none_or(|t| {
            self.view
                .group_of(t)
                .is_none_or(|group| group.fence.is_some())
        });
        let Some(partition) = partition_mut(&mut self.view, &topic, at).filter(|_| !moving) else {
            return false;
        };
        let replicas = partition.replicas.get(&home).cloned().unwrap_or_default();
        let others = |n: &&NodeId| live.contains(n) && partition.leader != Some(**n);
        let clean = |n: &&NodeId| partition.isr.contains(n);
        let next = chosen
            .or_else(|| replicas.iter().filter(others).find(clean).copied())
            .or_else(|| replicas.iter().find(others).copied().filter(|_| unclean));
        let Some(next) = next else { return false };
        let drop_old = fenced_leader(partition);
        let old = partition.leader;
        if partition.isr.contains(&next) {
            partition
                .isr
                .retain(|n| !(drop_old && Some(*n) == old) || *n == next);
        } else {
            partition.isr = vec![next];
        }
        partition.leader = Some(next);
        partition.leader_epoch = partition.leader_epoch.next();
        partition.version = partition.version.wrapping_add(1);
        self.led_from.insert(next, index);
        true
    }

    fn live(&self) -> BTreeSet<NodeId> {
        let ids = self.view.nodes.keys().copied();
        ids.filter(|id| self.view.is_live(*id)).collect()
    }

    fn partitions(&self) -> Vec<TopicPartition> {
        let topics = self.view.topics.values();
        topics
            .flat_map(|t| (0_i32..).zip(&t.partitions).map(|(i, _)| (t.id, i)))
            .map(|(id, index)| TopicPartition::new(id, index))
            .collect()
    }

    fn led_by(&self, node: NodeId) -> Vec<TopicPartition> {
        let mut all = self.partitions();
        all.retain(|at| {
            let placed = self.view.partition(*at);
            placed.is_some_and(|(_, p)| p.leader == Some(node))
        });
        all
    }

    fn in_ack_sets(&self, node: NodeId) -> Vec<TopicPartition> {
        let mut all = self.partitions();
        all.retain(|at| {
            let placed = self.view.partition(*at);
            placed.is_some_and(|(_, p)| p.isr.len() > 1 && p.isr.contains(&node))
        });
        all
    }
}

fn is_same_set(a: &[NodeId], b: &[NodeId]) -> bool {
    a.iter().collect::<BTreeSet<_>>() == b.iter().collect::<BTreeSet<_>>()
}

/// Name of the topic and its home region.
pub(super) fn topic_at(view: &View, at: TopicPartition) -> Option<(String, RegionName)> {
    let topic = view.topic_by_id(at.topic_id)?;
    Some((topic.name.clone(), view.group_of(topic)?.home.clone()))
}

pub(super) fn partition_mut<'a>(
    view: &'a mut View,
    topic: &str,
    at: TopicPartition,
) -> Option<&'a mut Partition> {
    let index = usize::try_from(at.partition).ok()?;
    view.topics.get_mut(topic)?.partitions.get_mut(index)
}

/// All partitions with their home regions.
fn with_homes(view: &mut View) -> impl Iterator<Item = (RegionName, &mut Partition)> {
    let homes: std::collections::BTreeMap<_, _> = view
        .groups
        .values()
        .map(|g| (g.name.clone(), g.home.clone()))
        .collect();
    view.topics
        .values_mut()
        .filter_map(move |t| Some((homes.get(&t.group)?.clone(), t)))
        .flat_map(|(home, t)| t.partitions.iter_mut().map(move |p| (home.clone(), p)))
}

#[cfg(test)]
mod tests;
