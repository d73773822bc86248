//! CreateTopics, key 19: create topics.

use uuid::Uuid;

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 5;

    /// Topics to create.
    pub struct Request versions 2-7 {
        topics: Vec<CreatableTopic>, 2+;
        timeout_ms: i32, 2+, default 60000;
        validate_only: bool, 2+;
    }

    /// An element of `topics` in [`Request`].
    pub struct CreatableTopic {
        name: String, 2+;
        num_partitions: i32, 2+;
        replication_factor: i16, 2+;
        assignments: Vec<CreatableReplicaAssignment>, 2+;
        configs: Vec<CreatableTopicConfig>, 2+;
    }

    /// An element of `assignments` in [`CreatableTopic`].
    pub struct CreatableReplicaAssignment {
        partition_index: i32, 2+;
        broker_ids: Vec<i32>, 2+;
    }

    /// An element of `configs` in [`CreatableTopic`].
    pub struct CreatableTopicConfig {
        name: String, 2+;
        value: Option<String>, 2+, null 2+, default Some(String::new());
    }

    /// Outcome for each topic.
    pub struct Response versions 2-7 {
        throttle_time_ms: i32, 2+;
        topics: Vec<CreatableTopicResult>, 2+;
    }

    /// An element of `topics` in [`Response`].
    pub struct CreatableTopicResult {
        name: String, 2+;
        topic_id: Uuid, 7+;
        error_code: ErrorCode, 2+;
        error_message: Option<String>, 2+, null 2+, default Some(String::new());
        num_partitions: i32, 5+, default -1;
        replication_factor: i16, 5+, default -1;
        configs: Option<Vec<CreatableTopicConfigs>>, 5+, null 5+, default Some(Vec::new());
        topic_config_error_code: ErrorCode, 5+, tag 0;
    }

    /// An element of `configs` in [`CreatableTopicResult`].
    pub struct CreatableTopicConfigs {
        name: String, 5+;
        value: Option<String>, 5+, null 5+, default Some(String::new());
        read_only: bool, 5+;
        config_source: i8, 5+, default -1;
        is_sensitive: bool, 5+;
    }
}
