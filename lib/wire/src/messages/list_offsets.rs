//! ListOffsets, key 2: find offsets by time.
//!
//! Version 11 has the fields of version 10 and adds timestamp -6, the earliest offset not yet uploaded (KIP-1023).

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 6;

    /// Times to look up; the negative ones are Kafka's special timestamps.
    pub struct Request versions 1-11 {
        replica_id: i32, 1+;
        isolation_level: i8, 2+;
        topics: Vec<ListOffsetsTopic>, 1+;
        timeout_ms: i32, 10+;
    }

    /// An element of `topics` in [`Request`].
    pub struct ListOffsetsTopic {
        name: String, 1+;
        partitions: Vec<ListOffsetsPartition>, 1+;
    }

    /// An element of `partitions` in [`ListOffsetsTopic`].
    pub struct ListOffsetsPartition {
        partition_index: i32, 1+;
        current_leader_epoch: i32, 4+, default -1;
        timestamp: i64, 1+;
    }

    /// The offset and timestamp found for each partition.
    pub struct Response versions 1-11 {
        throttle_time_ms: i32, 2+;
        topics: Vec<ListOffsetsTopicResponse>, 1+;
    }

    /// An element of `topics` in [`Response`].
    pub struct ListOffsetsTopicResponse {
        name: String, 1+;
        partitions: Vec<ListOffsetsPartitionResponse>, 1+;
    }

    /// An element of `partitions` in [`ListOffsetsTopicResponse`].
    pub struct ListOffsetsPartitionResponse {
        partition_index: i32, 1+;
        error_code: ErrorCode, 1+;
        timestamp: i64, 1+, default -1;
        offset: i64, 1+, default -1;
        leader_epoch: i32, 4+, default -1;
    }
}
