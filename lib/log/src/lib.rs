//! A partition log in Kafka's on-disk format. Synchronous.
//!
//! * [`Disk`] - a data directory: its owner, its logs, group commit ([`Disk::sync`]).
//! * [`Log`] - one partition: append, read, epochs, truncation, retention, compaction, recovery.
//!
//! Invariants:
//! * An append is acknowledged only after a sync that began behind it: [`Offsets::durable_end`].
//!   Earlier only within a bound that was noted before: [`Disk::allow_early_acks`].
//! * After a failed write or sync of the disk nothing more is promised; the failure is sticky.
//! * Batches are written as they came; only base offset and leader epoch change, and with
//!   LogAppendTime the timestamp.
//! * Truncation is by (epoch, offset) only. Recovery cuts off torn tails, never damage.
//!
//! What is not here: clocks (time comes in), tasks (the broker's flusher calls), the high watermark's
//! rules, and when to compact.

pub mod calls;
mod checkpoint;
mod clean;
mod clean_points;
mod config;
mod descriptors;
mod disk;
mod durable_points;
mod early_acks;
mod entry_file;
mod epochs;
mod error;
mod fields;
mod log;
mod meta_properties;
mod naming;
mod partition_metadata;
mod producers;
mod replace;
mod segment;
mod txn_index;
mod types;
mod uuid_text;

pub use clean::plan::Dirt;
pub use clean::{CleanBounds, Cleaned, Pace};
pub use config::{CleanupPolicy, LogConfig, TimestampType};
pub use disk::{Disk, DiskOptions};
pub use epochs::{EpochEnd, EpochStart};
pub use error::{AppendError, CleanError, DiskFailed, LogError, OpenError, ReadError, SyncError};
pub use log::Log;
pub use naming::is_topic_name;
pub use producers::{BatchMark, ProducerState};
pub use types::{
    AbortedTxn, AppendContext, Appended, Freed, Health, MayBeLost, Offsets, Pinned, Segment, Slice,
    SyncRound, TimestampOffset, Truncated,
};
