//! Registration: an incarnation takes its node's place, and its leadership begins in new epochs.

use std::collections::BTreeSet;

use whimbrel_fleet::{Daemon, Incarnation, Node, NodeId, Role};

use super::{Change, Outcome, State};
use crate::codes;

/// Earlier incarnations remembered per node: a registration that was delayed by more starts than these
/// is not a thing that happens.
const RETIRED: usize = 8;

impl State {
    /// `alive` are the brokers heard from a moment ago: where one of them is in an ack set, a new start of
    /// another member leaves it until it has caught up.
    pub(super) fn register_node(
        &mut self,
        index: u64,
        node: Node,
        alive: &BTreeSet<NodeId>,
    ) -> Change {
        if let Some(refusal) = self.refuse_node(&node) {
            return Change::hidden(refusal);
        }
        let known = self.view.nodes.get(&node.id);
        if known == Some(&node) && !self.is_lost(&node) {
            return Change::hidden(Outcome::Done);
        }
        let before = known.map(|n| n.incarnation);
        let is_new_start = before != Some(node.incarnation);
        if let Some(old) = before
            && is_new_start
        {
            self.retire(node.id, old);
        }
        if is_new_start {
            // What it was fenced for is over with that process; the new one begins from this very view.
            self.view.fenced.remove(&node.id);
            self.node_floor.remove(&node.id);
            self.step_aside(index, node.id, alive);
            self.raise_leader_epochs_of(node.id);
        }
        if let Some(region) = self.view.regions.get_mut(&node.region) {
            // It is back, and whatever moved away while it was lost it now follows.
            region.lost = false;
        }
        self.fill_empty_replica_sets(&node);
        self.view.nodes.insert(node.id, node);
        Change::shown(Outcome::Done)
    }

    fn refuse_node(&self, node: &Node) -> Option<Outcome> {
        if self.view.fleet_id.is_empty() {
            return Some(Outcome::refused(
                codes::NOT_BOOTSTRAPPED,
                "the fleet is not bootstrapped yet",
            ));
        }
        if node.id.0 < 0 {
            return Some(Outcome::refused(
                codes::BAD_NODE,
                format!("node id {} is negative", node.id),
            ));
        }
        if node.incarnation.is_nil() {
            return Some(Outcome::refused(
                codes::BAD_NODE,
                format!("node {} has no incarnation", node.id),
            ));
        }
        if !self.view.regions.contains_key(&node.region) {
            return Some(Outcome::refused(
                codes::UNKNOWN_REGION,
                format!("region {} is not one of this fleet", node.region),
            ));
        }
        if let Some(known) = self.view.nodes.get(&node.id)
            && known.region != node.region
        {
            let message = format!(
                "node id {} belongs to region {}; ids are unique in the whole fleet",
                node.id, known.region
            );
            return Some(Outcome::refused(codes::NODE_ID_TAKEN, message));
        }
        if self
            .retired
            .get(&node.id)
            .is_some_and(|r| r.contains(&node.incarnation))
        {
            let message = format!(
                "a later start of node {} has registered; this one must end",
                node.id
            );
            return Some(Outcome::refused(codes::SUPERSEDED, message));
        }
        None
    }

    fn is_lost(&self, node: &Node) -> bool {
        self.view.regions.get(&node.region).is_some_and(|r| r.lost)
    }

    fn retire(&mut self, id: NodeId, incarnation: Incarnation) {
        let retired = self.retired.entry(id).or_default();
        retired.push_back(incarnation);
        while retired.len() > RETIRED {
            retired.pop_front();
        }
    }

    /// The log of a new process may end earlier than its predecessor's did: what it leads begins anew.
    pub(super) fn raise_leader_epochs_of(&mut self, id: NodeId) {
        for partition in self
            .view
            .topics
            .values_mut()
            .flat_map(|t| t.partitions.iter_mut())
        {
            if partition.leader == Some(id) {
                partition.leader_epoch = partition.leader_epoch.next();
                partition.version = partition.version.wrapping_add(1);
            }
        }
    }

    /// Partitions with fewer replicas in this broker's region than their topic wants get it, and its
    /// leadership where it is home and nobody leads. At home it takes its turn as the preferred leader;
    /// elsewhere it joins behind the head, which has the data.
    fn fill_empty_replica_sets(&mut self, node: &Node) {
        for topic in self.view.topics.values_mut() {
            let Some(group) = self.view.groups.get(&topic.group) else {
                continue;
            };
            let wanted = usize::try_from(topic.replication_factor).unwrap_or(1);
            for (index, partition) in topic.partitions.iter_mut().enumerate() {
                let replicas = partition.replicas.entry(node.region.clone()).or_default();
                if replicas.len() < wanted.max(1) && !replicas.contains(&node.id) {
                    let place = match replicas.len() {
                        held if group.home == node.region => index % (held + 1),
                        held => held,
                    };
                    replicas.insert(place, node.id);
                    partition.version = partition.version.wrapping_add(1);
                }
                if partition.leader.is_none() && group.home == node.region {
                    partition.leader = replicas.first().copied();
                    partition.isr.clone_from(replicas);
                    partition.leader_epoch = partition.leader_epoch.next();
                }
            }
        }
    }

    pub(super) fn register_daemon(&mut self, daemon: Daemon) -> Change {
        if !self.view.regions.contains_key(&daemon.region) {
            return Change::hidden(Outcome::refused(
                codes::UNKNOWN_REGION,
                format!("region {} is not one of this fleet", daemon.region),
            ));
        }
        if daemon.role == Role::Broker {
            return Change::hidden(Outcome::refused(
                codes::BAD_NODE,
                "a broker registers as a node",
            ));
        }
        let same =
            |d: &Daemon| (d.role, &d.region, d.node) == (daemon.role, &daemon.region, daemon.node);
        match self.view.daemons.iter_mut().find(|d| same(d)) {
            Some(known) if *known == daemon => return Change::hidden(Outcome::Done),
            Some(known) => *known = daemon,
            None => self.view.daemons.push(daemon),
        }
        Change::shown(Outcome::Done)
    }
}
