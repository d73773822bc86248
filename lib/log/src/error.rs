//! What can go wrong, one enum per public operation. Each error that leaves the crate says whether
//! trying again can help; [`AppendError::error_code`] is the one place where appends meet Kafka's
//! error codes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use whimbrel_wire::{BatchError, ErrorCode};

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    #[error("data directory {path} is in use by another process")]
    Locked { path: PathBuf },
    #[error("data directory belongs to fleet {found}, this process to {expected}")]
    ForeignFleet { found: String, expected: String },
    #[error("data directory belongs to node {found}, this process is node {expected}")]
    ForeignNode { found: i32, expected: i32 },
    #[error("{path} is not a meta.properties file")]
    BadMeta { path: PathBuf },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

impl OpenError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        OpenError::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// Never: somebody has to change something first.
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// A write or sync of this disk failed once; nothing on it is trusted to become durable any more.
/// The process must stop acknowledging and end.
#[derive(Debug, Clone, thiserror::Error)]
#[error("disk {root} failed: {reason}")]
pub struct DiskFailed {
    pub root: PathBuf,
    pub reason: Arc<str>,
}

/// Why a round of syncing did not make data durable. Sticky: every later append and sync fails too,
/// because after a failed fsync the kernel may have dropped the pages it could not write.
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
pub struct SyncError(#[from] pub DiskFailed);

impl SyncError {
    /// Never, see the type.
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// Why a batch was not appended. The log is unchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    #[error("batch: {0}")]
    Batch(#[from] BatchError),
    #[error("nothing to append")]
    Empty,
    #[error("batch of {size} bytes, at most {max} are allowed")]
    TooLarge { size: usize, max: u64 },
    #[error("producer {producer_id} epoch {producer_epoch}: sequence {found}, expected {expected}")]
    OutOfOrderSequence {
        producer_id: i64,
        producer_epoch: i16,
        expected: i32,
        found: i32,
    },
    #[error("producer {producer_id}: epoch {found} is older than {current}")]
    InvalidProducerEpoch {
        producer_id: i64,
        current: i16,
        found: i16,
    },
    /// A hole in a producer's sequences behind a lossy move: refused once, so that the client sends
    /// what it still holds from its lowest batch on.
    #[error("producer {producer_id}: sequence {found} jumps over {expected} after a lossy move")]
    JumpRefused {
        producer_id: i64,
        expected: i32,
        found: i32,
    },
    #[error("producer {producer_id}: batch outside the transaction that began at {open_since}")]
    InvalidTxnState { producer_id: i64, open_since: i64 },
    #[error("producer {producer_id}: marker of coordinator epoch {found}, newest is {current}")]
    TransactionCoordinatorFenced {
        producer_id: i64,
        current: i32,
        found: i32,
    },
    #[error("leader epoch {found}, the log is at {current}")]
    StaleLeaderEpoch { current: i32, found: i32 },
    /// A replica's batch that does not continue the log.
    #[error("batch at offset {found}, the log ends at {log_end}")]
    NotContinuing { log_end: i64, found: i64 },
    #[error("control batch: {why}")]
    BadMarker { why: String },
    #[error("log {log} is damaged: {reason}")]
    Damaged { log: String, reason: Arc<str> },
    #[error("log {log} was deleted")]
    Deleted { log: String },
    #[error("disk {root} is full")]
    DiskFull { root: PathBuf },
    #[error(transparent)]
    DiskFailed(#[from] DiskFailed),
}

impl AppendError {
    /// What a client is answered.
    pub fn error_code(&self) -> ErrorCode {
        match self {
            AppendError::Batch(error) => error.error_code(),
            AppendError::Empty
            | AppendError::NotContinuing { .. }
            | AppendError::BadMarker { .. } => ErrorCode::INVALID_RECORD,
            AppendError::TooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
            AppendError::OutOfOrderSequence { .. } => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
            AppendError::InvalidProducerEpoch { .. } => ErrorCode::INVALID_PRODUCER_EPOCH,
            AppendError::JumpRefused { .. } => ErrorCode::NOT_ENOUGH_REPLICAS,
            AppendError::InvalidTxnState { .. } => ErrorCode::INVALID_TXN_STATE,
            AppendError::TransactionCoordinatorFenced { .. } => {
                ErrorCode::TRANSACTION_COORDINATOR_FENCED
            }
            AppendError::StaleLeaderEpoch { .. } => ErrorCode::NOT_LEADER_OR_FOLLOWER,
            AppendError::Deleted { .. } => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            AppendError::Damaged { .. }
            | AppendError::DiskFull { .. }
            | AppendError::DiskFailed(_) => ErrorCode::KAFKA_STORAGE_ERROR,
        }
    }

    /// Whether the same append can succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            AppendError::JumpRefused { .. } | AppendError::DiskFull { .. }
        )
    }
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    #[error("offset {offset} is outside {log_start}..={log_end}")]
    OutOfRange {
        offset: i64,
        log_start: i64,
        log_end: i64,
    },
    /// The data is only in the bucket.
    #[error("offset {offset} is below the local log start {local_start}")]
    BelowLocal { offset: i64, local_start: i64 },
    /// The bytes in the file are not what was appended.
    #[error("log {log}: segment {segment} is damaged at byte {position}: {why}")]
    Corrupt {
        log: String,
        segment: i64,
        position: u64,
        why: String,
    },
    #[error("log {log} was deleted")]
    Deleted { log: String },
    #[error("log {log}: {source}")]
    Io { log: String, source: io::Error },
}

impl ReadError {
    /// What a client is answered.
    pub fn error_code(&self) -> ErrorCode {
        match self {
            ReadError::OutOfRange { .. } | ReadError::BelowLocal { .. } => {
                ErrorCode::OFFSET_OUT_OF_RANGE
            }
            ReadError::Deleted { .. } => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ReadError::Corrupt { .. } | ReadError::Io { .. } => ErrorCode::KAFKA_STORAGE_ERROR,
        }
    }

    /// Whether the same read can succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, ReadError::Io { .. })
    }
}

