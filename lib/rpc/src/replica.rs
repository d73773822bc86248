//! The replica stream: how batches travel between our own processes.
//!
//! A follower (mirror) connects to the *source* broker and grants byte credit; the source pushes whole
//! record batches. The same process connects to the *sink* broker and pushes them on; the sink answers
//! what is fsynced and grants credit in its turn. Throughput is credit, not round trips. Progress is the
//! sink's log itself: nobody keeps a position anywhere else.
//!
//! Framing is our own (not gRPC): `u32 length, u8 kind, body`, all numbers big-endian; see [`codec`].
//! The first frame in each direction is a [`Hello`]. Frames longer than [`MAX_FRAME_BYTES`] are refused
//! before anything is allocated.

pub mod codec;
pub mod connection;
mod joined;

use bytes::Bytes;
use uuid::Uuid;
use whimbrel_fleet::{Lineage, RegionEpoch, RegionName, TopicPartition};

pub use connection::{
    Accepted, FrameRx, FrameTx, Sink, SinkServer, Source, SourceServer, StreamError, accept,
    connect_sink, connect_source,
};
pub use joined::{ConnectSink, joined};

/// The largest frame: one batch may be 1 MiB by default and a topic may raise it; 64 MiB is far above
/// what `max.message.bytes` allows here and far below what would hurt.
pub const MAX_FRAME_BYTES: usize = 64 * 1024 * 1024;

/// What the connecting side wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Read from a source broker.
    Pull,
    /// Write to a sink broker.
    Push,
}

/// First frame of the connecting side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub purpose: Purpose,
    /// The stream is refused unless both sides belong to the same fleet.
    pub fleet_id: String,
    /// Region of the connecting process.
    pub region: RegionName,
    pub incarnation: Uuid,
}

/// Follower to source.
#[derive(Clone, Debug, PartialEq)]
pub enum ToSource {
    /// Start sending at the lineage's end, or say where the two logs part.
    Subscribe {
        at: TopicPartition,
        lineage: Lineage,
    },
    Unsubscribe {
        at: TopicPartition,
    },
    /// So many more bytes of records may be sent.
    Credit {
        bytes: u64,
    },
    /// The follower's region holds everything below `end_offset` fsynced.
    Durable {
        at: TopicPartition,
        end_offset: i64,
    },
}

/// Where a source's partition stands. Also sent without records, at least once a second, so that lag in
/// seconds rises when nothing else arrives.
#[derive(Clone, Debug, PartialEq)]
pub struct Batches {
    pub at: TopicPartition,
    /// Epoch of the failover group in which the source sends this.
    pub region_epoch: RegionEpoch,
    pub leader_epoch: i32,
    pub log_start: i64,
    /// Fsynced end of the source: replica streams end there, also above its HW.
    pub log_end: i64,
    /// Bytes the source's log appended up to `log_end`, for lag in bytes.
    pub log_bytes: u64,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    /// Below this every region but the home holds everything fsynced, as far as the home's leader knows:
    /// nobody compacts above it.
    pub held_end: i64,
    /// Wall clock of the source when it sent this frame.
    pub source_clock_ms: i64,
    /// Append time at the source of the first record *after* this frame's; -1 when there is none.
    pub next_append_time_ms: i64,
    /// Whole batches, offsets and epochs as at the source; may be empty.
    pub records: Bytes,
}

/// Why a source stopped serving a partition. It goes on with the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// Not (or no longer) the leader: look at the fleet view and subscribe elsewhere.
    NotLeader,
    UnknownPartition,
    /// The follower's end lies below the source's log start: retention overtook it.
    Trimmed {
        log_start: i64,
    },
    /// The records cannot be read here (damaged or cold and unreachable).
    Unreadable,
    /// The region was away for longer than compaction waits: below this, records that newer ones replaced are
    /// gone, and a copy that is filled on from below would have neither for a while.
    Cleaned {
        upto: i64,
    },
}

/// Source to follower.
#[derive(Clone, Debug, PartialEq)]
pub enum FromSource {
    Batches(Batches),
    /// The follower must truncate to this point, then subscribe again.
    Diverged {
        at: TopicPartition,
        epoch: i32,
        offset: i64,
    },
    Stopped {
        at: TopicPartition,
        reason: StopReason,
    },
}

/// Mirror to sink.
#[derive(Clone, Debug, PartialEq)]
pub enum ToSink {
    Batches(Batches),
    /// Export what lies at or above the point, make that durable, then truncate.
    Truncate {
        at: TopicPartition,
        region_epoch: RegionEpoch,
        epoch: i32,
        offset: i64,
    },
}

/// Why a sink refused a partition's batches. Others go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefuseReason {
    /// This region is home, or a newer epoch or a fence is known here.
    Fenced,
    UnknownPartition,
    /// Batches do not continue at the log's end, or their epoch went back.
    OutOfOrder,
    Corrupt,
    DiskFull,
    /// The orphan tail could not be made durable (the bucket is away): nothing was truncated.
    OrphanNotStored,
    Damaged,
}

/// A partition that the sink's broker wants filled.
#[derive(Clone, Debug, PartialEq)]
pub struct SinkPosition {
    pub at: TopicPartition,
    pub lineage: Lineage,
    /// Bytes appended here so far, for lag in bytes.
    pub log_bytes: u64,
}

/// Sink to mirror.
#[derive(Clone, Debug, PartialEq)]
pub enum FromSink {
    /// All partitions at the start of the stream; later those that are new or were truncated.
    Positions(Vec<SinkPosition>),
    /// Partitions that this broker no longer takes (it became their home, or they were deleted).
    Gone(Vec<TopicPartition>),
    Durable {
        at: TopicPartition,
        end_offset: i64,
    },
    Credit {
        bytes: u64,
    },
    Truncated {
        at: TopicPartition,
        lineage: Lineage,
        orphan_records: u64,
    },
    Refused {
        at: TopicPartition,
        reason: RefuseReason,
    },
}
