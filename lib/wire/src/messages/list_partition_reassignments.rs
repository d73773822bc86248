//! ListPartitionReassignments, key 46: which partitions change their brokers now.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 0;

    /// Partitions asked for, null for all.
    pub struct Request versions 0-0 {
        timeout_ms: i32, 0+, default 60_000;
        topics: Option<Vec<ListPartitionReassignmentsTopics>>, 0+, null 0+, default None;
    }

    /// An element of `topics` in [`Request`].
    pub struct ListPartitionReassignmentsTopics {
        name: String, 0+;
        partition_indexes: Vec<i32>, 0+;
    }

    /// Those under way.
    pub struct Response versions 0-0 {
        throttle_time_ms: i32, 0+;
        error_code: ErrorCode, 0+;
        error_message: Option<String>, 0+, null 0+, default Some(String::new());
        topics: Vec<OngoingTopicReassignment>, 0+;
    }

    /// An element of `topics` in [`Response`].
    pub struct OngoingTopicReassignment {
        name: String, 0+;
        partitions: Vec<OngoingPartitionReassignment>, 0+;
    }

    /// An element of `partitions` in [`OngoingTopicReassignment`].
    pub struct OngoingPartitionReassignment {
        partition_index: i32, 0+;
        replicas: Vec<i32>, 0+;
        adding_replicas: Vec<i32>, 0+;
        removing_replicas: Vec<i32>, 0+;
    }
}
