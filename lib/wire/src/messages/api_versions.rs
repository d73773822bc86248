//! ApiVersions, key 18: what the broker speaks.
//!
//! A client sends this before it knows the broker; the response header is always of version 0.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 3;

    /// Which client asks.
    pub struct Request versions 0-4 {
        client_software_name: String, 3+;
        client_software_version: String, 3+;
    }

    /// APIs with their versions, and features.
    pub struct Response versions 0-4 {
        error_code: ErrorCode, 0+;
        api_keys: Vec<ApiVersion>, 0+;
        throttle_time_ms: i32, 1+;
        supported_features: Vec<SupportedFeatureKey>, 3+, tag 0;
        finalized_features_epoch: i64, 3+, tag 1, default -1;
        finalized_features: Vec<FinalizedFeatureKey>, 3+, tag 2;
        zk_migration_ready: bool, 3+, tag 3;
    }

    /// An element of `api_keys` in [`Response`].
    pub struct ApiVersion {
        api_key: i16, 0+;
        min_version: i16, 0+;
        max_version: i16, 0+;
    }

    /// An element of `supported_features` in [`Response`].
    pub struct SupportedFeatureKey {
        name: String, 3+;
        min_version: i16, 3+;
        max_version: i16, 3+;
    }

    /// An element of `finalized_features` in [`Response`].
    pub struct FinalizedFeatureKey {
        name: String, 3+;
        max_version_level: i16, 3+;
        min_version_level: i16, 3+;
    }
}
