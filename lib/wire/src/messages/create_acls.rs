//! CreateAcls, key 30: allow or deny something to somebody.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 2;

    /// The ACLs to add.
    pub struct Request versions 1-3 {
        creations: Vec<AclCreation>, 1+;
    }

    /// An element of `creations` in [`Request`].
    pub struct AclCreation {
        resource_type: i8, 1+;
        resource_name: String, 1+;
        resource_pattern_type: i8, 1+, default 3;
        principal: String, 1+;
        host: String, 1+;
        operation: i8, 1+;
        permission_type: i8, 1+;
    }

    /// Outcome for each, in the request's order.
    pub struct Response versions 1-3 {
        throttle_time_ms: i32, 1+;
        results: Vec<AclCreationResult>, 1+;
    }

    /// An element of `results` in [`Response`].
    pub struct AclCreationResult {
        error_code: ErrorCode, 1+;
        error_message: Option<String>, 1+, null 1+, default Some(String::new());
    }
}
