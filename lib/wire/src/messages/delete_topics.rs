//! DeleteTopics, key 20: delete topics.
//!
//! Up to version 5 by name (`topic_names`), in 6 by name or id (`topics`).

use uuid::Uuid;

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 4;

    /// Topics to delete.
    pub struct Request versions 1-6 {
        topics: Vec<DeleteTopicState>, 6+;
        topic_names: Vec<String>, 1-5;
        timeout_ms: i32, 1+;
    }

    /// An element of `topics` in [`Request`].
    pub struct DeleteTopicState {
        name: Option<String>, 6+, null 6+;
        topic_id: Uuid, 6+;
    }

    /// Outcome for each topic.
    pub struct Response versions 1-6 {
        throttle_time_ms: i32, 1+;
        responses: Vec<DeletableTopicResult>, 1+;
    }

    /// An element of `responses` in [`Response`].
    pub struct DeletableTopicResult {
        name: Option<String>, 1+, null 6+, default Some(String::new());
        topic_id: Uuid, 6+;
        error_code: ErrorCode, 1+;
        error_message: Option<String>, 5+, null 5+;
    }
}
