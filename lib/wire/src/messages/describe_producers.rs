//! DescribeProducers, key 61: what a partition's leader knows of the producers that wrote to it.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 0;

    /// Partitions asked for.
    pub struct Request versions 0-0 {
        topics: Vec<TopicRequest>, 0+;
    }

    /// An element of `topics` in [`Request`].
    pub struct TopicRequest {
        name: String, 0+;
        partition_indexes: Vec<i32>, 0+;
    }

    /// Producers of each partition.
    pub struct Response versions 0-0 {
        throttle_time_ms: i32, 0+;
        topics: Vec<TopicResponse>, 0+;
    }

    /// An element of `topics` in [`Response`].
    pub struct TopicResponse {
        name: String, 0+;
        partitions: Vec<PartitionResponse>, 0+;
    }

    /// An element of `partitions` in [`TopicResponse`].
    pub struct PartitionResponse {
        partition_index: i32, 0+;
        error_code: ErrorCode, 0+;
        error_message: Option<String>, 0+, null 0+;
        active_producers: Vec<ProducerState>, 0+;
    }

    /// An element of `active_producers` in [`PartitionResponse`].
    pub struct ProducerState {
        producer_id: i64, 0+;
        producer_epoch: i32, 0+;
        last_sequence: i32, 0+, default -1;
        last_timestamp: i64, 0+, default -1;
        coordinator_epoch: i32, 0+;
        current_txn_start_offset: i64, 0+, default -1;
    }
}
