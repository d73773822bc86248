//! Rolling, and the files written at a segment's edge: snapshots, sidecars, aborted transactions.

use std::io;
use std::sync::Arc;

use crate::error::LogError;
use crate::log::{Log, Writer};
use crate::naming::{RECENT, SNAPSHOT, TXN_INDEX, file_path};
use crate::producers::{recent, snapshot};
use crate::replace::{Durability, remove_if_there, replace};
use crate::segment::SegmentFile;
use crate::types::AbortedTxn;

/// A hundred busy partitions are walked in a second.
const SNAPSHOT_EVERY_BYTES: u64 = 16 << 20;

impl Log {
    /// Closes the active segment and begins a new one at the log end; false if it is empty.
    pub fn roll(&self) -> Result<bool, LogError> {
        let mut writer = self.writer.lock();
        self.check_good()?;
        let log_end = self.state.read().log_end;
        self.roll_at(&mut writer, log_end)
            .map_err(|source| LogError::io(self.dir(), source))
    }

    /// Age at which the segment that begins at `base` is rolled. The jitter is the segment's own, the same
    /// after every start.
    pub fn roll_after_ms(&self, base: i64) -> i64 {
        let config = self.config();
        let most = config.max_segment_ms();
        let jitter = config.segment_jitter_ms.min(most);
        if jitter <= 0 {
            return most;
        }
        let name = format!("{}/{base}", self.name());
        most - i64::from(crc32c::crc32c(name.as_bytes())) % jitter
    }

    /// Begins a segment at `base`: the log end, or above it where a replica's next batch is.
    pub(crate) fn roll_at(&self, writer: &mut Writer, base: i64) -> io::Result<bool> {
        let active = self.active();
        if base <= active.base {
            return Ok(false);
        }
        active.finish(&self.shared.descriptors)?;
        self.store_producers(writer, base)?;
        let segment = SegmentFile::create(self.dir(), base, &self.shared.descriptors)?;
        // Before anything in the new file can be seen by a sync.
        self.shared.note_names();
        let mut state = self.state.write();
        state.segments.push(Arc::new(segment));
        drop(state);
        writer.first_timestamp_ms = None;
        writer.snapshot_bytes = self.state.read().end_bytes;
        self.mark_dirty(None);
        Ok(true)
    }

    /// Brings all files to what a clean shutdown leaves: final indexes, a snapshot at the log end.
    pub(crate) fn settle(&self) -> io::Result<()> {
        let writer = self.writer.lock();
        let active = self.active();
        active.finish(&self.shared.descriptors)?;
        let log_end = self.state.read().log_end;
        self.store_producers(&writer, log_end)?;
        self.mark_dirty(None);
        Ok(())
    }

    /// Writes a producer snapshot at the log end, and what waits of the index, if the newest one lies far
    /// back: recovery walks all batches behind it. The one before goes, if it stands inside a segment.
    pub(crate) fn snapshot_if_far(&self) -> io::Result<()> {
        let mut writer = self.writer.lock();
        let (bytes, log_end) = {
            let state = self.state.read();
            (state.end_bytes, state.log_end)
        };
        let far = bytes.saturating_sub(writer.snapshot_bytes) >= SNAPSHOT_EVERY_BYTES;
        if !far || self.is_deleted() {
            return Ok(());
        }
        self.active().flush_indexes(&self.shared.descriptors)?;
        self.store_producers(&writer, log_end)?;
        writer.snapshot_bytes = bytes;
        if let Some(before) = writer
            .inner_snapshot
            .replace(log_end)
            .filter(|at| *at != log_end)
        {
            remove_if_there(&file_path(self.dir(), before, SNAPSHOT))?;
            remove_if_there(&file_path(self.dir(), before, RECENT))?;
        }
        Ok(())
    }

    /// Writes the producer snapshot at `offset` and our sidecar; durable with the next sync.
    pub(crate) fn store_producers(&self, writer: &Writer, offset: i64) -> io::Result<()> {
        let producers = writer.producers.all();
        let sidecar = file_path(self.dir(), offset, RECENT);
        // First the sidecar: beside a snapshot it is either right or, by its content, seen to be wrong.
        if producers.is_empty() {
            remove_if_there(&sidecar)?;
        } else {
            replace(&sidecar, &recent::encode(&producers), Durability::NextSync)?;
        }
        let bytes = snapshot::encode(&producers);
        replace(
            &file_path(self.dir(), offset, SNAPSHOT),
            &bytes,
            Durability::NextSync,
        )?;
        self.shared.note_names();
        Ok(())
    }

    /// Adds to `.txnindex`, before the markers are written.
    pub(crate) fn note_aborted(
        &self,
        segment: &SegmentFile,
        aborted: &[AbortedTxn],
    ) -> io::Result<()> {
        if aborted.is_empty() {
            return Ok(());
        }
        let path = file_path(self.dir(), segment.base, TXN_INDEX);
        let appended = aborted
            .iter()
            .try_for_each(|aborted| crate::txn_index::append(&path, aborted));
        // Behind the write: a sync between the two would cover the one and not the other.
        self.shared.note_names();
        appended
    }

    /// Takes back what [`Self::note_aborted`] added: the markers were not written. An entry that stays
    /// would hide records of a transaction that goes on, so a failure fails the disk; the next start
    /// builds the index from the log.
    pub(crate) fn forget_aborted(&self, segment: &SegmentFile, aborted: &[AbortedTxn]) {
        let Some(first) = aborted.first() else { return };
        let path = file_path(self.dir(), segment.base, TXN_INDEX);
        if let Err(error) = crate::txn_index::truncate(&path, first.last_offset) {
            self.shared.fail(&format!("{}: {error}", path.display()));
        }
    }
}
