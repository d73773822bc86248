//! ListGroups, key 16: list groups.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 3;

    /// States and types to list.
    pub struct Request versions 0-5 {
        states_filter: Vec<String>, 4+;
        types_filter: Vec<String>, 5+;
    }

    /// The groups this broker coordinates.
    pub struct Response versions 0-5 {
        throttle_time_ms: i32, 1+;
        error_code: ErrorCode, 0+;
        groups: Vec<ListedGroup>, 0+;
    }

    /// An element of `groups` in [`Response`].
    pub struct ListedGroup {
        group_id: String, 0+;
        protocol_type: String, 0+;
        group_state: String, 4+;
        group_type: String, 5+;
    }
}
