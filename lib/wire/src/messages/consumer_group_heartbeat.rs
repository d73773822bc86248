//! ConsumerGroupHeartbeat, key 68: the one request of the consumer group protocol (KIP-848).
//!
//! Epoch 0 joins, -1 leaves, -2 is a static member that will come back. A field that did not change since the last
//! heartbeat is left out (null, or -1).

use uuid::Uuid;

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 0;

    /// What a member is, wants and owns.
    pub struct Request versions 0-1 {
        group_id: String, 0+;
        member_id: String, 0+;
        member_epoch: i32, 0+;
        instance_id: Option<String>, 0+, null 0+;
        rack_id: Option<String>, 0+, null 0+;
        rebalance_timeout_ms: i32, 0+, default -1;
        subscribed_topic_names: Option<Vec<String>>, 0+, null 0+;
        subscribed_topic_regex: Option<String>, 1+, null 1+;
        server_assignor: Option<String>, 0+, null 0+;
        topic_partitions: Option<Vec<TopicPartitions>>, 0+, null 0+;
    }

    /// Partitions of one topic.
    pub struct TopicPartitions {
        topic_id: Uuid, 0+;
        partitions: Vec<i32>, 0+;
    }

    /// The member's epoch, and its assignment if that is news to it.
    pub struct Response versions 0-1 {
        throttle_time_ms: i32, 0+;
        error_code: ErrorCode, 0+;
        error_message: Option<String>, 0+, null 0+;
        member_id: Option<String>, 0+, null 0+;
        member_epoch: i32, 0+;
        heartbeat_interval_ms: i32, 0+;
        assignment: Option<Assignment>, 0+, null 0+;
    }

    /// What the member may use from now on.
    pub struct Assignment {
        topic_partitions: Vec<TopicPartitions>, 0+;
    }
}

message! { @nullable Assignment }
