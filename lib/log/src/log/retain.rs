//! Taking from the front: log start, local log start, and what retention would let go.
//!
//! The new start is stored before a file goes, so that a crash never brings deleted records back as
//! a gap.

use std::io;
use std::sync::Arc;

use crate::calls::{self, is_full};
use crate::epochs::Epochs;
use crate::error::LogError;
use crate::log::Log;
use crate::log::epochs::check_of;
use crate::naming::{RECENT, SNAPSHOT, parse_file_name};
use crate::replace::{Durability, remove_if_there};
use crate::segment::SegmentFile;
use crate::types::Freed;

impl Log {
    /// Moves the log start up to `offset` and deletes the segments below it; durable on return. The
    /// active segment stays.
    pub fn set_log_start(&self, offset: i64) -> Result<Freed, LogError> {
        let _writer = self.writer.lock();
        self.check_changeable()?;
        let cut = {
            let state = self.state.read();
            let (from, to) = (state.log_start, state.log_end);
            if offset < from || offset > to {
                return Err(LogError::OutOfRange { offset, from, to });
            }
            let mut epochs = state.epochs.clone();
            epochs.truncate_from_start(offset).then_some(epochs)
        };
        // The point with the log start comes first: with it the file of before tells the same lineage.
        let freed = self.drop_below(offset, Some((offset, cut.as_ref())))?;
        if let Some(epochs) = &cut {
            match self.store_epochs(epochs, Durability::NextSync) {
                // Epochs below the start do no harm.
                Err(error) if is_full(&error) => {}
                other => other.map_err(|source| LogError::io(self.dir(), source))?,
            }
        }
        Ok(freed)
    }

    /// Takes `offset` for the log start where that is lost: a source that knows it has said so. Nothing is deleted,
    /// and it may lie below what was taken for it until now; durable on return. Whether it was lost.
    pub fn learn_log_start(&self, offset: i64) -> Result<bool, LogError> {
        let _writer = self.writer.lock();
        self.check_good()?;
        {
            let state = self.state.read();
            if state.start_known {
                return Ok(false);
            }
            let (from, to) = (0, state.log_end);
            if offset < from || offset > to {
                return Err(LogError::OutOfRange { offset, from, to });
            }
        }
        self.drop_below(0, Some((offset, None)))?;
        Ok(true)
    }

    /// Deletes the local copy of closed segments that end at or below `offset`. The caller has verified
    /// that the bucket holds them.
    pub fn free_local_before(&self, offset: i64) -> Result<Freed, LogError> {
        let _writer = self.writer.lock();
        self.check_changeable()?;
        self.drop_below(offset, None)
    }

    /// Drops closed segments that end at or below `offset`. The new start is stored before a file goes; if
    /// that fails all is as it was. With a log start comes the lineage that is to be stored with it.
    fn drop_below(
        &self,
        offset: i64,
        log_start: Option<(i64, Option<&Epochs>)>,
    ) -> Result<Freed, LogError> {
        let (dropped, before) = {
            let mut state = self.state.write();
            let before = (
                state.log_start,
                state.start_known,
                state.base_bytes,
                state.epochs.clone(),
                state.epochs_check,
            );
            let closed = state.segments.len().saturating_sub(1);
            // What is not durable yet is not given up either.
            let bound = offset.min(state.durable_end);
            let count = state.segments[..closed].partition_point(|s| s.end() <= bound);
            let dropped: Vec<Arc<SegmentFile>> = state.segments.drain(..count).collect();
            let bytes: u64 = dropped.iter().map(|s| s.size()).sum();
            state.base_bytes = state.base_bytes.saturating_add(bytes);
            if let Some((offset, cut)) = log_start {
                state.epochs_check = cut.map_or(state.epochs_check, check_of);
                state.log_start = offset;
                state.start_known = true;
                state.high_watermark = state.high_watermark.max(offset);
                state.epochs.truncate_from_start(offset);
            }
            (dropped, before)
        };
        let io = |source| LogError::io(self.dir(), source);
        if let Err(error) = self.store_present_point() {
            let mut state = self.state.write();
            (
                state.log_start,
                state.start_known,
                state.base_bytes,
                state.epochs,
                state.epochs_check,
            ) = before;
            state.segments.splice(0..0, dropped);
            drop(state);
            // What was not stored is not to be stored with the next sync either.
            self.shared
                .with_points(|points| points.set(self.key(), self.state.read().point()));
            return Err(io(error));
        }
        let bytes = dropped.iter().map(|s| s.size()).sum();
        let freed = Freed {
            segments: dropped.len(),
            bytes,
            local_log_start: self.state.read().local_log_start(),
        };
        for segment in &dropped {
            segment.remove().map_err(io)?;
        }
        if !dropped.is_empty() {
            self.remove_snapshots_below(self.active_base_after(&freed))
                .map_err(io)?;
            self.shared.note_names();
        }
        Ok(freed)
    }

