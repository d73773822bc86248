//! AlterPartitionReassignments, key 45: which brokers a partition's copies shall stand on.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 0;

    /// Partitions with their new brokers.
    pub struct Request versions 0-1 {
        timeout_ms: i32, 0+, default 60_000;
        allow_replication_factor_change: bool, 1+, default true;
        topics: Vec<ReassignableTopic>, 0+;
    }

    /// An element of `topics` in [`Request`].
    pub struct ReassignableTopic {
        name: String, 0+;
        partitions: Vec<ReassignablePartition>, 0+;
    }

    /// An element of `partitions` in [`ReassignableTopic`]; null brokers call off what is under way.
    pub struct ReassignablePartition {
        partition_index: i32, 0+;
        replicas: Option<Vec<i32>>, 0+, null 0+, default None;
    }

    /// Outcome for each partition.
    pub struct Response versions 0-1 {
        throttle_time_ms: i32, 0+;
        allow_replication_factor_change: bool, 1+, default true;
        error_code: ErrorCode, 0+;
        error_message: Option<String>, 0+, null 0+, default Some(String::new());
        responses: Vec<ReassignableTopicResponse>, 0+;
    }

    /// An element of `responses` in [`Response`].
    pub struct ReassignableTopicResponse {
        name: String, 0+;
        partitions: Vec<ReassignablePartitionResponse>, 0+;
    }

    /// An element of `partitions` in [`ReassignableTopicResponse`].
    pub struct ReassignablePartitionResponse {
        partition_index: i32, 0+;
        error_code: ErrorCode, 0+;
        error_message: Option<String>, 0+, null 0+, default Some(String::new());
    }
}
