//! What the coordinator needs from the rest of the broker.

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;
use whimbrel_wire::ErrorCode;

/// The log of `__consumer_offsets`, as far as it is led here.
#[async_trait]
pub trait OffsetsLog: Send + Sync + 'static {
    /// Appends one batch (base offset and leader epoch are the log's to set) and returns its base offset once it is
    /// durable, held by the ack set, and the lease was found valid again.
    ///
    /// # Errors
    /// MESSAGE_TOO_LARGE, RECORD_LIST_TOO_LARGE and INVALID_RECORD mean that nothing was appended. After any other
    /// the outcome is unknown and the coordinator reads the log again.
    async fn append(&self, partition: i32, batch: Bytes) -> Result<i64, ErrorCode>;

    /// Whole batches of durable records from `from` on, at least one if there is one, and the offset after them. Empty
    /// with `from` itself if nothing durable stands there yet; what lies below the log start is skipped.
    ///
    /// # Errors
    /// Kafka's code of the reason; it is tried again.
    async fn read(
        &self,
        partition: i32,
        from: i64,
        max_bytes: usize,
    ) -> Result<(Bytes, i64), ErrorCode>;

    /// Log start offset.
    fn start(&self, partition: i32) -> i64;

    /// Log end offset, of what is not yet durable too.
    fn end(&self, partition: i32) -> i64;

    /// The leader epoch in which this broker leads the partition; none if it does not, or holds no valid lease.
    fn led(&self, partition: i32) -> Option<i32>;
}

/// Topics by name and id.
pub trait Topics: Send + Sync + 'static {
    /// The name of the topic with this id.
    fn name(&self, id: Uuid) -> Option<String>;

    /// The id of the topic with this name.
    fn id(&self, name: &str) -> Option<Uuid>;

    /// Its number of partitions; none if there is no such topic.
    fn partitions(&self, name: &str) -> Option<i32>;
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
}
