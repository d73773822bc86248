//! CreatePartitions, key 37: add partitions to topics.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 2;

    /// The partition counts topics shall have.
    pub struct Request versions 0-3 {
        topics: Vec<CreatePartitionsTopic>, 0+;
        timeout_ms: i32, 0+;
        validate_only: bool, 0+;
    }

    /// An element of `topics` in [`Request`].
    pub struct CreatePartitionsTopic {
        name: String, 0+;
        count: i32, 0+;
        assignments: Option<Vec<CreatePartitionsAssignment>>, 0+, null 0+, default Some(Vec::new());
    }

    /// An element of `assignments` in [`CreatePartitionsTopic`].
    pub struct CreatePartitionsAssignment {
        broker_ids: Vec<i32>, 0+;
    }

    /// Outcome for each topic.
    pub struct Response versions 0-3 {
        throttle_time_ms: i32, 0+;
        results: Vec<CreatePartitionsTopicResult>, 0+;
    }

    /// An element of `results` in [`Response`].
    pub struct CreatePartitionsTopicResult {
        name: String, 0+;
        error_code: ErrorCode, 0+;
        error_message: Option<String>, 0+, null 0+;
    }
}
