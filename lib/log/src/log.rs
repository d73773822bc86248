//! One partition's log.
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use crate::*;

/// A batch a producer wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchMark {
    pub first_sequence: i32,
    pub last_sequence: i32,
    pub base_offset: i64,
    pub last_offset: i64,
    pub timestamp_ms: i64,
}

/// What a log knows of a producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerState {
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// -1 before the first marker.
    pub coordinator_epoch: i32,
    pub last_timestamp_ms: i64,
    pub current_txn_first_offset: Option<i64>,
    /// The newest at most five, oldest first.
    pub batches: Vec<BatchMark>,
}

#[derive(Debug)]
pub struct Log {}

impl Log {
    pub fn topic(&self) -> &str { todo!() }
    pub fn topic_id(&self) -> Uuid { todo!() }
    pub fn partition(&self) -> i32 { todo!() }
    /// Appends a leader's batches: assigns offsets, writes the epoch, checks producers.
    pub fn append(&self, batches: Bytes, context: AppendContext) -> Result<Appended, AppendError> { todo!() }
    /// Appends a replica's batches: offsets and epochs are kept.
    pub fn append_replica(&self, batches: Bytes, now_ms: i64) -> Result<Appended, AppendError> { todo!() }
    pub fn read(&self, from: i64, max_bytes: usize, at_least_one: bool, upto: i64) -> Result<Slice, ReadError> { todo!() }
    pub fn offsets(&self) -> Offsets { todo!() }
    pub fn bytes_appended(&self) -> u64 { todo!() }
    pub fn durable_bytes(&self) -> u64 { todo!() }
    pub fn lineage(&self) -> Vec<EpochStart> { todo!() }
    pub fn end_for_epoch(&self, epoch: i32) -> EpochEnd { todo!() }
    /// Notes that `epoch` begins at the log end; durable on return. For many logs: `Disk::begin_epochs`.
    pub fn begin_epoch(&self, epoch: i32) -> Result<(), LogError> { todo!() }
    pub fn truncate(&self, epoch: i32, offset: i64) -> Result<Truncated, LogError> { todo!() }
    /// Drops everything and starts empty at `offset` (a replica whose end is below the source's start).
    pub fn reset(&self, offset: i64) -> Result<Truncated, LogError> { todo!() }
    /// First record with a timestamp at or after `timestamp_ms` in the local log.
    pub fn offset_for_timestamp(&self, timestamp_ms: i64) -> Result<Option<TimestampOffset>, ReadError> { todo!() }
    /// The record with the highest timestamp in the local log.
    pub fn max_timestamp(&self) -> Result<Option<TimestampOffset>, ReadError> { todo!() }
    pub fn segments(&self) -> Vec<Segment> { todo!() }
    /// Closes the active segment; false if it is empty.
    pub fn roll(&self) -> Result<bool, LogError> { todo!() }
    pub fn pin(&self, base_offset: i64, dest_dir: &Path) -> Result<Pinned, LogError> { todo!() }
    pub fn free_local_before(&self, offset: i64) -> Result<Freed, LogError> { todo!() }
    pub fn set_log_start(&self, offset: i64) -> Result<Freed, LogError> { todo!() }
    /// Where `set_log_start` may move by retention.ms and retention.bytes; `None`: nothing to delete.
    pub fn retention_start(&self, now_ms: i64) -> Option<i64> { todo!() }
    /// Where `free_local_before` may move by local.retention.*, if all of it is verified in the bucket.
    pub fn local_retention_start(&self, now_ms: i64) -> Option<i64> { todo!() }
    /// Broker time at which the record at `offset` was appended here, never later than the truth.
    pub fn append_time_of(&self, offset: i64) -> Option<i64> { todo!() }
    pub fn producers(&self) -> Vec<ProducerState> { todo!() }
    pub fn producer(&self, producer_id: i64) -> Option<ProducerState> { todo!() }
    /// Forgets producers without an open transaction that wrote nothing since `before_ms`.
    pub fn expire_producers(&self, before_ms: i64) -> usize { todo!() }
    /// Told by the broker; kept in Kafka's replication-offset-checkpoint; bounds `first_unstable_offset`.
    pub fn set_high_watermark(&self, offset: i64) { todo!() }
    pub fn high_watermark(&self) -> i64 { todo!() }
    pub fn first_unstable_offset(&self) -> Option<i64> { todo!() }
    /// Aborted transactions that touch `from..upto`, for read_committed.
    pub fn aborted(&self, from: i64, upto: i64) -> Result<Vec<AbortedTxn>, ReadError> { todo!() }
    pub fn health(&self) -> Health { todo!() }
    /// Moves damaged files to `quarantine/`, cuts the log before the damage: Good again, to be refilled by replication.
    pub fn set_aside_damage(&self) -> Result<Truncated, LogError> { todo!() }
    pub fn config(&self) -> Arc<LogConfig> { todo!() }
    pub fn set_config(&self, config: LogConfig) { todo!() }
}
