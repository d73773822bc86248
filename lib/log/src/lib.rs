//! A partition log in Kafka's on-disk format. Synchronous.
#![expect(dead_code, unused_variables, clippy::todo, reason = "signatures first")]

mod checkpoint;
mod config;
mod disk;
mod epochs;
mod error;
mod log;
mod meta_properties;
mod naming;
mod partition_metadata;
mod replace;
mod types;
mod uuid_text;

pub use config::{CleanupPolicy, LogConfig, TimestampType};
pub use disk::{Disk, DiskOptions};
pub use epochs::{EpochEnd, EpochStart};
pub use error::{AppendError, DiskFailed, LogError, OpenError, ReadError, SyncError};
pub use log::{BatchMark, Log, ProducerState};
pub use naming::is_topic_name;
pub use types::{
    AbortedTxn, AppendContext, Appended, Freed, Health, Offsets, Pinned, Segment, Slice, SyncRound, TimestampOffset,
    Truncated,
};
