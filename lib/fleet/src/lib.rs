//! The words of a fleet: names, ids, epochs, leases and their ceilings, the view that every process
//! works from, move plans and reports.
//!
//! Everything here is data and arithmetic. It deliberately does no IO, reads no clock and draws no
//! random number: what time it is, who answered and what was drawn come in as arguments.

pub mod acl;
pub mod broker_config;
pub mod ceiling;
pub mod credential;
pub mod cut;
pub mod group_config;
pub mod ids;
pub mod lease;
pub mod lineage;
pub mod moves;
pub mod naming;
pub mod quota;
pub mod resource_config;
pub mod restore;
pub mod topic_config;
pub mod view;

pub use ceiling::{Ceiling, LossBound, Position};
pub use ids::{
    GroupName, HostPort, Incarnation, LeaderEpoch, NodeId, RegionEpoch, RegionName, TopicId,
    TopicPartition,
};
pub use lineage::{EpochStart, Lineage};
pub use moves::{
    AcceptLoss, Clamp, Fence, Move, MoveMode, MovePlan, MoveReport, OrphanReport, PartitionMove,
    Promotion,
};
pub use restore::Restore;
pub use view::{
    Daemon, FailoverGroup, IsrChange, LossMode, Node, OffsetsBlock, Partition, Region, Role,
    Standing, Topic, View,
};
