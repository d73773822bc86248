//! One partition's log.
//!
//! Locks, in the order they are taken: `writer` (one thread appends, rolls, truncates, frees),
//! then `state` (what readers see; never held across IO). A read takes `state` for a moment, reads
//! the file without any lock, and looks at `generation` afterwards: a truncation in between makes it
//! start again.

mod append;
mod epochs;
mod pin;
pub(crate) mod read;
pub(crate) mod recover;
mod replay;
mod retain;
mod roll;
mod sound;
mod swap;
mod time;
mod truncate;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use uuid::Uuid;

use crate::config::LogConfig;
use crate::disk::shared::Shared;
use crate::durable_points::{Counted, Key, Point};
use crate::early_acks::Early;
use crate::epochs::Epochs;
use crate::error::{AppendError, LogError};
use crate::naming::directory_name;
use crate::producers::{ProducerState, Producers};
use crate::segment::SegmentFile;
use crate::types::{Health, Offsets, Segment};

/// What only the writer needs.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    pub(crate) producers: Producers,
    /// Highest timestamp of the active segment's first batch; `segment.ms` counts from it.
    pub(crate) first_timestamp_ms: Option<i64>,
    /// Bytes of the log at the newest producer snapshot.
    pub(crate) snapshot_bytes: u64,
    /// The newest snapshot, if it stands inside a segment.
    pub(crate) inner_snapshot: Option<i64>,
}

/// What readers see.
#[derive(Debug)]
pub(crate) struct State {
    /// By base offset, never empty; the last one is active.
    pub(crate) segments: Vec<Arc<SegmentFile>>,
    /// Where reads may begin. While [`Self::start_known`] is false the log may begin elsewhere.
    pub(crate) log_start: i64,
    /// Said by the stored point, a leader or the bucket: not concluded from the local files.
    pub(crate) start_known: bool,
    pub(crate) log_end: i64,
    pub(crate) durable_end: i64,
    /// Bytes from the first offset ever to the first local segment, the log end, the durable end.
    pub(crate) base_bytes: u64,
    pub(crate) end_bytes: u64,
    pub(crate) durable_bytes: u64,
    pub(crate) high_watermark: i64,
    pub(crate) epochs: Epochs,
    /// Raised by every truncation, and by what compaction puts in place.
    pub(crate) generation: u64,
    /// Raised by every truncation.
    pub(crate) cuts: u64,
    pub(crate) health: Health,
    /// See [`recover::refuse`].
    pub(crate) unread: Option<Unread>,
    /// The stored durable end of a damaged log, which must not be forgotten, and the bytes stored with it.
    pub(crate) promised_end: i64,
    pub(crate) promised_bytes: Counted,
    /// See [`crate::durable_points::name_check`].
    pub(crate) name: u32,
    /// CRC-32C of the stored lineage.
    pub(crate) epochs_check: u32,
    /// Below, compaction has looked at everything.
    pub(crate) clean_end: i64,
    /// Below, records may be missing that were acknowledged before they were synced. See [`crate::early_acks`].
    pub(crate) hole: Option<i64>,
    /// Recovery has cut sound batches off that stood behind a hole.
    pub(crate) cut_at_a_hole: bool,
    /// All of it is on its way out: what is still there is promised no more.
    pub(crate) emptied: bool,
}

/// What is known of a log that could not be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unread {
    /// As it is stored.
    pub(crate) point: Option<Point>,
}

impl State {
    /// The point of a log as it was opened; `None` where there was none and nothing is known.
    pub(crate) fn stored_point(&self) -> Option<Point> {
        match self.unread {
            Some(unread) => unread.point,
            None => Some(self.point()),
        }
    }

    pub(crate) fn known_log_start(&self) -> Option<i64> {
        self.start_known.then_some(self.log_start)
    }

    pub(crate) fn local_log_start(&self) -> i64 {
        self.segments
            .first()
            .map_or(self.log_end, |s| s.base)
            .max(self.log_start)
    }

    pub(crate) fn point(&self) -> Point {
        if let Some(point) = self.unread.and_then(|unread| unread.point) {
            return point;
        }
        let (durable_end, bytes) = match self.health {
            Health::Good => (self.durable_end, Counted::ToDurableEnd(self.durable_bytes)),
            Health::Damaged { .. } => (self.promised_end, self.promised_bytes),
        };
        Point {
            durable_end,
            log_start: self.known_log_start(),
            bytes,
            name: self.name,
            epochs: self.epochs_check,
            high_watermark: Some(self.high_watermark),
        }
    }
}

