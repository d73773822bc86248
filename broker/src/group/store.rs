//! What the coordinator needs from the rest of the broker.

use async_trait::async_trait;
use uuid::Uuid;
use whimbrel_wire::ErrorCode;

/// The log of `__consumer_offsets`, as far as it is led here.
pub use crate::state_log::StateLog as OffsetsLog;

/// Topics by name and id.
pub trait Topics: Send + Sync + 'static {
    /// The name of the topic with this id.
    fn name(&self, id: Uuid) -> Option<String>;

    /// The id of the topic with this name.
    fn id(&self, name: &str) -> Option<Uuid>;

    /// Its number of partitions; none if there is no such topic.
    fn partitions(&self, name: &str) -> Option<i32>;

    /// All topics but internal ones.
    fn names(&self) -> Vec<String>;

    /// Rises whenever any of the above may have changed.
    fn version(&self) -> u64;

    /// What a group's own configs say of its members' sessions and heartbeats.
    fn pace(&self, group: &str) -> Pace;
}

/// A consumer group's own configs; what it does not say is the broker's to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// `consumer.session.timeout.ms`.
    pub session_timeout_ms: Option<i32>,
    /// `consumer.heartbeat.interval.ms`.
    pub heartbeat_interval_ms: Option<i32>,
}

/// Where a client reaches a broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    pub node_id: i32,
    pub host: String,
    pub port: i32,
}

/// Who leads what.
#[async_trait]
pub trait Directory: Send + Sync {
    /// The leader of a partition of `__consumer_offsets`, on the listener the client came through; creates the topic
    /// if it is missing.
    ///
    /// # Errors
    /// COORDINATOR_NOT_AVAILABLE while there is none.
    async fn offsets_leader(&self, partition: i32) -> Result<Endpoint, ErrorCode>;

    /// The same for the partition of `__transaction_state` that holds a transactional id.
    ///
    /// # Errors
    /// COORDINATOR_NOT_AVAILABLE while there is none.
    async fn transactions_leader(&self, transactional_id: &str) -> Result<Endpoint, ErrorCode>;
}
