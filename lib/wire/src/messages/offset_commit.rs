//! OffsetCommit, key 8: commit a group's positions.
//!
//! Version 10 names topics by id.

use uuid::Uuid;

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 8;

    /// Positions to commit.
    pub struct Request versions 2-10 {
        group_id: String, 2+;
        generation_id_or_member_epoch: i32, 2+, default -1;
        member_id: String, 2+;
        group_instance_id: Option<String>, 7+, null 7+;
        retention_time_ms: i64, 2-4, default -1;
        topics: Vec<OffsetCommitRequestTopic>, 2+;
    }

    /// An element of `topics` in [`Request`].
    pub struct OffsetCommitRequestTopic {
        name: String, 2-9;
        topic_id: Uuid, 10+;
        partitions: Vec<OffsetCommitRequestPartition>, 2+;
    }

    /// An element of `partitions` in [`OffsetCommitRequestTopic`].
    pub struct OffsetCommitRequestPartition {
        partition_index: i32, 2+;
        committed_offset: i64, 2+;
        committed_leader_epoch: i32, 6+, default -1;
        committed_metadata: Option<String>, 2+, null 2+, default Some(String::new());
    }

    /// Outcome for each partition.
    pub struct Response versions 2-10 {
        throttle_time_ms: i32, 3+;
        topics: Vec<OffsetCommitResponseTopic>, 2+;
    }

    /// An element of `topics` in [`Response`].
    pub struct OffsetCommitResponseTopic {
        name: String, 2-9;
        topic_id: Uuid, 10+;
        partitions: Vec<OffsetCommitResponsePartition>, 2+;
    }

    /// An element of `partitions` in [`OffsetCommitResponseTopic`].
    pub struct OffsetCommitResponsePartition {
        partition_index: i32, 2+;
        error_code: ErrorCode, 2+;
    }
}
