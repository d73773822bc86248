//! SyncGroup, key 14: exchange assignments.

use bytes::Bytes;

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 4;

    /// The leader's assignments; empty from other members.
    pub struct Request versions 0-5 {
        group_id: String, 0+;
        generation_id: i32, 0+;
        member_id: String, 0+;
        group_instance_id: Option<String>, 3+, null 3+;
        protocol_type: Option<String>, 5+, null 5+;
        protocol_name: Option<String>, 5+, null 5+;
        assignments: Vec<SyncGroupRequestAssignment>, 0+;
    }

    /// An element of `assignments` in [`Request`].
    pub struct SyncGroupRequestAssignment {
        member_id: String, 0+;
        assignment: Bytes, 0+;
    }

    /// The member's assignment.
    pub struct Response versions 0-5 {
        throttle_time_ms: i32, 1+;
        error_code: ErrorCode, 0+;
        protocol_type: Option<String>, 5+, null 5+;
        protocol_name: Option<String>, 5+, null 5+;
        assignment: Bytes, 0+;
    }
}
