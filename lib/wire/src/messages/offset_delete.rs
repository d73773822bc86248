//! OffsetDelete, key 47: remove committed positions of a group.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible never;

    /// Which positions.
    pub struct Request versions 0-0 {
        group_id: String, 0+;
        topics: Vec<OffsetDeleteRequestTopic>, 0+;
    }

    /// An element of `topics` in [`Request`].
    pub struct OffsetDeleteRequestTopic {
        name: String, 0+;
        partitions: Vec<OffsetDeleteRequestPartition>, 0+;
    }

    /// An element of `partitions` in [`OffsetDeleteRequestTopic`].
    pub struct OffsetDeleteRequestPartition {
        partition_index: i32, 0+;
    }

    /// One code for each; the error comes first, unlike everywhere else.
    pub struct Response versions 0-0 {
        error_code: ErrorCode, 0+;
        throttle_time_ms: i32, 0+;
        topics: Vec<OffsetDeleteResponseTopic>, 0+;
    }

    /// An element of `topics` in [`Response`].
    pub struct OffsetDeleteResponseTopic {
        name: String, 0+;
        partitions: Vec<OffsetDeleteResponsePartition>, 0+;
    }

    /// An element of `partitions` in [`OffsetDeleteResponseTopic`].
    pub struct OffsetDeleteResponsePartition {
        partition_index: i32, 0+;
        error_code: ErrorCode, 0+;
    }
}
