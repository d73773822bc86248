//! TxnOffsetCommit, key 28: commit a group's positions in a transaction.
//!
//! Version 5 has the fields of version 4 (KIP-890).

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 3;

    /// Positions to commit.
    pub struct Request versions 0-5 {
        transactional_id: String, 0+;
        group_id: String, 0+;
        producer_id: i64, 0+;
        producer_epoch: i16, 0+;
        generation_id: i32, 3+, default -1;
        member_id: String, 3+;
        group_instance_id: Option<String>, 3+, null 3+;
        topics: Vec<TxnOffsetCommitRequestTopic>, 0+;
    }

    /// An element of `topics` in [`Request`].
    pub struct TxnOffsetCommitRequestTopic {
        name: String, 0+;
        partitions: Vec<TxnOffsetCommitRequestPartition>, 0+;
    }

    /// An element of `partitions` in [`TxnOffsetCommitRequestTopic`].
    pub struct TxnOffsetCommitRequestPartition {
        partition_index: i32, 0+;
        committed_offset: i64, 0+;
        committed_leader_epoch: i32, 2+, default -1;
        committed_metadata: Option<String>, 0+, null 0+, default Some(String::new());
    }

    /// Outcome for each partition.
    pub struct Response versions 0-5 {
        throttle_time_ms: i32, 0+;
        topics: Vec<TxnOffsetCommitResponseTopic>, 0+;
    }

    /// An element of `topics` in [`Response`].
    pub struct TxnOffsetCommitResponseTopic {
        name: String, 0+;
        partitions: Vec<TxnOffsetCommitResponsePartition>, 0+;
    }

    /// An element of `partitions` in [`TxnOffsetCommitResponseTopic`].
    pub struct TxnOffsetCommitResponsePartition {
        partition_index: i32, 0+;
        error_code: ErrorCode, 0+;
    }
}
