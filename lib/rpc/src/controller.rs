//! The controller's client: leader search, the watched view, registration and the lease holder.
//!
//! Everything here is lazy and lives through the loss of any voter: a call looks for the leader until
//! its deadline, the view is taken from any voter and never goes back, and a lease needs a majority of
//! voters but no leader. What may be repeated after an unknown outcome is repeated; what may not is
//! reported as [`ControlError::Unknown`] and is the caller's to re-read.

mod call;
mod client;
mod configs;
mod error;
mod lease;
mod messages;
mod registration;
mod replicas;
mod restore;
mod security;
mod watch;

pub use client::ControllerClient;
pub use configs::ResourceConfigChange;
pub use error::{CODE_KEY, ControlError, LEADER_KEY};
pub use lease::{LeaseHolder, LeaseIdentity, Tenure};
pub use messages::{
    FleetStatus, MorePartitions, MoveRequest, NewTopic, PartitionPosition, PositionReport,
    ProducerIdBlock, RaftStatus, Registered, Seal, TopicChanged, TopicConfigChange,
};
pub use registration::{Registration, SUPERSEDED};
pub use replicas::{PartitionResult, PartitionResults, Reassignment};
pub use security::AclsAltered;
