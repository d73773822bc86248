//! What a topic's configuration says to its logs. Data only; the names and defaults are Kafka's
//! (`TopicConfig`, `LogConfig`), so that a described topic reads the same here and there.

/// `message.timestamp.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampType {
    /// The producer's time is kept.
    #[default]
    CreateTime,
    /// The broker's time replaces it on append; the batch's CRC is computed again.
    LogAppendTime,
}

/// `cleanup.policy`: both flags may be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupPolicy {
    pub delete: bool,
    pub compact: bool,
}

impl Default for CleanupPolicy {
    fn default() -> Self {
        CleanupPolicy {
            delete: true,
            compact: false,
        }
    }
}

/// Configuration of one log. `Default` is Kafka's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// A segment is rolled before it would pass this.
    pub segment_bytes: u64,
    /// A segment is rolled once its first batch is older than this.
    pub segment_ms: i64,
    /// At most one index entry per this many bytes.
    pub index_interval_bytes: u64,
    /// A segment is rolled when one of its indexes reaches this.
    pub segment_index_bytes: u64,
    /// Largest batch a leader takes.
    pub max_message_bytes: u64,
    /// Age at which a segment may go, `None` = never.
    pub retention_ms: Option<i64>,
    /// Size above which the oldest segments may go, `None` = no bound.
    pub retention_bytes: Option<u64>,
    /// As `retention_ms`, for the local copy of a tiered log; `None` = as `retention_ms`.
    pub local_retention_ms: Option<i64>,
    /// As `retention_bytes`, for the local copy of a tiered log; `None` = as `retention_bytes`.
    pub local_retention_bytes: Option<u64>,
    pub cleanup_policy: CleanupPolicy,
    pub message_timestamp_type: TimestampType,
    /// How much older than the broker's clock a record's timestamp may be, and how much newer.
    pub message_timestamp_before_max_ms: i64,
    pub message_timestamp_after_max_ms: i64,
    /// Taken from `segment_ms` by chance, so that segments of many partitions do not roll together.
    pub segment_jitter_ms: i64,
    /// Compaction: records younger than this stay,
    pub min_compaction_lag_ms: i64,
    /// records older than this are cleaned however clean the log is,
    pub max_compaction_lag_ms: i64,
    /// else a log is cleaned once this part of it, in millionths, is dirty.
    pub min_cleanable_dirty_ppm: u32,
    /// How long readers have to see a tombstone.
    pub delete_retention_ms: i64,
}

const WEEK_MS: i64 = 7 * 24 * 60 * 60 * 1000;

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig {
            segment_bytes: 1 << 30,
            segment_ms: WEEK_MS,
            index_interval_bytes: 4096,
            segment_index_bytes: 10 << 20,
            max_message_bytes: 1_048_588,
            retention_ms: Some(WEEK_MS),
            retention_bytes: None,
            local_retention_ms: None,
            local_retention_bytes: None,
            cleanup_policy: CleanupPolicy::default(),
            message_timestamp_type: TimestampType::CreateTime,
            message_timestamp_before_max_ms: i64::MAX,
            message_timestamp_after_max_ms: 3_600_000,
            segment_jitter_ms: 0,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            min_cleanable_dirty_ppm: 500_000,
            delete_retention_ms: 24 * 60 * 60 * 1000,
        }
    }
}

impl LogConfig {
    /// Age of its first batch at which a segment is rolled: a compacted log's active segment, which is
    /// never cleaned, holds no record longer than `max.compaction.lag.ms`.
    pub fn max_segment_ms(&self) -> i64 {
        if self.cleanup_policy.compact {
            self.segment_ms.min(self.max_compaction_lag_ms)
        } else {
            self.segment_ms
        }
    }
}
