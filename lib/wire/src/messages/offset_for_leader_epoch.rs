//! OffsetForLeaderEpoch, key 23: where an epoch ended.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 4;

    /// Partitions and epochs asked about.
    pub struct Request versions 2-4 {
        replica_id: i32, 3+, default -2;
        topics: Vec<OffsetForLeaderTopic>, 2+;
    }

    /// An element of `topics` in [`Request`].
    pub struct OffsetForLeaderTopic {
        topic: String, 2+;
        partitions: Vec<OffsetForLeaderPartition>, 2+;
    }

    /// An element of `partitions` in [`OffsetForLeaderTopic`].
    pub struct OffsetForLeaderPartition {
        partition: i32, 2+;
        current_leader_epoch: i32, 2+, default -1;
        leader_epoch: i32, 2+;
    }

    /// The largest epoch not above the one asked for, and its end offset.
    pub struct Response versions 2-4 {
        throttle_time_ms: i32, 2+;
        topics: Vec<OffsetForLeaderTopicResult>, 2+;
    }

    /// An element of `topics` in [`Response`].
    pub struct OffsetForLeaderTopicResult {
        topic: String, 2+;
        partitions: Vec<EpochEndOffset>, 2+;
    }

    /// An element of `partitions` in [`OffsetForLeaderTopicResult`].
    pub struct EpochEndOffset {
        error_code: ErrorCode, 2+;
        partition: i32, 2+;
        leader_epoch: i32, 2+, default -1;
        end_offset: i64, 2+, default -1;
    }
}
