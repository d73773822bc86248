//! Heartbeat, key 12: stay in a classic group.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 4;

    /// A sign of life.
    pub struct Request versions 0-4 {
        group_id: String, 0+;
        generation_id: i32, 0+;
        member_id: String, 0+;
        group_instance_id: Option<String>, 3+, null 3+;
    }

    /// Whether the member should join again.
    pub struct Response versions 0-4 {
        throttle_time_ms: i32, 1+;
        error_code: ErrorCode, 0+;
    }
}