    fn active_base_after(&self, freed: &Freed) -> i64 {
        self.state
            .read()
            .segments
            .first()
            .map_or(freed.local_log_start, |s| s.base)
    }

    fn remove_snapshots_below(&self, base: i64) -> io::Result<()> {
        for entry in calls::read_dir(self.dir())? {
            let entry = entry?;
            if let Some((offset, SNAPSHOT | RECENT)) =
                entry.file_name().to_str().and_then(parse_file_name)
                && offset < base
            {
                remove_if_there(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Where `set_log_start` may move by `retention.ms` and `retention.bytes`; `None`: nothing to delete.
    /// Looks at closed, durable segments of the local log only; the caller keeps it below the high watermark.
    pub fn retention_start(&self, now_ms: i64) -> Option<i64> {
        let config = self.config();
        if !config.cleanup_policy.delete {
            return None;
        }
        self.expired(now_ms, config.retention_ms, config.retention_bytes)
    }

    /// Whether `retention.ms` has passed for all that is in the log, the active segment too: Kafka then
    /// rolls, so that all of it goes.
    pub fn is_wholly_expired(&self, now_ms: i64) -> bool {
        let config = self.config();
        let active = self.active();
        let Some(age_ms) = config.retention_ms.filter(|_| config.cleanup_policy.delete) else {
            return false;
        };
        let closed = self.state.read().segments.len() > 1;
        let older = !closed || self.retention_start(now_ms) == Some(active.base);
        let newest = self.newest_ms(&active);
        active.size() > 0
            && older
            && newest.is_ok_and(|ms| ms >= 0 && now_ms.saturating_sub(ms) > age_ms)
    }

    /// Where `free_local_before` may move by `local.retention.*`, once all below is verified in the bucket.
    pub fn local_retention_start(&self, now_ms: i64) -> Option<i64> {
        let config = self.config();
        let age_ms = config.local_retention_ms.or(config.retention_ms);
        let bytes = config.local_retention_bytes.or(config.retention_bytes);
        self.expired(now_ms, age_ms, bytes)
    }

    fn expired(&self, now_ms: i64, age_ms: Option<i64>, bytes: Option<u64>) -> Option<i64> {
        let (segments, durable_end) = {
            let state = self.state.read();
            if state.segments.len() < 2 {
                // Most logs of a broker with thousands, each asked every second.
                return None;
            }
            (state.segments.clone(), state.durable_end)
        };
        let closed = &segments[..segments.len().saturating_sub(1)];
        let mut total: u64 = segments.iter().map(|s| s.size()).sum();
        let mut start = None;
        for segment in closed.iter().take_while(|s| s.end() <= durable_end) {
            // Nothing goes because of a number that is not in the log.
            let Ok(newest_ms) = self.newest_ms(segment) else {
                break;
            };
            let old =
                age_ms.is_some_and(|age| newest_ms >= 0 && now_ms.saturating_sub(newest_ms) > age);
            total = total.saturating_sub(segment.size());
            // As in Kafka: a segment goes if what stays is still as much as may be kept.
            let over = bytes.is_some_and(|bytes| total >= bytes);
            if !old && !over {
                break;
            }
            start = Some(segment.end());
        }
        start
    }
}
