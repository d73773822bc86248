//! A classic group: its generation and members.

use bytes::Bytes;

use crate::message::message;

message! {
    flexible never;

    /// Which group.
    pub struct GroupMetadataKey versions 2-2 {
        group: String, 2+;
    }
}

message! {
    flexible 4;

    /// The group's state after its last rebalance.
    pub struct GroupMetadataValue versions 0-4 {
        protocol_type: String, 0+;
        generation: i32, 0+;
        protocol: Option<String>, 0+, null 0+, default Some(String::new());
        leader: Option<String>, 0+, null 0+, default Some(String::new());
        current_state_timestamp: i64, 2+, default -1;
        members: Vec<MemberMetadata>, 0+;
    }

    /// A member, with what it subscribed to and what it was assigned (opaque to brokers).
    pub struct MemberMetadata {
        member_id: String, 0+;
        group_instance_id: Option<String>, 3+, null 3+;
        client_id: String, 0+;
        client_host: String, 0+;
        rebalance_timeout: i32, 1+, default -1;
        session_timeout: i32, 0+;
        subscription: Bytes, 0+;
        assignment: Bytes, 0+;
    }
}
