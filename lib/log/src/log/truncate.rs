//! Cutting the end off: a replica that follows another lineage, and the repair of a damaged log.
//!
//! Order, so that a crash between any two steps leaves a log that opens as Good: the stored durable
//! point is lowered first (what is cut off is no longer promised), then files go from the newest
//! back, the cut file last. Caches (indexes, snapshots, epochs) beyond the new end are dropped at the
//! next start if the crash came before them.

use std::io;
use std::sync::Arc;

use crate::calls::{self, is_full};
use crate::durable_points::Counted;
use crate::epochs::Epochs;
use crate::error::LogError;
use crate::log::epochs::check_of;
use crate::log::{Log, Writer};
use crate::naming::{LOG, QUARANTINE, RECENT, SNAPSHOT, parse_file_name};
use crate::replace::{Durability, remove_if_there, sync_dir};
use crate::segment::SegmentFile;
use crate::types::{Health, Truncated};

impl Log {
    /// Removes everything at and after `offset`; durable on return. `epoch` must own `offset - 1` in the
    /// lineage. A batch that reaches over `offset` goes as a whole: see [`Truncated::to`].
    pub fn truncate(&self, epoch: i32, offset: i64) -> Result<Truncated, LogError> {
        let mut writer = self.writer.lock();
        self.check_good()?;
        {
            let state = self.state.read();
            let (from, to) = (state.local_log_start(), state.log_end);
            if offset < from || offset > to {
                return Err(LogError::OutOfRange { offset, from, to });
            }
            if let Some(found) = state.epochs.at(offset - 1).filter(|found| *found != epoch) {
                return Err(LogError::NotInLineage {
                    offset,
                    asked: epoch,
                    found,
                });
            }
        }
        self.truncate_at(&mut writer, offset)
    }

    /// Drops everything and starts empty at `offset`, where the log then begins: for a replica that shares nothing
    /// with its source, or whose end is below the source's start.
    pub fn reset(&self, offset: i64) -> Result<Truncated, LogError> {
        self.reset_to(offset, false)
    }

    /// Drops everything that is local and ends at `offset`, below the local log start. The log begins where it did,
    /// and its lineage below stays: the bucket holds what is there.
    pub fn reset_local(&self, offset: i64) -> Result<Truncated, LogError> {
        self.reset_to(offset, true)
    }

    fn reset_to(&self, offset: i64, keeps_below: bool) -> Result<Truncated, LogError> {
        let mut writer = self.writer.lock();
        self.check_changeable()?;
        if self.state.read().unread.is_some() {
            // Where it ends is not known: it may hold what the source has not.
            self.check_good()?;
        }
        if offset < 0 {
            return Err(LogError::OutOfRange {
                offset,
                from: 0,
                to: i64::MAX,
            });
        }
        let start = match keeps_below {
            true => {
                let state = self.state.read();
                (state.log_start.min(offset), state.start_known)
            }
            false => (offset, true),
        };
        self.reset_at(&mut writer, offset, start)
    }

    /// `start` is where the log begins then, and whether that is known.
    fn reset_at(
        &self,
        writer: &mut Writer,
        offset: i64,
        start: (i64, bool),
    ) -> Result<Truncated, LogError> {
        self.lower_clean_end(0)?;
        let (from, removed, point, epochs) = {
            let mut state = self.state.write();
            let removed = std::mem::take(&mut state.segments);
            let from = state.log_end;
            // An empty place holder until the real file is there; nothing can be read from it.
            state.segments = removed.clone();
            state.generation += 1;
            state.cuts += 1;
            (state.promised_end, state.unread) = (0, None);
            state.emptied = true;
            let mut point = state.point();
            point.durable_end = 0;
            point.log_start = Some(start.0).filter(|_| start.1);
            point.bytes = Counted::ToDurableEnd(0);
            let mut epochs = state.epochs.clone();
            epochs.truncate_from_end(offset);
            if start.0 == offset {
                epochs = Epochs::default();
            }
            point.epochs = check_of(&epochs);
            (from, removed, point, epochs)
        };
        self.lower_clean_end(0)?;
        self.in_truncation(self.shared.store_point(self.key(), point))?;
        self.in_truncation(self.remove_files_above(-1))?;
        for segment in removed.iter().rev() {
            self.in_truncation(segment.remove())?;
        }
        self.in_truncation(self.remove_logs_from(0))?;
        let segment = self.in_truncation(SegmentFile::create(
            self.dir(),
            offset,
            &self.shared.descriptors,
        ))?;
        {
            let mut state = self.state.write();
            state.segments = vec![Arc::new(segment)];
            state.emptied = false;
            state.generation += 1;
            state.cuts += 1;
            (state.log_end, state.durable_end, state.high_watermark) = (offset, offset, offset);
            (state.log_start, state.start_known) = start;
            (state.base_bytes, state.end_bytes, state.durable_bytes) = (0, 0, 0);
            state.epochs = epochs.clone();
            state.health = Health::Good;
            state.hole = state.hole.map(|hole| hole.min(offset));
        }
        self.in_truncation(self.shared.early_acks.cut(self.key(), offset))?;
        *writer = Writer::default();
        self.in_truncation(self.store_epochs(&epochs, Durability::Now))?;
        self.shared.note_names();
        self.mark_dirty(None);
        Ok(Truncated { from, to: offset })
    }

