//! The fleet's state machine: pure, no clock, no randomness, no IO.
//!
//! Every voter applies the same commands in the same order and holds the same state; what time it is
//! and what was drawn come in as fields of commands. Invariants, checked by the property tests:
//! region and leader epochs never go down, a group has one home and it is a region of the fleet,
//! producer ids and topic ids are never given twice, a repeated command changes nothing.
//! Ceilings are deliberately not in here: they are promises of single voters (`ceilings`).

mod assign;
mod bootstrap;
mod command;
mod configs;
mod moves;
mod nodes;
mod outcome;
mod quotas;
mod reassign;
mod replicas;
mod restore;
mod security;
mod topics;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use whimbrel_fleet::{
    FailoverGroup, GroupName, Incarnation, MoveReport, NodeId, RegionEpoch, TopicId, View,
};

pub use command::{Command, MorePartitions, NewTopic, Promoted, SetFence};
pub use outcome::{Applied, Outcome, kafka};
pub use restore::{BeginRestore, RestoreStep, Restoring};

/// Producer ids per block: a broker asks again after so many.
pub const PRODUCER_ID_BLOCK: i32 = 1_000;

/// The view's bound of producer ids rises by so many: once for each thousand blocks, so that giving one to a broker
/// concerns nobody else.
const PRODUCER_ID_STRIDE: i64 = 1_000_000;

/// What the controller agrees on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub view: View,
    pub next_producer_id: i64,
    /// Never given to a topic again: objects and replicas of the old one may still carry it.
    pub deleted: BTreeSet<TopicId>,
    /// Earlier incarnations of each node, newest last; a late registration of one is refused.
    pub retired: BTreeMap<NodeId, VecDeque<Incarnation>>,
    /// The newest move of each group, under way or over.
    pub reports: BTreeMap<GroupName, MoveReport>,
    pub under_way: BTreeMap<GroupName, UnderWay>,
    /// Raft index of each broker's newest fence: it gets no lease while it works from an older view.
    #[serde(default)]
    pub node_floor: BTreeMap<NodeId, u64>,
    /// Raft index at which each broker last took over a partition that another had led: a ceiling it
    /// reserved under an older view does not cover what that one may have acknowledged.
    #[serde(default)]
    pub led_from: BTreeMap<NodeId, u64>,
    /// While the fleet is being filled from a bucket.
    #[serde(default)]
    pub restoring: Option<Restoring>,
    /// Job and plan of the restore that this fleet began with.
    #[serde(default)]
    pub restored: Option<(String, String)>,
}

/// What a move under way needs besides its fence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderWay {
    pub declare_lost: bool,
    /// Wall clock of the leader that proposed the fence; for people only.
    pub at_ms: i64,
}

/// What a handler did: its answer, and whether the view shows a difference.
pub(crate) struct Change {
    outcome: Outcome,
    view: bool,
}

impl Change {
    fn shown(outcome: Outcome) -> Self {
        Self {
            outcome,
            view: true,
        }
    }

    fn hidden(outcome: Outcome) -> Self {
        Self {
            outcome,
            view: false,
        }
    }
}

impl State {
    /// Applies the command at raft index `index`.
    pub fn apply(&mut self, index: u64, command: Command) -> Applied {
        let change = match command {
            Command::Bootstrap {
                fleet_id,
                regions,
                home,
                lease_ms,
                offsets_topic_id,
            } => self.bootstrap(fleet_id, regions, home, lease_ms, offsets_topic_id),
            Command::RegisterNode { node } => self.register_node(index, node, &BTreeSet::new()),
            Command::StartNode { node, alive } => self.register_node(index, node, &alive),
            Command::AlterIsr { .. }
            | Command::FenceNode { .. }
            | Command::TakeOver { .. }
            | Command::UnfenceNode { .. }
            | Command::ElectLeaders { .. }
            | Command::Reassign { .. } => self.apply_to_replicas(index, command),
            Command::RegisterDaemon { daemon } => self.register_daemon(daemon),
            Command::CreateTopic(topic) => self.create_topic(topic),
            Command::DeleteTopic { name } => self.delete_topic(&name),
            Command::CreatePartitions(more) => self.create_partitions(&more),
            Command::AlterTopicConfigs {
                topic_id,
                before,
                after,
            } => self.alter_topic_configs(topic_id, &before, after),
            Command::AlterResourceConfigs {
                resource,
                before,
                after,
            } => self.alter_resource_configs(resource, &before, after),
            Command::AlterClientQuotas { changes } => self.alter_client_quotas(changes),
            Command::AlterCredentials { changes } => self.alter_credentials(changes),
            Command::AlterAcls { delete, create } => self.alter_acls(&delete, create),
            Command::AllocateProducerIds => self.allocate_producer_ids(),
            Command::SetFence(_)
            | Command::Move { .. }
            | Command::AbortMove { .. }
            | Command::AddClamps { .. }
            | Command::FinishMove { .. } => self.apply_to_moves(index, command),
            Command::Restore(step) => self.apply_to_restore(step),
        };
        self.applied(index, change)
    }

    fn applied(&mut self, index: u64, change: Change) -> Applied {
        if self.raise_producer_ids() || change.view {
            self.view.version = index;
        }
        Applied {
            version: self.view.version,
            outcome: change.outcome,
        }
    }

    /// Also for a state that is older than the bound, at the next command whatever it is.
    fn raise_producer_ids(&mut self) -> bool {
        let raise = self.next_producer_id > self.view.producer_ids;
        if raise {
            self.view.producer_ids = self.next_producer_id.saturating_add(PRODUCER_ID_STRIDE);
        }
        raise
    }

    fn allocate_producer_ids(&mut self) -> Change {
        let first = self.next_producer_id;
        match first.checked_add(i64::from(PRODUCER_ID_BLOCK)) {
            Some(next) => {
                self.next_producer_id = next;
                Change::hidden(Outcome::ProducerIds {
                    first,
                    len: PRODUCER_ID_BLOCK,
                })
            }
            None => Change::hidden(Outcome::kafka(
                kafka::UNKNOWN_SERVER_ERROR,
                "producer ids are exhausted",
            )),
        }
    }

    /// The group and the epoch that voters may grant leases in, or the fence that forbids it.
    pub fn group(&self, name: &GroupName) -> Option<&FailoverGroup> {
        self.view.groups.get(name)
    }

    /// The lowest epoch that may still be granted a lease, as far as this state knows.
    pub fn floor_epoch(&self, group: &FailoverGroup) -> RegionEpoch {
        group
            .fence
            .as_ref()
            .map_or(group.epoch, |fence| fence.epoch.max(group.epoch))
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod tests;
