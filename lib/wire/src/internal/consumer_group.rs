//! A group of the consumer protocol (KIP-848): one record for each thing that changes by itself.

use bytes::Bytes;
use uuid::Uuid;

use crate::message::message;

message! {
    flexible never;

    /// The group's epoch; key version 3.
    pub struct ConsumerGroupMetadataKey versions 3-3 {
        group: String, 3+;
    }

    /// What the group's topics were; key version 4, written by Kafka before 4.1 only.
    pub struct ConsumerGroupPartitionMetadataKey versions 4-4 {
        group: String, 4+;
    }

    /// Who a member is and what it wants; key version 5.
    pub struct ConsumerGroupMemberMetadataKey versions 5-5 {
        group: String, 5+;
        member_id: String, 5+;
    }

    /// The epoch of the target assignment; key version 6.
    pub struct ConsumerGroupTargetAssignmentMetadataKey versions 6-6 {
        group: String, 6+;
    }

    /// What a member is to have; key version 7.
    pub struct ConsumerGroupTargetAssignmentMemberKey versions 7-7 {
        group: String, 7+;
        member_id: String, 7+;
    }

    /// What a member has; key version 8.
    pub struct ConsumerGroupCurrentMemberAssignmentKey versions 8-8 {
        group: String, 8+;
        member_id: String, 8+;
    }

    /// What a regular expression stands for; key version 16.
    pub struct ConsumerGroupRegularExpressionKey versions 16-16 {
        group: String, 16+;
        regular_expression: String, 16+;
    }
}

message! {
    flexible 0;

    /// See [`ConsumerGroupMetadataKey`]. The hash is of the subscribed topics and only compared with itself.
    pub struct ConsumerGroupMetadataValue versions 0-0 {
        epoch: i32, 0+;
        metadata_hash: i64, 0+, tag 0;
    }

    /// See [`ConsumerGroupMemberMetadataKey`].
    pub struct ConsumerGroupMemberMetadataValue versions 0-0 {
        instance_id: Option<String>, 0+, null 0+;
        rack_id: Option<String>, 0+, null 0+;
        client_id: String, 0+;
        client_host: String, 0+;
        subscribed_topic_names: Vec<String>, 0+;
        subscribed_topic_regex: Option<String>, 0+, null 0+;
        rebalance_timeout_ms: i32, 0+, default -1;
        server_assignor: Option<String>, 0+, null 0+;
        classic_member_metadata: Option<ClassicMemberMetadata>, 0+, null 0+, tag 0;
    }

    /// What a member says that joined by the classic protocol.
    pub struct ClassicMemberMetadata versions 0-0 {
        session_timeout_ms: i32, 0+;
        supported_protocols: Vec<ClassicProtocol>, 0+;
    }

    /// See [`ClassicMemberMetadata`].
    pub struct ClassicProtocol versions 0-0 {
        name: String, 0+;
        metadata: Bytes, 0+;
    }

    /// See [`ConsumerGroupTargetAssignmentMetadataKey`].
    pub struct ConsumerGroupTargetAssignmentMetadataValue versions 0-0 {
        assignment_epoch: i32, 0+;
    }

    /// See [`ConsumerGroupTargetAssignmentMemberKey`].
    pub struct ConsumerGroupTargetAssignmentMemberValue versions 0-0 {
        topic_partitions: Vec<AssignedPartitions>, 0+;
    }

    /// See [`ConsumerGroupCurrentMemberAssignmentKey`]. States: 0 stable, 1 unrevoked partitions, 2 unreleased partitions.
    pub struct ConsumerGroupCurrentMemberAssignmentValue versions 0-0 {
        member_epoch: i32, 0+;
        previous_member_epoch: i32, 0+;
        state: i8, 0+;
        assigned_partitions: Vec<AssignedPartitions>, 0+;
        partitions_pending_revocation: Vec<AssignedPartitions>, 0+;
    }

    /// See [`ConsumerGroupRegularExpressionKey`].
    pub struct ConsumerGroupRegularExpressionValue versions 0-0 {
        topics: Vec<String>, 0+;
        version: i64, 0+;
        timestamp: i64, 0+;
    }

    /// Partitions of one topic.
    pub struct AssignedPartitions {
        topic_id: Uuid, 0+;
        partitions: Vec<i32>, 0+;
    }
}

message! { @nullable ClassicMemberMetadata }
