//! LeaveGroup, key 13: leave a classic group.
//!
//! Up to version 2 one member leaves (`member_id`), from 3 on several may.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 4;

    /// Members that leave.
    pub struct Request versions 0-5 {
        group_id: String, 0+;
        member_id: String, 0-2;
        members: Vec<MemberIdentity>, 3+;
    }

    /// An element of `members` in [`Request`].
    pub struct MemberIdentity {
        member_id: String, 3+;
        group_instance_id: Option<String>, 3+, null 3+;
        reason: Option<String>, 5+, null 5+;
    }

    /// Outcome for each member.
    pub struct Response versions 0-5 {
        throttle_time_ms: i32, 1+;
        error_code: ErrorCode, 0+;
        members: Vec<MemberResponse>, 3+;
    }

    /// An element of `members` in [`Response`].
    pub struct MemberResponse {
        member_id: String, 3+;
        group_instance_id: Option<String>, 3+, null 3+, default Some(String::new());
        error_code: ErrorCode, 3+;
    }
}
