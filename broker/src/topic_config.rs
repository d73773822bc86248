//! What a topic's configs mean to its logs. Which configs there are is `whimbrel_fleet::topic_config`'s to say.

use std::collections::BTreeMap;

use whimbrel_fleet::{Topic, topic_config::FLUSH_MESSAGES};
use whimbrel_log::{CleanupPolicy, LogConfig, TimestampType};

use crate::partition::SYNCED;

/// The log's part of a topic's configs. Values were checked when they were set; one that cannot be read
/// all the same counts as not set.
pub fn log_config(configs: &BTreeMap<String, String>) -> LogConfig {
    let number = |name: &str| configs.get(name).and_then(|v| v.parse::<i64>().ok());
    let size = |name: &str| number(name).and_then(|n| u64::try_from(n).ok());
    let default = LogConfig::default();
    LogConfig {
        segment_bytes: size("segment.bytes").unwrap_or(default.segment_bytes),
        segment_ms: number("segment.ms").unwrap_or(default.segment_ms),
        index_interval_bytes: size("index.interval.bytes").unwrap_or(default.index_interval_bytes),
        segment_index_bytes: size("segment.index.bytes").unwrap_or(default.segment_index_bytes),
        max_message_bytes: size("max.message.bytes").unwrap_or(default.max_message_bytes),
        retention_ms: number("retention.ms")
            .map_or(default.retention_ms, |ms| (ms >= 0).then_some(ms)),
        retention_bytes: size("retention.bytes"),
        local_retention_ms: number("local.retention.ms").filter(|ms| *ms >= 0),
        local_retention_bytes: size("local.retention.bytes"),
        cleanup_policy: configs
            .get("cleanup.policy")
            .map_or(default.cleanup_policy, |v| CleanupPolicy {
                delete: v.split(',').any(|p| p.trim() == "delete"),
                compact: v.split(',').any(|p| p.trim() == "compact"),
            }),
        message_timestamp_type: match configs.get("message.timestamp.type").map(String::as_str) {
            Some("LogAppendTime") => TimestampType::LogAppendTime,
            _ => TimestampType::CreateTime,
        },
        message_timestamp_before_max_ms: number("message.timestamp.before.max.ms")
            .unwrap_or(default.message_timestamp_before_max_ms),
        message_timestamp_after_max_ms: number("message.timestamp.after.max.ms")
            .unwrap_or(default.message_timestamp_after_max_ms),
        segment_jitter_ms: number("segment.jitter.ms").unwrap_or(default.segment_jitter_ms),
        min_compaction_lag_ms: number("min.compaction.lag.ms")
            .unwrap_or(default.min_compaction_lag_ms),
        max_compaction_lag_ms: number("max.compaction.lag.ms")
            .unwrap_or(default.max_compaction_lag_ms),
        min_cleanable_dirty_ppm: configs
            .get("min.cleanable.dirty.ratio")
            .and_then(|v| v.parse::<f64>().ok())
            .filter(|ratio| (0.0..=1.0).contains(ratio))
            .map_or(default.min_cleanable_dirty_ppm, |ratio| {
                (ratio * 1e6) as u32
            }),
        delete_retention_ms: number("delete.retention.ms").unwrap_or(default.delete_retention_ms),
    }
}

/// A higher bound counts as this one: what a power cut may take stays a number that means something.
const MOST_UNSYNCED: i64 = 1_000_000;

/// `flush.messages`: fewer records than this may be acknowledged and not synced. Only the topic's own value counts.
pub fn unsynced_bound(topic: &Topic) -> i64 {
    let own = topic.configs.get(FLUSH_MESSAGES);
    let bound = own.and_then(|value| value.parse::<i64>().ok());
    match (topic.internal, bound) {
        (false, Some(bound)) => bound.clamp(SYNCED, MOST_UNSYNCED),
        _ => SYNCED,
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_fleet::topic_config::ENTRIES;

    use super::*;

    #[test]
    fn defaults_give_the_default_log_config() {
        let all = ENTRIES
            .iter()
            .map(|e| (e.name.to_owned(), e.default.to_owned()))
            .collect();
        assert_eq!(log_config(&all), LogConfig::default());
        assert_eq!(log_config(&BTreeMap::new()), LogConfig::default());
    }
}
