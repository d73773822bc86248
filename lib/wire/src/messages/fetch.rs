//! Fetch, key 1: read record batches.
//!
//! Versions 7 and later may carry sessions (KIP-227), 12 the divergence check (KIP-595), 13 topic ids, 16 the endpoints
//! of new leaders (KIP-951). `records` is a slice of the frame when decoded and is not copied when encoded.

use bytes::Bytes;
use uuid::Uuid;

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 12;

    /// What to read, and how long to wait for it.
    pub struct Request versions 4-18 {
        replica_id: i32, 4-14, default -1;
        max_wait_ms: i32, 4+;
        min_bytes: i32, 4+;
        max_bytes: i32, 4+, default i32::MAX;
        isolation_level: i8, 4+;
        session_id: i32, 7+;
        session_epoch: i32, 7+, default -1;
        topics: Vec<FetchTopic>, 4+;
        forgotten_topics_data: Vec<ForgottenTopic>, 7+;
        rack_id: String, 11+;
        cluster_id: Option<String>, 12+, null 12+, tag 0;
        replica_state: ReplicaState, 15+, tag 1;
    }

    /// The value of `replica_state` in [`Request`].
    pub struct ReplicaState {
        replica_id: i32, 15+, default -1;
        replica_epoch: i64, 15+, default -1;
    }

    /// An element of `topics` in [`Request`].
    pub struct FetchTopic {
        topic: String, 4-12;
        topic_id: Uuid, 13+;
        partitions: Vec<FetchPartition>, 4+;
    }

    /// An element of `partitions` in [`FetchTopic`].
    pub struct FetchPartition {
        partition: i32, 4+;
        current_leader_epoch: i32, 9+, default -1;
        fetch_offset: i64, 4+;
        last_fetched_epoch: i32, 12+, default -1;
        log_start_offset: i64, 5+, default -1;
        partition_max_bytes: i32, 4+;
        replica_directory_id: Uuid, 17+, tag 0;
        high_watermark: i64, 18+, tag 1, default i64::MAX;
    }

    /// An element of `forgotten_topics_data` in [`Request`].
    pub struct ForgottenTopic {
        topic: String, 7-12;
        topic_id: Uuid, 13+;
        partitions: Vec<i32>, 7+;
    }

    /// Batches read, whole ones, but for the last.
    pub struct Response versions 4-18 {
        throttle_time_ms: i32, 4+;
        error_code: ErrorCode, 7+;
        session_id: i32, 7+;
        responses: Vec<FetchableTopicResponse>, 4+;
        node_endpoints: Vec<NodeEndpoint>, 16+, tag 0;
    }

    /// An element of `responses` in [`Response`].
    pub struct FetchableTopicResponse {
        topic: String, 4-12;
        topic_id: Uuid, 13+;
        partitions: Vec<PartitionData>, 4+;
    }

    /// An element of `partitions` in [`FetchableTopicResponse`].
    pub struct PartitionData {
        partition_index: i32, 4+;
        error_code: ErrorCode, 4+;
        high_watermark: i64, 4+;
        last_stable_offset: i64, 4+, default -1;
        log_start_offset: i64, 5+, default -1;
        aborted_transactions: Option<Vec<AbortedTransaction>>, 4+, null 4+, default Some(Vec::new());
        preferred_read_replica: i32, 11+, default -1;
        records: Option<Bytes>, 4+, null 4+, default Some(Bytes::new());
        diverging_epoch: EpochEndOffset, 12+, tag 0;
        current_leader: LeaderIdAndEpoch, 12+, tag 1;
        snapshot_id: SnapshotId, 12+, tag 2;
    }

    /// The value of `diverging_epoch` in [`PartitionData`].
    pub struct EpochEndOffset {
        epoch: i32, 12+, default -1;
        end_offset: i64, 12+, default -1;
    }

    /// The value of `current_leader` in [`PartitionData`].
    pub struct LeaderIdAndEpoch {
        leader_id: i32, 12+, default -1;
        leader_epoch: i32, 12+, default -1;
    }

    /// The value of `snapshot_id` in [`PartitionData`].
    pub struct SnapshotId {
        end_offset: i64, 4+, default -1;
        epoch: i32, 4+, default -1;
    }

    /// An element of `aborted_transactions` in [`PartitionData`].
    pub struct AbortedTransaction {
        producer_id: i64, 4+;
        first_offset: i64, 4+;
    }

    /// An element of `node_endpoints` in [`Response`].
    pub struct NodeEndpoint {
        node_id: i32, 16+;
        host: String, 16+;
        port: i32, 16+;
        rack: Option<String>, 16+, null 16+;
    }
}