/// How far a log had got when a sync began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    end: i64,
    bytes: u64,
    generation: u64,
}

/// A partition's log. Cheap to share; every method may be called from any thread.
#[derive(Debug)]
pub struct Log {
    topic: String,
    topic_id: Uuid,
    partition: i32,
    dir: PathBuf,
    pub(crate) shared: Arc<Shared>,
    me: Weak<Log>,
    config: RwLock<Arc<LogConfig>>,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) state: RwLock<State>,
    /// Already on the list of what the next sync covers.
    dirty: AtomicBool,
    deleted: AtomicBool,
    /// Held by the one cleaning.
    pub(crate) cleaning: Mutex<()>,
}

/// Who a log is and where it lives.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) topic: String,
    pub(crate) topic_id: Uuid,
    pub(crate) partition: i32,
    pub(crate) dir: PathBuf,
}

impl Log {
    pub(crate) fn new(
        identity: Identity,
        shared: Arc<Shared>,
        config: LogConfig,
        writer: Writer,
        state: State,
    ) -> Arc<Log> {
        Arc::new_cyclic(|me| Log {
            topic: identity.topic,
            topic_id: identity.topic_id,
            partition: identity.partition,
            dir: identity.dir,
            shared,
            me: Weak::clone(me),
            config: RwLock::new(Arc::new(config)),
            writer: Mutex::new(writer),
            state: RwLock::new(state),
            dirty: AtomicBool::new(false),
            deleted: AtomicBool::new(false),
            cleaning: Mutex::new(()),
        })
    }

    pub fn topic(&self) -> &str {
        &self.topic
    }

