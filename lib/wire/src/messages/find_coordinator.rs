//! FindCoordinator, key 10: find a coordinator.
//!
//! Up to version 3 a request has one `key`, from 4 on several.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 3;

    /// Keys whose coordinator is looked for.
    pub struct Request versions 0-6 {
        key: String, 0-3;
        key_type: i8, 1+;
        coordinator_keys: Vec<String>, 4+;
    }

    /// The broker that coordinates each key.
    pub struct Response versions 0-6 {
        throttle_time_ms: i32, 1+;
        error_code: ErrorCode, 0-3;
        error_message: Option<String>, 1-3, null 1+, default Some(String::new());
        node_id: i32, 0-3;
        host: String, 0-3;
        port: i32, 0-3;
        coordinators: Vec<Coordinator>, 4+;
    }

    /// An element of `coordinators` in [`Response`].
    pub struct Coordinator {
        key: String, 4+;
        node_id: i32, 4+;
        host: String, 4+;
        port: i32, 4+;
        error_code: ErrorCode, 4+;
        error_message: Option<String>, 4+, null 4+, default Some(String::new());
    }
}
