//! Topic configs: names, types and defaults are Kafka's (`TopicConfig`); what is not listed is refused.
//!
//! `segment.bytes` is taken from 1 KiB on (Kafka: 14 bytes, since 4.0 1 MiB), so that tests and tours get
//! closed segments from little data. Durations are milliseconds, -1 is "no limit" where Kafka has it so,
//! and -2 for `local.*` means "as retention".

use std::collections::BTreeMap;

use whimbrel_log::{CleanupPolicy, LogConfig, TimestampType};

/// Kafka's `ConfigDef.Type` as DescribeConfigs numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Boolean = 1,
    String = 2,
    Int = 3,
    Long = 5,
    Double = 6,
    List = 7,
}

/// A config that may be set on a topic.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub name: &'static str,
    pub kind: Kind,
    pub default: &'static str,
    valid: fn(&str) -> bool,
}

const MAX_LONG: &str = "9223372036854775807";

fn number(value: &str, least: i64, most: i64) -> bool {
    value
        .parse::<i64>()
        .is_ok_and(|n| (least..=most).contains(&n))
}

fn one_of(value: &str, allowed: &[&str]) -> bool {
    value.split(',').all(|part| allowed.contains(&part.trim()))
}

const INT: i64 = i32::MAX as i64;

/// All topic configs, by name.
pub const ENTRIES: &[Entry] = &[
    Entry {
        name: "cleanup.policy",
        kind: Kind::List,
        default: "delete",
        valid: |v| one_of(v, &["compact", "delete"]),
    },
    Entry {
        name: "compression.type",
        kind: Kind::String,
        default: "producer",
        valid: |v| ["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"].contains(&v),
    },
    Entry {
        name: "delete.retention.ms",
        kind: Kind::Long,
        default: "86400000",
        valid: |v| number(v, 0, i64::MAX),
    },
    Entry {
        name: "file.delete.delay.ms",
        kind: Kind::Long,
        default: "60000",
        valid: |v| number(v, 0, i64::MAX),
    },
    Entry {
        name: "flush.messages",
        kind: Kind::Long,
        default: "1",
        valid: |v| number(v, 1, i64::MAX),
    },
    Entry {
        name: "flush.ms",
        kind: Kind::Long,
        default: MAX_LONG,
        valid: |v| number(v, 0, i64::MAX),
    },
    Entry {
        name: "index.interval.bytes",
        kind: Kind::Int,
        default: "4096",
        valid: |v| number(v, 0, INT),
    },
    Entry {
        name: "local.retention.bytes",
        kind: Kind::Long,
        default: "-2",
        valid: |v| number(v, -2, i64::MAX),
    },
    Entry {
        name: "local.retention.ms",
        kind: Kind::Long,
        default: "-2",
        valid: |v| number(v, -2, i64::MAX),
    },
    Entry {
        name: "max.compaction.lag.ms",
        kind: Kind::Long,
        default: MAX_LONG,
        valid: |v| number(v, 1, i64::MAX),
    },
    // A batch must fit a frame of the replica stream with room to spare.
    Entry {
        name: "max.message.bytes",
        kind: Kind::Int,
        default: "1048588",
        valid: |v| number(v, 0, 32 << 20),
    },
    Entry {
        name: "message.timestamp.after.max.ms",
        kind: Kind::Long,
        default: MAX_LONG,
        valid: |v| number(v, 0, i64::MAX),
    },
    Entry {
        name: "message.timestamp.before.max.ms",
        kind: Kind::Long,
        default: MAX_LONG,
        valid: |v| number(v, 0, i64::MAX),
    },
    Entry {
        name: "message.timestamp.type",
        kind: Kind::String,
        default: "CreateTime",
        valid: |v| ["CreateTime", "LogAppendTime"].contains(&v),
    },
    Entry {
        name: "min.cleanable.dirty.ratio",
        kind: Kind::Double,
        default: "0.5",
        valid: |v| v.parse::<f64>().is_ok_and(|r| (0.0..=1.0).contains(&r)),
    },
    Entry {
        name: "min.compaction.lag.ms",
        kind: Kind::Long,
        default: "0",
        valid: |v| number(v, 0, i64::MAX),
    },
    Entry {
        name: "min.insync.replicas",
        kind: Kind::Int,
        default: "1",
        valid: |v| number(v, 1, INT),
    },
    Entry {
        name: "preallocate",
        kind: Kind::Boolean,
        default: "false",
        valid: |v| ["true", "false"].contains(&v),
    },
    Entry {
        name: "remote.storage.enable",
        kind: Kind::Boolean,
        default: "true",
        valid: |v| ["true", "false"].contains(&v),
    },
    Entry {
        name: "retention.bytes",
        kind: Kind::Long,
        default: "-1",
        valid: |v| number(v, -1, i64::MAX),
    },
    Entry {
        name: "retention.ms",
        kind: Kind::Long,
        default: "604800000",
        valid: |v| number(v, -1, i64::MAX),
    },
    Entry {
        name: "segment.bytes",
        kind: Kind::Int,
        default: "1073741824",
        valid: |v| number(v, 1024, INT),
    },
    Entry {
        name: "segment.index.bytes",
        kind: Kind::Int,
        default: "10485760",
        valid: |v| number(v, 4, INT),
    },
    Entry {
        name: "segment.jitter.ms",
        kind: Kind::Long,
        default: "0",
        valid: |v| number(v, 0, i64::MAX),
    },
    Entry {
        name: "segment.ms",
        kind: Kind::Long,
        default: "604800000",
        valid: |v| number(v, 1, i64::MAX),
    },
    Entry {
        name: "unclean.leader.election.enable",
        kind: Kind::Boolean,
        default: "false",
        valid: |v| v == "false",
    },
];

/// Why a config is refused, in words for the client.
pub fn refuse(name: &str, value: &str) -> Option<String> {
    match ENTRIES.iter().find(|e| e.name == name) {
        None => Some(format!("Unknown topic config name: {name}")),
        Some(entry) if !(entry.valid)(value) => {
            Some(format!("Invalid value {value} for configuration {name}"))
        }
        Some(_) => None,
    }
}

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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_valid_and_names_rise() {
        for entry in ENTRIES {
            assert!(
                refuse(entry.name, entry.default).is_none(),
                "{}",
                entry.name
            );
        }
        assert!(ENTRIES.windows(2).all(|w| w[0].name < w[1].name));
    }

    #[test]
    fn defaults_give_the_default_log_config() {
        let all = ENTRIES
            .iter()
            .map(|e| (e.name.to_owned(), e.default.to_owned()))
            .collect();
        assert_eq!(log_config(&all), LogConfig::default());
        assert_eq!(log_config(&BTreeMap::new()), LogConfig::default());
    }

    #[test]
    fn unknown_names_and_values_out_of_range_are_refused() {
        assert!(refuse("sasl.jaas.config", "x").is_some());
        assert!(refuse("segment.bytes", "1023").is_some());
        assert!(refuse("segment.bytes", "1024").is_none());
        assert!(refuse("cleanup.policy", "compact,delete").is_none());
        assert!(refuse("cleanup.policy", "compact;rm").is_some());
        assert!(refuse("retention.ms", "99999999999999999999").is_some());
    }
}
