//! AlterClientQuotas, key 49: set quotas, or take them away.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 1;

    /// Changes, each of one entity.
    pub struct Request versions 0-1 {
        entries: Vec<EntryData>, 0+;
        validate_only: bool, 0+;
    }

    /// An element of `entries` in [`Request`].
    pub struct EntryData {
        entity: Vec<EntityData>, 0+;
        ops: Vec<OpData>, 0+;
    }

    /// An element of `entity`; a null name is the default.
    pub struct EntityData {
        entity_type: String, 0+;
        entity_name: Option<String>, 0+, null 0+, default Some(String::new());
    }

    /// An element of `ops` in [`EntryData`].
    pub struct OpData {
        key: String, 0+;
        value: f64, 0+;
        remove: bool, 0+;
    }

    /// Outcome for each entity.
    pub struct Response versions 0-1 {
        throttle_time_ms: i32, 0+;
        entries: Vec<EntryResult>, 0+;
    }

    /// An element of `entries` in [`Response`].
    pub struct EntryResult {
        error_code: ErrorCode, 0+;
        error_message: Option<String>, 0+, null 0+, default Some(String::new());
        entity: Vec<EntityData>, 0+;
    }
}
