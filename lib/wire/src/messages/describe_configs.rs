//! DescribeConfigs, key 32: read configs.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 4;

    /// Resources and config names asked for.
    pub struct Request versions 1-4 {
        resources: Vec<DescribeConfigsResource>, 1+;
        include_synonyms: bool, 1+;
        include_documentation: bool, 3+;
    }

    /// An element of `resources` in [`Request`].
    pub struct DescribeConfigsResource {
        resource_type: i8, 1+;
        resource_name: String, 1+;
        configuration_keys: Option<Vec<String>>, 1+, null 1+, default Some(Vec::new());
    }

    /// Configs with their values and where those come from.
    pub struct Response versions 1-4 {
        throttle_time_ms: i32, 1+;
        results: Vec<DescribeConfigsResult>, 1+;
    }

    /// An element of `results` in [`Response`].
    pub struct DescribeConfigsResult {
        error_code: ErrorCode, 1+;
        error_message: Option<String>, 1+, null 1+, default Some(String::new());
        resource_type: i8, 1+;
        resource_name: String, 1+;
        configs: Vec<DescribeConfigsResourceResult>, 1+;
    }

    /// An element of `configs` in [`DescribeConfigsResult`].
    pub struct DescribeConfigsResourceResult {
        name: String, 1+;
        value: Option<String>, 1+, null 1+, default Some(String::new());
        read_only: bool, 1+;
        config_source: i8, 1+, default -1;
        is_sensitive: bool, 1+;
        synonyms: Vec<DescribeConfigsSynonym>, 1+;
        config_type: i8, 3+;
        documentation: Option<String>, 3+, null 1+, default Some(String::new());
    }

    /// An element of `synonyms` in [`DescribeConfigsResourceResult`].
    pub struct DescribeConfigsSynonym {
        name: String, 1+;
        value: Option<String>, 1+, null 1+, default Some(String::new());
        source: i8, 1+;
    }
}
