//! AlterConfigs, key 33: replace configs.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 2;

    /// All configs each resource shall have.
    pub struct Request versions 0-2 {
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
        value: Option<String>, 0+, null 0+, default Some(String::new());
    }

    /// Outcome for each resource.
    pub struct Response versions 0-2 {
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
