//! DeleteGroups, key 42: delete groups.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 2;

    /// Groups to delete.
    pub struct Request versions 0-2 {
        groups_names: Vec<String>, 0+;
    }

    /// Outcome for each group.
    pub struct Response versions 0-2 {
        throttle_time_ms: i32, 0+;
        results: Vec<DeletableGroupResult>, 0+;
    }

    /// An element of `results` in [`Response`].
    pub struct DeletableGroupResult {
        group_id: String, 0+;
        error_code: ErrorCode, 0+;
    }
}
