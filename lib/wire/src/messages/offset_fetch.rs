//! OffsetFetch, key 9: read a group's committed positions.
//!
//! Up to version 7 a request is about one group (`group_id`, `topics`), from 8 on about several (`groups`).
//! Version 10 names topics by id.

use uuid::Uuid;

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 6;

    /// Groups and partitions asked for.
    pub struct Request versions 1-10 {
        group_id: String, 1-7;
        topics: Option<Vec<OffsetFetchRequestTopic>>, 1-7, null 2+, default Some(Vec::new());
        groups: Vec<OffsetFetchRequestGroup>, 8+;
        require_stable: bool, 7+;
    }

    /// An element of `topics` in [`Request`].
    pub struct OffsetFetchRequestTopic {
        name: String, 1-7;
        partition_indexes: Vec<i32>, 1-7;
    }

    /// An element of `groups` in [`Request`].
    pub struct OffsetFetchRequestGroup {
        group_id: String, 8+;
        member_id: Option<String>, 9+, null 9+;
        member_epoch: i32, 9+, default -1;
        topics: Option<Vec<OffsetFetchRequestTopics>>, 8+, null 8+, default Some(Vec::new());
    }

    /// An element of `topics` in [`OffsetFetchRequestGroup`].
    pub struct OffsetFetchRequestTopics {
        name: String, 8-9;
        topic_id: Uuid, 10+;
        partition_indexes: Vec<i32>, 8+;
    }

    /// Committed positions, -1 for none.
    pub struct Response versions 1-10 {
        throttle_time_ms: i32, 3+;
        topics: Vec<OffsetFetchResponseTopic>, 1-7;
        error_code: ErrorCode, 2-7;
        groups: Vec<OffsetFetchResponseGroup>, 8+;
    }

    /// An element of `topics` in [`Response`].
    pub struct OffsetFetchResponseTopic {
        name: String, 1-7;
        partitions: Vec<OffsetFetchResponsePartition>, 1-7;
    }

    /// An element of `partitions` in [`OffsetFetchResponseTopic`].
    pub struct OffsetFetchResponsePartition {
        partition_index: i32, 1-7;
        committed_offset: i64, 1-7;
        committed_leader_epoch: i32, 5-7, default -1;
        metadata: Option<String>, 1-7, null 1+, default Some(String::new());
        error_code: ErrorCode, 1-7;
    }

    /// An element of `groups` in [`Response`].
    pub struct OffsetFetchResponseGroup {
        group_id: String, 8+;
        topics: Vec<OffsetFetchResponseTopics>, 8+;
        error_code: ErrorCode, 8+;
    }

    /// An element of `topics` in [`OffsetFetchResponseGroup`].
    pub struct OffsetFetchResponseTopics {
        name: String, 8-9;
        topic_id: Uuid, 10+;
        partitions: Vec<OffsetFetchResponsePartitions>, 8+;
    }

    /// An element of `partitions` in [`OffsetFetchResponseTopics`].
    pub struct OffsetFetchResponsePartitions {
        partition_index: i32, 8+;
        committed_offset: i64, 8+;
        committed_leader_epoch: i32, 8+, default -1;
        metadata: Option<String>, 8+, null 8+, default Some(String::new());
        error_code: ErrorCode, 8+;
    }
}
