//! IncrementalAlterConfigs, key 44: change single configs.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 1;

    /// Configs to set, delete, append to or subtract from.
    pub struct Request versions 0-1 {
        resources: Vec<AlterConfigsResource>, 0+;
        validate_only: bool, 0+;
    }

    /// An element of `resources` in [`Request`].
    pub struct AlterConfigsResource {
        resource_type: i8, 0+;
        resource_name: String, 0+;
        configs: Vec<AlterableConfig>, 0+;
    }

    /// An element of `configs` in [`AlterConfigsResource`].
    pub struct AlterableConfig {
        name: String, 0+;
        config_operation: i8, 0+;
        value: Option<String>, 0+, null 0+, default Some(String::new());
    }

    /// Outcome for each resource.
    pub struct Response versions 0-1 {
        throttle_time_ms: i32, 0+;
        responses: Vec<AlterConfigsResourceResponse>, 0+;
    }

    /// An element of `responses` in [`Response`].
    pub struct AlterConfigsResourceResponse {
        error_code: ErrorCode, 0+;
        error_message: Option<String>, 0+, null 0+, default Some(String::new());
        resource_type: i8, 0+;
        resource_name: String, 0+;
    }
}
