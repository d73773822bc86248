//! ConsumerGroupDescribe, key 69: groups of the consumer protocol with their members (KIP-848).

use uuid::Uuid;

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 0;

    /// Which groups.
    pub struct Request versions 0-1 {
        group_ids: Vec<String>, 0+;
        include_authorized_operations: bool, 0+;
    }

    /// The groups, in the order asked for.
    pub struct Response versions 0-1 {
        throttle_time_ms: i32, 0+;
        groups: Vec<DescribedGroup>, 0+;
    }

    /// An element of `groups` in [`Response`].
    pub struct DescribedGroup {
        error_code: ErrorCode, 0+;
        error_message: Option<String>, 0+, null 0+;
        group_id: String, 0+;
        group_state: String, 0+;
        group_epoch: i32, 0+;
        assignment_epoch: i32, 0+;
        assignor_name: String, 0+;
        members: Vec<Member>, 0+;
        authorized_operations: i32, 0+, default i32::MIN;
    }

    /// An element of `members` in [`DescribedGroup`].
    pub struct Member {
        member_id: String, 0+;
        instance_id: Option<String>, 0+, null 0+;
        rack_id: Option<String>, 0+, null 0+;
        member_epoch: i32, 0+;
        client_id: String, 0+;
        client_host: String, 0+;
        subscribed_topic_names: Vec<String>, 0+;
        subscribed_topic_regex: Option<String>, 0+, null 0+;
        assignment: Assignment, 0+;
        target_assignment: Assignment, 0+;
        member_type: i8, 1+, default -1;
    }

    /// What a member has, or is to have.
    pub struct Assignment {
        topic_partitions: Vec<TopicPartitions>, 0+;
    }

    /// Partitions of one topic.
    pub struct TopicPartitions {
        topic_id: Uuid, 0+;
        topic_name: String, 0+;
        partitions: Vec<i32>, 0+;
    }
}
