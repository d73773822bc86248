//! UpdateFeatures, key 57: finalize feature levels.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 0;

    /// Features with their new levels.
    pub struct Request versions 0-2 {
        timeout_ms: i32, 0+, default 60_000;
        feature_updates: Vec<FeatureUpdateKey>, 0+;
        validate_only: bool, 1+;
    }

    /// An element of `feature_updates` in [`Request`].
    pub struct FeatureUpdateKey {
        feature: String, 0+;
        max_version_level: i16, 0+;
        allow_downgrade: bool, 0-0;
        upgrade_type: i8, 1+, default 1;
    }

    /// Outcome of all, and up to version 1 of each.
    pub struct Response versions 0-2 {
        throttle_time_ms: i32, 0+;
        error_code: ErrorCode, 0+;
        error_message: Option<String>, 0+, null 0+, default Some(String::new());
        results: Vec<UpdatableFeatureResult>, 0-1;
    }

    /// An element of `results` in [`Response`].
    pub struct UpdatableFeatureResult {
        feature: String, 0+;
        error_code: ErrorCode, 0+;
        error_message: Option<String>, 0+, null 0+, default Some(String::new());
    }
}