    /// Moves what is damaged to `quarantine/` under the disk's root and cuts the log before it: Good
    /// again, to be filled by replication. Only for a replica whose data another one holds.
    pub fn set_aside_damage(&self) -> Result<Truncated, LogError> {
        let mut writer = self.writer.lock();
        self.check_changeable()?;
        if self.state.read().unread.is_some() {
            return self.set_aside_all(&mut writer);
        }
        let (log_end, active) = {
            let state = self.state.read();
            if state.health == Health::Good {
                return Ok(Truncated {
                    from: state.log_end,
                    to: state.log_end,
                });
            }
            let from = state.promised_end.max(state.log_end);
            (from, Arc::clone(&state.segments[state.segments.len() - 1]))
        };
        let aside = self.shared.root.join(QUARANTINE).join(self.name());
        self.in_truncation(self.keep_copies(&aside, active.base))?;
        let to = self.state.read().log_end;
        {
            let mut state = self.state.write();
            state.health = Health::Good;
            state.promised_end = 0;
            state.durable_end = state.durable_end.min(to);
        }
        // The file still holds the epochs of what is given up.
        let epochs = self.state.read().epochs.clone();
        self.in_truncation(self.store_epochs(&epochs, Durability::Now))?;
        self.in_truncation(self.remove_logs_from(active.base + 1))?;
        self.truncate_at(&mut writer, to)?;
        Ok(Truncated { from: log_end, to })
    }

    /// The same of a log that could not be read: all of it goes.
    fn set_aside_all(&self, writer: &mut Writer) -> Result<Truncated, LogError> {
        let (from, to, known) = {
            let state = self.state.read();
            let from = state.promised_end.max(state.log_end);
            (from, state.log_start, state.start_known)
        };
        let aside = self.shared.root.join(QUARANTINE).join(self.name());
        // The disk may not give the names either: then all stays as it is.
        self.shared
            .note(self.keep_copies(&aside, 0))
            .map_err(|source| LogError::io(self.dir(), source))?;
        self.reset_at(writer, to, (to, known))?;
        Ok(Truncated { from, to })
    }

    /// Links of the damaged segment, which begins at `first`, and all behind it.
    fn keep_copies(&self, aside: &std::path::Path, first: i64) -> io::Result<()> {
        calls::create_dir_all(aside)?;
        for (base, path) in self.logs_from(first)? {
            let name = crate::naming::file_name(base, LOG);
            match calls::hard_link(&path, &aside.join(name)) {
                // An earlier repair that did not get to its end.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other?,
            }
        }
        sync_dir(aside)
    }

    fn logs_from(&self, first: i64) -> io::Result<Vec<(i64, std::path::PathBuf)>> {
        let mut found = Vec::new();
        for entry in calls::read_dir(self.dir())? {
            let entry = entry?;
            if let Some((base, LOG)) = entry.file_name().to_str().and_then(parse_file_name)
                && base >= first
            {
                found.push((base, entry.path()));
            }
        }
        found.sort_unstable_by_key(|(base, _)| std::cmp::Reverse(*base));
        Ok(found)
    }

    fn remove_logs_from(&self, first: i64) -> io::Result<()> {
        for (_, path) in self.logs_from(first)? {
            remove_if_there(&path)?;
        }
        Ok(())
    }

    /// Cuts at `offset`, which lies in the local log.
    fn truncate_at(&self, writer: &mut Writer, offset: i64) -> Result<Truncated, LogError> {
        let from = self.state.read().log_end;
        let (index, position, to) = self.place_of(offset)?;
        self.prepare(index, position)?;
        self.lower_clean_end(to)?;
        let bytes = self.bytes_to(index, position);
        self.store_cut(to, bytes)?;
        let (removed, cut) = {
            let mut state = self.state.write();
            let removed = state.segments.split_off(index + 1);
            let cut = Arc::clone(&state.segments[index]);
            state.generation += 1;
            state.cuts += 1;
            // Together with the generation: who reads from here on looks below the cut only.
            cut.hide_from(to, position);
            state.log_end = to;
            state.durable_end = state.durable_end.min(to);
            state.high_watermark = state.high_watermark.min(to);
            state.hole = state.hole.map(|hole| hole.min(to));
            state.end_bytes = bytes;
            state.durable_bytes = state.durable_bytes.min(state.end_bytes);
            state.epochs.truncate_from_end(to);
            (removed, cut)
        };
        // Again: a cleaning that ended meanwhile noted what it had looked at.
        self.lower_clean_end(to)?;
        // Again: a sync that ended meanwhile noted the end as it was.
        self.in_truncation(self.store_present_point())?;
        self.in_truncation(self.shared.early_acks.cut(self.key(), to))?;
        self.in_truncation(self.remove_files_above(to))?;
        for segment in removed.iter().rev() {
            self.in_truncation(segment.remove())?;
        }
        self.in_truncation(sync_dir(self.dir()))?;
        self.in_truncation(cut.cut(to, position, &self.shared.descriptors))?;
        writer.first_timestamp_ms = self.in_truncation(self.first_timestamp(&cut))?;
        let replayed = self.in_truncation(self.replay_producers(to, None))?;
        let snapshot = replayed.snapshot;
        let inner = !self
            .state
            .read()
            .segments
            .iter()
            .any(|s| s.base == snapshot);
        writer.producers = replayed.producers;
        writer.inner_snapshot = inner.then_some(snapshot);
        writer.snapshot_bytes = 0;
        self.shared.note_names();
        self.mark_dirty(None);
        Ok(Truncated { from, to })
    }

