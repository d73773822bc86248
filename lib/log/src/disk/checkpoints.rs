//! Kafka's checkpoints of a directory: recovery points, log starts, high watermarks, cleaned ends.
//!
//! Each is one small file about all logs, replaced as a whole with two syncs. One that would say what it says
//! already is left alone: an idle broker with thousands of partitions writes nothing.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use crate::checkpoint::encode_offsets;
use crate::disk::Disk;
use crate::error::LogError;
use crate::log::{Log, State};
use crate::naming::{
    CLEAN_POINTS, CLEANER_POINTS, DURABLE_POINTS, HIGH_WATERMARKS, LOG_STARTS, RECOVERY_POINTS,
};
use crate::replace::{Durability, replace};
use crate::types::Health;

/// A second of writing at most, so that recovery reads little more than that.
const CHECKPOINT_DUE_BYTES: u64 = 256 << 20;

/// What the files say, by hash. Held while they are written: one at a time.
#[derive(Debug, Default)]
pub(super) struct Checkpoints(Mutex<HashMap<&'static str, u64>>);

/// A file, and what it says of a log; `None` where it says nothing.
type Checkpoint = (&'static str, fn(&State) -> Option<i64>);

const ALL: [Checkpoint; 4] = [
    (RECOVERY_POINTS, |state| Some(state.durable_end)),
    (LOG_STARTS, |state| {
        state.known_log_start().filter(|start| *start > 0)
    }),
    (HIGH_WATERMARKS, |state| Some(state.high_watermark)),
    (CLEANER_POINTS, |state| {
        Some(state.clean_end).filter(|end| *end > 0)
    }),
];

impl Disk {
    /// Whether enough was synced since the last checkpoint that a restart would feel it.
    pub fn checkpoint_is_due(&self) -> bool {
        self.unchecked_bytes.load(Ordering::Relaxed) >= CHECKPOINT_DUE_BYTES
    }

    /// Writes producer snapshots, recovery points, log starts and high watermarks. Call when
    /// [`Self::checkpoint_is_due`] and every few seconds: recovery after a crash begins there.
    pub fn checkpoint(&self) -> Result<(), LogError> {
        self.shared.check()?;
        let mut written = self.checkpoints.0.lock();
        let mut logs = self.logs();
        logs.sort_unstable_by(|a, b| (a.topic(), a.partition()).cmp(&(b.topic(), b.partition())));
        for log in &logs {
            log.snapshot_if_far()
                .map_err(|source| LogError::io(log.dir(), source))?;
        }
        let mut offsets: [Vec<_>; ALL.len()] = Default::default();
        let (forgotten, mut clean) = (self.shared.clean_points.forgotten(), Vec::new());
        for log in &logs {
            let state = log.state.read();
            clean.extend((state.clean_end > 0).then_some((log.key(), state.clean_end)));
            for ((_, of), offsets) in ALL.iter().zip(&mut offsets) {
                offsets.extend(of(&state).map(|offset| (log.topic(), log.partition(), offset)));
            }
        }
        for ((name, _), offsets) in ALL.iter().zip(&offsets) {
            let text = encode_offsets(offsets);
            let mut hasher = DefaultHasher::new();
            hasher.write(text.as_bytes());
            if written.get(name) == Some(&hasher.finish()) {
                continue;
            }
            self.write_checkpoint(name, &text)
                .map_err(|source| LogError::io(&self.shared.root.join(name), source))?;
            written.insert(name, hasher.finish());
        }
        let stored = self.shared.clean_points.store(forgotten, &clean);
        self.shared
            .note(stored)
            .map_err(|source| LogError::io(&self.shared.root.join(CLEAN_POINTS), source))?;
        self.note_high_watermarks(&logs)?;
        self.unchecked_bytes.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Where they have a checksum.
    fn note_high_watermarks(&self, logs: &[Arc<Log>]) -> Result<(), LogError> {
        let noted = self.shared.with_points(|points| {
            // What a damaged log had is not what is left of it.
            for log in logs.iter().filter(|log| log.health() == Health::Good) {
                points.set_high_watermark(log.key(), log.high_watermark());
            }
            if points.has_changes() {
                points.write()?;
                points.sync()?;
            }
            Ok(())
        });
        let noted = self.shared.note(noted.unwrap_or(Ok(())));
        noted.map_err(|source| LogError::io(&self.shared.root.join(DURABLE_POINTS), source))
    }

    fn write_checkpoint(&self, name: &str, text: &str) -> io::Result<()> {
        let path = self.shared.root.join(name);
        self.shared
            .note(replace(&path, text.as_bytes(), Durability::Now))
    }
}