    pub fn topic_id(&self) -> Uuid {
        self.topic_id
    }

    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// `<topic>-<partition>`.
    pub fn name(&self) -> String {
        directory_name(&self.topic, self.partition)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn key(&self) -> Key {
        (self.topic_id, self.partition)
    }

    pub fn config(&self) -> Arc<LogConfig> {
        Arc::clone(&self.config.read())
    }

    /// Takes effect with the next append.
    pub fn set_config(&self, config: LogConfig) {
        *self.config.write() = Arc::new(config);
    }

    pub fn offsets(&self) -> Offsets {
        let state = self.state.read();
        Offsets {
            log_start: state.log_start,
            known_log_start: state.known_log_start(),
            local_log_start: state.local_log_start(),
            durable_end: state.durable_end,
            log_end: state.log_end,
        }
    }

    /// Bytes of all batches from the first offset to the log end, freed ones included. Falls only
    /// when a truncation removes batches.
    pub fn bytes_appended(&self) -> u64 {
        self.state.read().end_bytes
    }

    /// As [`Self::bytes_appended`], to the durable end.
    pub fn durable_bytes(&self) -> u64 {
        self.state.read().durable_bytes
    }

    pub fn health(&self) -> Health {
        self.state.read().health.clone()
    }

    /// Whether the disk did not give the log's files when it was opened: nothing is known of it but its name,
    /// and what it holds is to be left alone until it can be read.
    pub fn is_unread(&self) -> bool {
        self.state.read().unread.is_some()
    }

    /// What was durable once, of a damaged log too.
    pub fn promised_end(&self) -> i64 {
        self.state.read().point().durable_end
    }

    pub fn high_watermark(&self) -> i64 {
        self.state.read().high_watermark
    }

    /// Told by the broker; kept in Kafka's `replication-offset-checkpoint`. Never lowered by this call
    /// and never above the log end.
    pub fn set_high_watermark(&self, offset: i64) {
        let mut state = self.state.write();
        state.high_watermark = offset.min(state.log_end).max(state.high_watermark);
    }

    /// Where producers may find acknowledged records of theirs missing below, after a crash of a log that acknowledges
    /// before the sync.
    pub fn hole(&self) -> Option<i64> {
        self.state.read().hole
    }

    /// What is to be noted of a log that is synced, and of which `noted` was. One that could not be read is not.
    pub(crate) fn early_left(&self, noted: Early) -> Early {
        if self.is_unread() {
            return noted;
        }
        Early {
            hole: self.hole(),
            ..Early::default()
        }
    }

    pub(crate) fn was_cut_at_a_hole(&self) -> bool {
        self.state.read().cut_at_a_hole
    }

    /// First offset a read_committed reader may not pass, `None` if it may read to the high watermark.
    pub fn first_unstable_offset(&self) -> Option<i64> {
        let high_watermark = self.high_watermark();
        self.writer
            .lock()
            .producers
            .first_unstable_offset(high_watermark)
    }

    /// All producers the log remembers, by producer id.
    pub fn producers(&self) -> Vec<ProducerState> {
        self.writer.lock().producers.all()
    }

    pub fn producer(&self, producer_id: i64) -> Option<ProducerState> {
        self.writer.lock().producers.get(producer_id).cloned()
    }

    /// Forgets producers without an open transaction that wrote nothing since `before_ms`; returns how many.
    pub fn expire_producers(&self, before_ms: i64) -> usize {
        self.writer.lock().producers.expire(before_ms)
    }

    /// The local segments, oldest first.
    pub fn segments(&self) -> Vec<Segment> {
        let segments = self.state.read().segments.clone();
        let active = segments.len().saturating_sub(1);
        segments
            .iter()
            .enumerate()
            .map(|(i, segment)| describe(segment, i < active))
            .collect()
    }

    pub(crate) fn mark_deleted(&self) {
        self.deleted.store(true, Ordering::Release);
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    fn check_appendable(&self) -> Result<(), AppendError> {
        if self.is_deleted() {
            return Err(AppendError::Deleted { log: self.name() });
        }
        self.shared.check()?;
        match &self.state.read().health {
            Health::Good => Ok(()),
            Health::Damaged { reason } => Err(AppendError::Damaged {
                log: self.name(),
                reason: Arc::clone(reason),
            }),
        }
    }

    fn check_changeable(&self) -> Result<(), LogError> {
        if self.is_deleted() {
            return Err(LogError::Deleted { log: self.name() });
        }
        Ok(self.shared.check()?)
    }

    fn check_good(&self) -> Result<(), LogError> {
        self.check_changeable()?;
        match &self.state.read().health {
            Health::Good => Ok(()),
            Health::Damaged { reason } => Err(LogError::Damaged {
                log: self.name(),
                reason: Arc::clone(reason),
            }),
        }
    }

    fn active(&self) -> Arc<SegmentFile> {
        let state = self.state.read();
        // Never empty, see `State::segments`.
        Arc::clone(&state.segments[state.segments.len() - 1])
    }

    /// Puts the log on the list of the next sync.
    pub(crate) fn mark_dirty(&self, file: Option<&Arc<std::fs::File>>) {
        if !self.dirty.swap(true, Ordering::AcqRel) {
            self.shared.add_dirty(Weak::clone(&self.me), file);
        }
    }

    /// Called by the sync before it begins: what is written by now will be durable.
    pub(crate) fn take_progress(&self) -> Progress {
        self.dirty.store(false, Ordering::Release);
        let state = self.state.read();
        Progress {
            end: state.log_end,
            bytes: state.end_bytes,
            generation: state.generation,
        }
    }

    /// Called by the sync when it has ended. `None` if a truncation came between: the next round decides.
    pub(crate) fn made_durable(&self, progress: Progress) -> Option<Point> {
        let mut state = self.state.write();
        if state.generation != progress.generation || state.emptied {
            drop(state);
            self.mark_dirty(None);
            return None;
        }
        state.durable_end = state.durable_end.max(progress.end);
        state.durable_bytes = state.durable_bytes.max(progress.bytes);
        Some(state.point())
    }

    /// Stores the point as the log has it; durable on return.
    pub(crate) fn store_present_point(&self) -> std::io::Result<()> {
        self.shared
            .store_point_of(self.key(), || self.state.read().point())
    }
}

fn describe(segment: &SegmentFile, closed: bool) -> Segment {
    Segment {
        base_offset: segment.base,
        end_offset: segment.end(),
        bytes: segment.size(),
        max_timestamp_ms: segment.max_timestamp_ms(),
        closed,
        path: segment.path().to_owned(),
    }
}

#[cfg(test)]
mod tests;