    /// What is written above `to` from here on is dirty, whatever was there before. First here, then on the disk:
    /// see [`crate::clean_points`].
    fn lower_clean_end(&self, to: i64) -> Result<(), LogError> {
        let was = {
            let mut state = self.state.write();
            let was = state.clean_end;
            state.clean_end = was.min(to);
            was
        };
        if was <= to {
            return Ok(());
        }
        match self.shared.note(self.shared.clean_points.forget()) {
            Err(error) if is_full(&error) => Err(LogError::io(self.dir(), error)),
            other => self.in_truncation(other),
        }
    }

    /// What the cut needs room for: nothing was cut yet if it fails.
    fn prepare(&self, index: usize, position: u64) -> Result<(), LogError> {
        let segment = Arc::clone(&self.state.read().segments[index]);
        match segment.prepare_cut(position, &self.shared.descriptors) {
            Err(error) if is_full(&error) => Err(LogError::io(self.dir(), error)),
            other => self.in_truncation(other),
        }
    }

    /// Stores what is promised and the lineage as they will be: nothing was cut yet if it fails, and the
    /// next sync raises the point again.
    fn store_cut(&self, to: i64, bytes: u64) -> Result<(), LogError> {
        let (point, epochs) = {
            let state = self.state.read();
            let mut point = state.point();
            point.durable_end = state.durable_end.min(to);
            point.bytes = Counted::ToDurableEnd(state.durable_bytes.min(bytes));
            let mut epochs = state.epochs.clone();
            let epochs = epochs.truncate_from_end(to).then_some(epochs);
            if let Some(epochs) = &epochs {
                // Before the file: what it says more is seen to be so.
                point.epochs = check_of(epochs);
            }
            (point, epochs)
        };
        let stored = self.shared.store_point(self.key(), point).and_then(|()| {
            epochs.map_or(Ok(()), |epochs| self.store_epochs(&epochs, Durability::Now))
        });
        match stored {
            Err(error) if is_full(&error) => Err(LogError::io(self.dir(), error)),
            other => self.in_truncation(other),
        }
    }

    /// Bytes of the log up to `position` of a segment.
    fn bytes_to(&self, index: usize, position: u64) -> u64 {
        let state = self.state.read();
        let below: u64 = state.segments[..index].iter().map(|s| s.size()).sum();
        let local = below.saturating_add(position);
        state.base_bytes.saturating_add(local)
    }

    /// Which segment ends where the log is to end, at which byte, and the exact offset.
    fn place_of(&self, offset: i64) -> Result<(usize, u64, i64), LogError> {
        let segments = self.state.read().segments.clone();
        let index = segments
            .partition_point(|s| s.base <= offset)
            .saturating_sub(1);
        let segment = &segments[index];
        let located = segment.locate(offset, &self.shared.descriptors);
        match located.map_err(|source| LogError::io(segment.path(), source))? {
            Ok(Some(at)) => Ok((index, at.position, at.header.base_offset.min(offset))),
            Ok(None) => Ok((index, segment.size(), offset)),
            Err(bad) => Err(self.corrupt(segment, bad).into()),
        }
    }

    /// Removes snapshots and their sidecars above `end`.
    fn remove_files_above(&self, end: i64) -> io::Result<()> {
        for entry in calls::read_dir(self.dir())? {
            let entry = entry?;
            if let Some((offset, SNAPSHOT | RECENT)) =
                entry.file_name().to_str().and_then(parse_file_name)
                && offset > end
            {
                remove_if_there(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Half a truncation is not a state to go on from: the disk counts as failed, the next start finishes.
    fn in_truncation<T>(&self, result: io::Result<T>) -> Result<T, LogError> {
        result.map_err(|error| {
            LogError::DiskFailed(
                self.shared
                    .fail(&format!("truncation of {}: {error}", self.name())),
            )
        })
    }
}
