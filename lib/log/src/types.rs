//! What the operations of a log take and return. Data only.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

/// Under what conditions a leader appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendContext {
    /// Written into the batches; not below the log's newest epoch.
    pub leader_epoch: i32,
    pub now_ms: i64,
    /// The promotion offset of the partition's newest lossy move: a producer whose newest batch lies
    /// below it may jump over sequences once.
    pub lossy_promotion: Option<i64>,
}

impl AppendContext {
    /// An append in a partition that never saw a lossy move.
    pub fn new(leader_epoch: i32, now_ms: i64) -> Self {
        AppendContext {
            leader_epoch,
            now_ms,
            lossy_promotion: None,
        }
    }
}

/// An append that succeeded. Not durable until a sync that began afterwards has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: i64,
    pub last_offset: i64,
    /// 0 for a duplicate.
    pub bytes: usize,
    /// The batch is in the log already, at `base_offset`; nothing was written.
    pub duplicate: bool,
    /// The timestamp the batches got under LogAppendTime, else -1.
    pub append_time_ms: i64,
}

/// Whole batches read from a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    pub records: Bytes,
    /// Where the next read goes on; the asked offset if `records` is empty.
    pub next_offset: i64,
}

/// The bounds of a log: `log_start <= local_log_start`, `durable_end <= log_end`. Ends are exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offsets {
    pub log_start: i64,
    /// `None` while the stored start is lost and nobody has told it again: `log_start` is then only where reads
    /// begin here, and not to be told to anybody as where the log begins.
    pub known_log_start: Option<i64>,
    pub local_log_start: i64,
    pub durable_end: i64,
    pub log_end: i64,
}

/// What a truncation removed: offsets `to..from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncated {
    /// Log end before.
    pub from: i64,
    /// Log end after.
    pub to: i64,
}

/// A segment of the local log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub base_offset: i64,
    /// Exclusive.
    pub end_offset: i64,
    pub bytes: u64,
    /// -1 without a timestamp.
    pub max_timestamp_ms: i64,
    /// No more appends go here.
    pub closed: bool,
    /// The `.log` file.
    pub path: PathBuf,
}

/// Hard links to the files of one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    pub segment: Segment,
    pub log: PathBuf,
    pub index: Option<PathBuf>,
    pub timeindex: Option<PathBuf>,
    pub txnindex: Option<PathBuf>,
    /// Producer snapshot at the segment's base offset.
    pub snapshot: Option<PathBuf>,
    pub appendtime: Option<PathBuf>,
}

/// What `free_local_before` and `set_log_start` deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freed {
    pub segments: usize,
    pub bytes: u64,
    pub local_log_start: i64,
}

/// A record found by its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampOffset {
    pub timestamp_ms: i64,
    pub offset: i64,
    /// -1 where unknown.
    pub leader_epoch: i32,
}

/// An aborted transaction (Kafka's `.txnindex` entry).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTxn {
    pub producer_id: i64,
    pub first_offset: i64,
    /// Offset of the abort marker.
    pub last_offset: i64,
    pub last_stable_offset: i64,
}

/// Whether a log may lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    Good,
    /// Durable bytes are missing or wrong. The files are kept; reads below the damage work, appends
    /// and leading do not.
    Damaged {
        reason: Arc<str>,
    },
}

impl Health {
    /// Damaged; the first reason stays.
    pub(crate) fn worsen(&mut self, why: String) {
        if *self == Health::Good {
            *self = Health::Damaged { reason: why.into() };
        }
    }
}

/// A log that may have acknowledged records which a power cut took: those had not been synced, as its topic asks for
/// by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MayBeLost {
    pub topic: String,
    pub partition: i32,
    /// Where the log ends now; what was acknowledged above it is gone.
    pub recovered_end: i64,
    /// Never below the truth.
    pub records_at_most: u64,
    /// What stood behind a hole was kept under `quarantine/`.
    pub set_aside: bool,
}

/// What a round of syncing covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncRound {
    /// Rounds since the disk was opened, this one included.
    pub rounds: u64,
    /// Logs made durable by this one.
    pub files: usize,
}
