//! ListConfigResources, key 74: what has configs. Version 0 knows client metrics only (KIP-714), 1 all types (KIP-1142).

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 0;

    /// Types asked for, none for all.
    pub struct Request versions 0-1 {
        resource_types: Vec<i8>, 1+;
    }

    /// Names, each with its type.
    pub struct Response versions 0-1 {
        throttle_time_ms: i32, 0+;
        error_code: ErrorCode, 0+;
        config_resources: Vec<ConfigResource>, 0+;
    }

    /// An element of `config_resources` in [`Response`].
    pub struct ConfigResource {
        resource_name: String, 0+;
        resource_type: i8, 1+, default 16;
    }
}
