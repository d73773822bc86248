//! DescribeClientQuotas, key 48: which quotas stand for whom.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 1;

    /// Which entities are asked for.
    pub struct Request versions 0-1 {
        components: Vec<ComponentData>, 0+;
        strict: bool, 0+;
    }

    /// An element of `components` in [`Request`]. `match_type` is 0 for the name in `match_name`, 1 for the default, 2
    /// for any name.
    pub struct ComponentData {
        entity_type: String, 0+;
        match_type: i8, 0+;
        match_name: Option<String>, 0+, null 0+, default Some(String::new());
    }

    /// Entities with their quotas; `entries` is null with an error.
    pub struct Response versions 0-1 {
        throttle_time_ms: i32, 0+;
        error_code: ErrorCode, 0+;
        error_message: Option<String>, 0+, null 0+, default Some(String::new());
        entries: Option<Vec<EntryData>>, 0+, null 0+, default Some(Vec::new());
    }

    /// An element of `entries` in [`Response`].
    pub struct EntryData {
        entity: Vec<EntityData>, 0+;
        values: Vec<ValueData>, 0+;
    }

    /// An element of `entity` in [`EntryData`]; a null name is the default.
    pub struct EntityData {
        entity_type: String, 0+;
        entity_name: Option<String>, 0+, null 0+, default Some(String::new());
    }

    /// An element of `values` in [`EntryData`].
    pub struct ValueData {
        key: String, 0+;
        value: f64, 0+;
    }
}