/// Why a log was not cleaned. It is as it was, or clean up to some segment.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CleanError {
    #[error("cleaning was stopped")]
    Stopped,
    #[error("log {log} was changed meanwhile")]
    Changed { log: String },
    #[error("log {log} is damaged or deleted")]
    NotGood { log: String },
    /// One batch has more keys than the memory takes.
    #[error("log {log}: the keys of the batch at offset {offset} do not fit {memory_bytes} bytes")]
    NoRoom {
        log: String,
        offset: i64,
        memory_bytes: u64,
    },
    #[error("log {log}: {source}")]
    Io { log: String, source: io::Error },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    DiskFailed(#[from] DiskFailed),
}

impl CleanError {
    /// Whether the same cleaning can succeed later, without anybody changing something.
    pub fn is_retryable(&self) -> bool {
        match self {
            CleanError::Stopped | CleanError::Changed { .. } => true,
            CleanError::Io { source, .. } => {
                crate::calls::is_full(source) || crate::calls::is_unreadable(source)
            }
            CleanError::Read(error) => error.is_retryable(),
            _ => false,
        }
    }

    /// Whether the disk did not give what is on it.
    pub fn is_unreadable(&self) -> bool {
        match self {
            CleanError::Io { source, .. } | CleanError::Read(ReadError::Io { source, .. }) => {
                crate::calls::is_unreadable(source)
            }
            _ => false,
        }
    }
}

/// Why a log could not be changed other than by appending.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    #[error("{topic:?} is not a topic name, or partition {partition} is negative")]
    InvalidName { topic: String, partition: i32 },
    #[error("log {log} is there already")]
    Exists { log: String },
    #[error("leader epoch {found}, the log is at {current}")]
    StaleLeaderEpoch { current: i32, found: i32 },
    /// Truncation agreed on an (epoch, offset) that this log's lineage does not hold.
    #[error("offset {offset} follows epoch {found}, not {asked}")]
    NotInLineage { offset: i64, asked: i32, found: i32 },
    #[error("offset {offset} is outside {from}..={to}")]
    OutOfRange { offset: i64, from: i64, to: i64 },
    #[error("log {log} has no segment that begins at {base_offset}")]
    NoSegment { log: String, base_offset: i64 },
    #[error("log {log} is damaged: {reason}")]
    Damaged { log: String, reason: Arc<str> },
    #[error("log {log} was deleted")]
    Deleted { log: String },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    DiskFailed(#[from] DiskFailed),
}

impl LogError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        LogError::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// Whether the same call can succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            LogError::Io { .. } => true,
            LogError::Read(error) => error.is_retryable(),
            _ => false,
        }
    }
}
