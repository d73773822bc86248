//! Metadata, key 3: brokers, topics and leaders.
//!
//! `topics` null means all topics; in version 0, which has no null, an empty list does.

use uuid::Uuid;

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 9;

    /// The topics asked for.
    pub struct Request versions 0-13 {
        topics: Option<Vec<MetadataRequestTopic>>, 0+, null 1+, default Some(Vec::new());
        allow_auto_topic_creation: bool, 4+, default true;
        include_cluster_authorized_operations: bool, 8-10;
        include_topic_authorized_operations: bool, 8+;
    }

    /// An element of `topics` in [`Request`].
    pub struct MetadataRequestTopic {
        topic_id: Uuid, 10+;
        name: Option<String>, 0+, null 10+, default Some(String::new());
    }

    /// The cluster as the broker sees it.
    pub struct Response versions 0-13 {
        throttle_time_ms: i32, 3+;
        brokers: Vec<MetadataResponseBroker>, 0+;
        cluster_id: Option<String>, 2+, null 2+;
        controller_id: i32, 1+, default -1;
        topics: Vec<MetadataResponseTopic>, 0+;
        cluster_authorized_operations: i32, 8-10, default -2147483648;
        error_code: ErrorCode, 13+;
    }

    /// An element of `brokers` in [`Response`].
    pub struct MetadataResponseBroker {
        node_id: i32, 0+;
        host: String, 0+;
        port: i32, 0+;
        rack: Option<String>, 1+, null 1+;
    }

    /// An element of `topics` in [`Response`].
    pub struct MetadataResponseTopic {
        error_code: ErrorCode, 0+;
        name: Option<String>, 0+, null 12+, default Some(String::new());
        topic_id: Uuid, 10+;
        is_internal: bool, 1+;
        partitions: Vec<MetadataResponsePartition>, 0+;
        topic_authorized_operations: i32, 8+, default -2147483648;
    }

    /// An element of `partitions` in [`MetadataResponseTopic`].
    pub struct MetadataResponsePartition {
        error_code: ErrorCode, 0+;
        partition_index: i32, 0+;
        leader_id: i32, 0+;
        leader_epoch: i32, 7+, default -1;
        replica_nodes: Vec<i32>, 0+;
        isr_nodes: Vec<i32>, 0+;
        offline_replicas: Vec<i32>, 5+;
    }
}
