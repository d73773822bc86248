//! What can be asked of the state. These are the payloads of the raft log: fields are added with a
//! default, never taken away or given another meaning.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use whimbrel_fleet::{
    Clamp, Daemon, Fence, GroupName, Incarnation, IsrChange, LossBound, MovePlan, Node, NodeId,
    Promotion, RegionEpoch, RegionName, TopicId, TopicPartition, acl::Acl,
    credential::CredentialChange, quota::QuotaChange, resource_config::Resource,
};

use super::RestoreStep;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Once, by the first leader.
    Bootstrap {
        fleet_id: String,
        regions: BTreeSet<RegionName>,
        home: RegionName,
        lease_ms: u64,
        offsets_topic_id: TopicId,
    },
    RegisterNode {
        node: Node,
    },
    /// As `RegisterNode`, with the brokers that the controller's leader heard from a moment ago.
    StartNode {
        node: Node,
        alive: BTreeSet<NodeId>,
    },
    AlterIsr {
        node: NodeId,
        incarnation: Incarnation,
        changes: Vec<IsrChange>,
    },
    FenceNode {
        node: NodeId,
        incarnation: Incarnation,
    },
    /// Only after the fence has been committed for longer than a lease can run.
    TakeOver {
        node: NodeId,
        incarnation: Incarnation,
    },
    UnfenceNode {
        node: NodeId,
        incarnation: Incarnation,
    },
    /// All partitions when none is named.
    ElectLeaders {
        partitions: Vec<TopicPartition>,
        unclean: bool,
    },
    Reassign {
        changes: Vec<(TopicPartition, Option<Vec<NodeId>>)>,
    },
    RegisterDaemon {
        daemon: Daemon,
    },
    CreateTopic(NewTopic),
    DeleteTopic {
        name: String,
    },
    CreatePartitions(MorePartitions),
    /// The topic's configs, if they still are `before`. Values were judged when this was proposed.
    AlterTopicConfigs {
        topic_id: TopicId,
        before: BTreeMap<String, String>,
        after: BTreeMap<String, String>,
    },
    /// The resource's configs, if they still are `before`. Values were judged when this was proposed.
    AlterResourceConfigs {
        resource: Resource,
        before: BTreeMap<String, String>,
        after: BTreeMap<String, String>,
    },
    /// Judged when this was proposed.
    AlterClientQuotas {
        changes: Vec<QuotaChange>,
    },
    /// Judged when this was proposed.
    AlterCredentials {
        changes: Vec<CredentialChange>,
    },
    /// Judged when this was proposed. What goes, goes before anything is added.
    AlterAcls {
        delete: Vec<Acl>,
        create: Vec<Acl>,
    },
    AllocateProducerIds,
    SetFence(Box<SetFence>),
    Move {
        group: GroupName,
        epoch: RegionEpoch,
        lossy: bool,
        bound: LossBound,
        partitions: Vec<Promoted>,
        fence_ms: u64,
        at_ms: i64,
    },
    AbortMove {
        group: GroupName,
        epoch: RegionEpoch,
        reason: String,
        fence_ms: u64,
        at_ms: i64,
    },
    AddClamps {
        group: GroupName,
        epoch: RegionEpoch,
        clamps: Vec<Clamp>,
    },
    FinishMove {
        group: GroupName,
        epoch: RegionEpoch,
    },
    Restore(RestoreStep),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MorePartitions {
    pub name: String,
    pub total: i32,
    /// Of each added partition its home copies, the preferred leader first; none where they are placed here.
    #[serde(default)]
    pub copies: Vec<Vec<NodeId>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTopic {
    pub name: String,
    pub topic_id: TopicId,
    pub partitions: i32,
    pub replication_factor: i16,
    pub configs: BTreeMap<String, String>,
    pub internal: bool,
    /// Of each partition its home copies, the preferred leader first; none where they are placed here.
    #[serde(default)]
    pub copies: Vec<Vec<NodeId>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetFence {
    pub group: GroupName,
    pub fence: Fence,
    pub declare_lost: bool,
    pub plan: MovePlan,
    pub at_ms: i64,
}

/// Where a partition goes on, and who acknowledges there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promoted {
    pub at: TopicPartition,
    pub leader: NodeId,
    pub promotion: Promotion,
    /// Replicas of the new home that answered; the leader is one of them.
    pub isr: Vec<NodeId>,
}

impl Command {
    /// The broker that gets no lease any more once this command is in a voter's log.
    pub fn fenced_node(&self) -> Option<NodeId> {
        match self {
            Self::FenceNode { node, .. } => Some(*node),
            _ => None,
        }
    }

    /// The start that alone may ask for leases of its broker once this command is in a voter's log.
    pub fn started_node(&self) -> Option<(NodeId, Incarnation)> {
        match self {
            Self::RegisterNode { node } | Self::StartNode { node, .. } => {
                Some((node.id, node.incarnation))
            }
            _ => None,
        }
    }

    /// The group whose leases this command, once it is in a voter's log, forbids below an epoch.
    pub fn fences(&self) -> Option<(&GroupName, RegionEpoch)> {
        match self {
            Self::SetFence(set) => Some((&set.group, set.fence.epoch)),
            Self::Move { group, epoch, .. } => Some((group, *epoch)),
            Self::AbortMove { group, epoch, .. } => Some((group, epoch.next())),
            // An empty fleet has one group. In the epoch that it is given nobody is at home.
            Self::Restore(RestoreStep::Begin(begin)) => {
                let mut groups = begin.description.groups.iter();
                let group = groups.find(|group| group.name == GroupName::default_group())?;
                Some((&group.name, RegionEpoch(group.epoch.0.saturating_sub(1))))
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bootstrap { fleet_id, .. } => write!(f, "bootstrap {fleet_id}"),
            Self::RegisterNode { node } => write!(f, "register node {}", node.id),
            Self::StartNode { node, .. } => write!(f, "start node {}", node.id),
            Self::AlterIsr { node, changes, .. } => {
                write!(f, "alter {} ack sets for node {node}", changes.len())
            }
            Self::FenceNode { node, .. } => write!(f, "fence node {node}"),
            Self::TakeOver { node, .. } => write!(f, "take over from node {node}"),
            Self::UnfenceNode { node, .. } => write!(f, "unfence node {node}"),
            Self::ElectLeaders { partitions, .. } => {
                write!(f, "elect leaders of {} partitions", partitions.len())
            }
            Self::Reassign { changes } => write!(f, "reassign {} partitions", changes.len()),
            Self::RegisterDaemon { daemon } => write!(f, "register daemon {}", daemon.node),
            Self::CreateTopic(topic) => write!(f, "create topic {}", topic.name),
            Self::DeleteTopic { name } => write!(f, "delete topic {name}"),
            Self::CreatePartitions(MorePartitions { name, total, .. }) => {
                write!(f, "create partitions {name} {total}")
            }
            Self::AlterTopicConfigs { topic_id, .. } => write!(f, "alter configs of {topic_id}"),
            Self::AlterResourceConfigs { resource, .. } => {
                write!(f, "alter configs of {resource:?}")
            }
            Self::AlterClientQuotas { changes } => write!(f, "alter {} quotas", changes.len()),
            Self::AlterCredentials { changes } => {
                write!(f, "alter {} credentials", changes.len())
            }
            Self::AlterAcls { delete, create } => {
                write!(
                    f,
                    "delete {} and create {} acls",
                    delete.len(),
                    create.len()
                )
            }
            Self::AllocateProducerIds => f.write_str("allocate producer ids"),
            Self::SetFence(set) => write!(f, "fence {} at {}", set.group, set.fence.epoch),
            Self::Move { group, epoch, .. } => write!(f, "move {group} at {epoch}"),
            Self::AbortMove { group, epoch, .. } => write!(f, "abort move {group} at {epoch}"),
            Self::AddClamps { group, .. } => write!(f, "add clamps {group}"),
            Self::FinishMove { group, epoch } => write!(f, "finish move {group} at {epoch}"),
            Self::Restore(RestoreStep::Begin(begin)) => {
                write!(f, "begin restore {}", begin.restore.job)
            }
            Self::Restore(RestoreStep::End { job }) => write!(f, "end restore {job}"),
            Self::Restore(RestoreStep::Abandon { job, .. }) => write!(f, "abandon restore {job}"),
        }
    }
}
