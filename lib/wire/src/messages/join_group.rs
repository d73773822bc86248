//! JoinGroup, key 11: join a classic group.

use bytes::Bytes;

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 6;

    /// A member and the protocols it can speak.
    pub struct Request versions 0-9 {
        group_id: String, 0+;
        session_timeout_ms: i32, 0+;
        rebalance_timeout_ms: i32, 1+, default -1;
        member_id: String, 0+;
        group_instance_id: Option<String>, 5+, null 5+;
        protocol_type: String, 0+;
        protocols: Vec<JoinGroupRequestProtocol>, 0+;
        reason: Option<String>, 8+, null 8+;
    }

    /// An element of `protocols` in [`Request`].
    pub struct JoinGroupRequestProtocol {
        name: String, 0+;
        metadata: Bytes, 0+;
    }

    /// The generation, and for the leader its members.
    pub struct Response versions 0-9 {
        throttle_time_ms: i32, 2+;
        error_code: ErrorCode, 0+;
        generation_id: i32, 0+, default -1;
        protocol_type: Option<String>, 7+, null 7+;
        protocol_name: Option<String>, 0+, null 7+, default Some(String::new());
        leader: String, 0+;
        skip_assignment: bool, 9+;
        member_id: String, 0+;
        members: Vec<JoinGroupResponseMember>, 0+;
    }

    /// An element of `members` in [`Response`].
    pub struct JoinGroupResponseMember {
        member_id: String, 0+;
        group_instance_id: Option<String>, 5+, null 5+;
        metadata: Bytes, 0+;
    }
}
