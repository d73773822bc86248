//! DescribeQuorum, key 55: who votes on the metadata log, and how far each is.

use uuid::Uuid;

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 0;

    /// Partitions asked for: `__cluster_metadata` 0 is the only one with a quorum.
    pub struct Request versions 0-2 {
        topics: Vec<TopicData>, 0+;
    }

    /// An element of `topics` in [`Request`].
    pub struct TopicData {
        topic_name: String, 0+;
        partitions: Vec<PartitionData>, 0+;
    }

    /// An element of `partitions` in [`TopicData`].
    pub struct PartitionData {
        partition_index: i32, 0+;
    }

    /// The quorum of each partition.
    pub struct Response versions 0-2 {
        error_code: ErrorCode, 0+;
        error_message: Option<String>, 2+, null 2+, default Some(String::new());
        topics: Vec<TopicResult>, 0+;
        nodes: Vec<Node>, 2+;
    }

    /// An element of `topics` in [`Response`].
    pub struct TopicResult {
        topic_name: String, 0+;
        partitions: Vec<PartitionResult>, 0+;
    }

    /// An element of `partitions` in [`TopicResult`].
    pub struct PartitionResult {
        partition_index: i32, 0+;
        error_code: ErrorCode, 0+;
        error_message: Option<String>, 2+, null 2+, default Some(String::new());
        leader_id: i32, 0+;
        leader_epoch: i32, 0+;
        high_watermark: i64, 0+;
        current_voters: Vec<ReplicaState>, 0+;
        observers: Vec<ReplicaState>, 0+;
    }

    /// An element of `current_voters` and `observers` in [`PartitionResult`].
    pub struct ReplicaState {
        replica_id: i32, 0+;
        replica_directory_id: Uuid, 2+;
        log_end_offset: i64, 0+;
        last_fetch_timestamp: i64, 1+, default -1;
        last_caught_up_timestamp: i64, 1+, default -1;
    }

    /// An element of `nodes` in [`Response`].
    pub struct Node {
        node_id: i32, 2+;
        listeners: Vec<Listener>, 2+;
    }

    /// An element of `listeners` in [`Node`].
    pub struct Listener {
        name: String, 2+;
        host: String, 2+;
        port: u16, 2+;
    }
}
