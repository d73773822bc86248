//! DescribeTopicPartitions, key 75: partitions of topics, a page at a time (KIP-966).

use uuid::Uuid;

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 0;

    /// Topics asked for, none for all, from the cursor on.
    pub struct Request versions 0-0 {
        topics: Vec<TopicRequest>, 0+;
        response_partition_limit: i32, 0+, default 2_000;
        cursor: Option<Cursor>, 0+, null 0+, default None;
    }

    /// An element of `topics` in [`Request`].
    pub struct TopicRequest {
        name: String, 0+;
    }

    /// The first partition of a page.
    pub struct Cursor {
        topic_name: String, 0+;
        partition_index: i32, 0+;
    }

    /// A page, and where the next one begins.
    pub struct Response versions 0-0 {
        throttle_time_ms: i32, 0+;
        topics: Vec<DescribeTopicPartitionsResponseTopic>, 0+;
        next_cursor: Option<Cursor>, 0+, null 0+, default None;
    }

    /// An element of `topics` in [`Response`].
    pub struct DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode, 0+;
        name: Option<String>, 0+, null 0+, default Some(String::new());
        topic_id: Uuid, 0+;
        is_internal: bool, 0+;
        partitions: Vec<DescribeTopicPartitionsResponsePartition>, 0+;
        topic_authorized_operations: i32, 0+, default i32::MIN;
    }

    /// An element of `partitions` in [`DescribeTopicPartitionsResponseTopic`].
    pub struct DescribeTopicPartitionsResponsePartition {
        error_code: ErrorCode, 0+;
        partition_index: i32, 0+;
        leader_id: i32, 0+;
        leader_epoch: i32, 0+, default -1;
        replica_nodes: Vec<i32>, 0+;
        isr_nodes: Vec<i32>, 0+;
        eligible_leader_replicas: Option<Vec<i32>>, 0+, null 0+, default None;
        last_known_elr: Option<Vec<i32>>, 0+, null 0+, default None;
        offline_replicas: Vec<i32>, 0+;
    }
}

message! { @nullable Cursor }
