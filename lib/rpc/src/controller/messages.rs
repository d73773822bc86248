//! What is asked of the controller and what it answers, as types; the wire's forms stay in here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use whimbrel_fleet::{
    AcceptLoss, GroupName, Incarnation, MoveMode, NodeId, RegionEpoch, RegionName, TopicId,
    TopicPartition, View, topic_config::Change,
};
use whimbrel_runtime::random;

use crate::{
    address::{NotAnId, uuid_bytes, uuid_from},
    proto::controller as proto,
};

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    pub name: String,
    /// Drawn here, so that a repeated request is recognised.
    pub topic_id: TopicId,
    pub partitions: i32,
    pub replication_factor: i16,
    pub configs: BTreeMap<String, String>,
    pub internal: bool,
    /// Everything is checked, nothing is created.
    pub validate_only: bool,
    /// Of each partition its home copies, the preferred leader first; empty where the fleet is to place them.
    pub copies: Vec<Vec<NodeId>>,
}

/// Partitions to add to a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MorePartitions {
    pub name: String,
    /// Partitions that the topic is to have in all.
    pub total: i32,
    /// Everything is checked, nothing is added.
    pub validate_only: bool,
    /// Of each added partition, as in [`NewTopic`].
    pub copies: Vec<Vec<NodeId>>,
}

impl NewTopic {
    /// One copy in each region, no configs.
    pub fn new(name: impl Into<String>, partitions: i32) -> Self {
        Self {
            name: name.into(),
            topic_id: random::uuid(),
            partitions,
            replication_factor: 1,
            configs: BTreeMap::new(),
            internal: false,
            validate_only: false,
            copies: Vec::new(),
        }
    }
}

/// A change of one topic's configs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfigChange {
    pub name: String,
    pub changes: Vec<Change>,
    /// Configs that are not named lose their values.
    pub replace: bool,
    /// Everything is checked, nothing is changed.
    pub validate_only: bool,
}

/// A change of topics that took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicChanged {
    pub topic_id: TopicId,
    /// The view shows it from this version on.
    pub version: u64,
}

/// A registration that was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    pub fleet_id: String,
    pub version: u64,
}

/// Producer ids `first..first + len`, never given to anybody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdBlock {
    pub first: i64,
    pub len: i32,
}

/// A move to plan or to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveRequest {
    pub group: GroupName,
    pub to: RegionName,
    pub mode: MoveMode,
    pub accept_loss: AcceptLoss,
    /// Hash of the plan that was seen; a different present plan is [`super::ControlError::Aborted`].
    pub plan: Option<String>,
    /// The old region's brokers leave Metadata until they register again.
    pub declare_lost: bool,
}

impl MoveRequest {
    pub fn new(group: GroupName, to: RegionName, mode: MoveMode) -> Self {
        Self {
            group,
            to,
            mode,
            accept_loss: AcceptLoss::None,
            plan: None,
            declare_lost: false,
        }
    }
}

/// One partition's durable end on one broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionPosition {
    pub at: TopicPartition,
    pub end_offset: i64,
    /// Epoch of the last record below the end, -1 for an empty log.
    pub last_epoch: i32,
    pub bytes: u64,
}

/// A group whose fence this broker obeys: its positions are final for that epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    pub group: GroupName,
    pub epoch: RegionEpoch,
}

/// What a broker holds; sent about once a second, and at once when a seal is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PositionReport {
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub partitions: Vec<PartitionPosition>,
    pub seals: Vec<Seal>,
    pub behind_ms: BTreeMap<GroupName, u64>,
}

impl PositionReport {
    pub fn new(node: NodeId, incarnation: Incarnation) -> Self {
        Self {
            node,
            incarnation,
            partitions: Vec::new(),
            seals: Vec::new(),
            behind_ms: BTreeMap::new(),
        }
    }
}

impl From<PositionReport> for proto::PositionReport {
    fn from(report: PositionReport) -> Self {
        Self {
            node: report.node.0,
            incarnation: uuid_bytes(report.incarnation),
            partitions: report.partitions.into_iter().map(Into::into).collect(),
            seals: report
                .seals
                .into_iter()
                .map(|s| proto::Seal {
                    group: s.group.to_string(),
                    epoch: s.epoch.0,
                })
                .collect(),
            behind_ms: report
                .behind_ms
                .into_iter()
                .map(|(group, ms)| (group.to_string(), ms))
                .collect(),
        }
    }
}

impl From<PartitionPosition> for proto::PartitionPosition {
    fn from(position: PartitionPosition) -> Self {
        Self {
            topic_id: uuid_bytes(position.at.topic_id),
            partition: position.at.partition,
            end_offset: position.end_offset,
            last_epoch: position.last_epoch,
            bytes: position.bytes,
        }
    }
}

impl TryFrom<proto::PositionReport> for PositionReport {
    type Error = NotAnId;

    fn try_from(report: proto::PositionReport) -> Result<Self, NotAnId> {
        let position = |p: &proto::PartitionPosition| {
            Ok(PartitionPosition {
                at: TopicPartition::new(uuid_from(&p.topic_id)?, p.partition),
                end_offset: p.end_offset,
                last_epoch: p.last_epoch,
                bytes: p.bytes,
            })
        };
        Ok(Self {
            node: NodeId(report.node),
            incarnation: uuid_from(&report.incarnation)?,
            partitions: report
                .partitions
                .iter()
                .map(position)
                .collect::<Result<_, _>>()?,
            seals: report
                .seals
                .into_iter()
                .map(|s| Seal {
                    group: s.group.into(),
                    epoch: RegionEpoch(s.epoch),
                })
                .collect(),
            behind_ms: report
                .behind_ms
                .into_iter()
                .map(|(group, ms)| (group.into(), ms))
                .collect(),
        })
    }
}

/// Raft as one voter sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftStatus {
    pub voter: u64,
    pub leader: Option<u64>,
    pub term: u64,
    pub last_log: Option<u64>,
    pub applied: Option<u64>,
    pub voters: BTreeMap<u64, String>,
}

/// The whole fleet, from the controller's leader.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetStatus {
    pub raft: RaftStatus,
    pub view: View,
}

/// The nil id where none came, so that an old peer's empty field is no error.
pub(super) fn id_or_nil(bytes: &[u8]) -> Uuid {
    uuid_from(bytes).unwrap_or_default()
}
