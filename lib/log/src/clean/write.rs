//! Writes a group of segments anew and puts the result in their place.

use std::io::{self, IoSlice};
use std::sync::Arc;

use whimbrel_wire::batch::BatchHeader;

use crate::calls;
use crate::clean::filter::Filter;
use crate::clean::{Cleaned, Pace};
use crate::error::CleanError;
use crate::log::Log;
use crate::naming::{CLEANED, LOG, OF_A_SEGMENT, RECENT, SNAPSHOT, SWAP, TXN_INDEX, file_path};
use crate::replace::{remove_if_there, sync_dir};
use crate::segment::{SegmentFile, UNKNOWN_MS};

impl Log {
    /// Cleans `group`, neighbours in the log, into one segment with the first one's base offset.
    pub(crate) fn clean_group(
        &self,
        group: &[Arc<SegmentFile>],
        cuts: u64,
        filter: &mut Filter<'_>,
        cleaned: &mut Cleaned,
        pace: &mut dyn Pace,
    ) -> Result<(), CleanError> {
        let Some(first) = group.first() else {
            return Ok(());
        };
        let written = self.write_cleaned(group, filter, cleaned, pace);
        let done = written.and_then(|into| {
            cleaned.bytes_before += group.iter().map(|s| s.size()).sum::<u64>();
            cleaned.bytes_after += into.size();
            self.put_in_place(group, cuts, &into)
        });
        if done.is_err() {
            // What is left of it is swept by the next cleaning or start.
            let _ = self.sweep(first.base);
        }
        done
    }

    /// Removes `.cleaned` files.
    fn sweep(&self, base: i64) -> io::Result<()> {
        for suffix in OF_A_SEGMENT {
            remove_if_there(&file_path(self.dir(), base, &format!("{suffix}{CLEANED}")))?;
        }
        Ok(())
    }

    fn write_cleaned(
        &self,
        group: &[Arc<SegmentFile>],
        filter: &mut Filter<'_>,
        cleaned: &mut Cleaned,
        pace: &mut dyn Pace,
    ) -> Result<SegmentFile, CleanError> {
        let base = group.first().map_or(0, |first| first.base);
        let end = group.last().map_or(0, |last| last.end());
        let descriptors = &self.shared.descriptors;
        let io = |source| self.unreadable(source);
        self.sweep(base).map_err(io)?;
        let into = SegmentFile::create_as(self.dir(), base, CLEANED, descriptors).map_err(io)?;
        let index = file_path(self.dir(), base, &format!("{TXN_INDEX}{CLEANED}"));
        let interval = self.config().index_interval_bytes;
        let (mut aborted, mut failed) = (Vec::new(), None);
        for segment in group {
            self.each_batch(segment, pace, |batch| {
                let last_offset = batch.header.last_offset();
                let kept = filter.judge(batch)?;
                aborted.extend(kept.aborted);
                cleaned.records_kept += kept.records;
                if let (Some(bytes), None) = (kept.bytes, &failed) {
                    let header = BatchHeader::parse(&bytes).map_err(|e| e.to_string())?;
                    let position = into.size();
                    let written =
                        segment
                            .append_time_of(last_offset, descriptors)
                            .and_then(|time| {
                                into.write(&mut [IoSlice::new(&bytes)], descriptors)?;
                                Ok(time.unwrap_or(UNKNOWN_MS))
                            });
                    match written {
                        Ok(time_ms) => {
                            into.note(&[(header, position)], interval, Some(time_ms), descriptors)
                        }
                        Err(error) => failed = Some(error),
                    }
                }
                Ok(())
            })?;
            if let Some(error) = failed.take() {
                return Err(io(error));
            }
        }
        crate::txn_index::write_all(&index, &aborted).map_err(io)?;
        into.finish(descriptors).map_err(io)?;
        into.set_end(end);
        self.sync_cleaned(base).map_err(io)?;
        Ok(into)
    }

    fn sync_cleaned(&self, base: i64) -> io::Result<()> {
        for suffix in OF_A_SEGMENT {
            let path = file_path(self.dir(), base, &format!("{suffix}{CLEANED}"));
            match calls::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => self.shared.note(calls::sync_all(&opened?, &path))?,
            }
        }
        self.shared.note(sync_dir(self.dir()))
    }

    /// The new segment takes the place of the old ones, unless the log was changed below meanwhile.
    fn put_in_place(
        &self,
        group: &[Arc<SegmentFile>],
        cuts: u64,
        into: &SegmentFile,
    ) -> Result<(), CleanError> {
        let _writer = self.writer.lock();
        self.shared.check()?;
        let at = {
            let state = self.state.read();
            let same = |at: &usize| {
                let there = state.segments.get(*at..*at + group.len());
                there.is_some_and(|there| there.iter().zip(group).all(|(a, b)| Arc::ptr_eq(a, b)))
            };
            let at = state.segments.partition_point(|s| s.base < into.base);
            // A segment that was cut is the same one, and holds something else.
            Some(at).filter(|at| state.cuts == cuts && same(at))
        };
        let Some(at) = at.filter(|_| !self.is_deleted()) else {
            return Err(CleanError::Changed { log: self.name() });
        };
        let io = |source| self.unreadable(source);
        // Recovery expects a batch that ends where the stored point says: that place must not lie in what
        // is cleaned.
        self.store_present_point().map_err(io)?;
        self.rename_all(into.base, CLEANED, SWAP).map_err(io)?;
        self.shared.note(sync_dir(self.dir())).map_err(io)?;
        // From here on the next start would finish it; half of it is not a state to go on from.
        self.swap_in(at, group, into).map_err(|error| {
            let why = format!("cleaning of {}: {error}", self.name());
            CleanError::DiskFailed(self.shared.fail(&why))
        })?;
        self.shared.note_names();
        self.mark_dirty(None);
        Ok(())
    }

    /// Readers wait while names change: what they open by name must be what the state says.
    fn swap_in(&self, at: usize, group: &[Arc<SegmentFile>], into: &SegmentFile) -> io::Result<()> {
        let mut state = self.state.write();
        state.generation += 1;
        for segment in group {
            segment.remove()?;
        }
        self.rename_all(into.base, SWAP, "")?;
        let before: u64 = group.iter().map(|s| s.size()).sum();
        let descriptors = &self.shared.descriptors;
        let (placed, _) = SegmentFile::load(self.dir(), into.base, into.end(), descriptors)?;
        state.base_bytes = (state.base_bytes + before).saturating_sub(placed.size());
        state
            .segments
            .splice(at..at + group.len(), [Arc::new(placed)]);
        for segment in group.iter().skip(1) {
            for suffix in [SNAPSHOT, RECENT] {
                remove_if_there(&file_path(self.dir(), segment.base, suffix))?;
            }
        }
        Ok(())
    }

    /// Indexes first: a log without its suffix is the sign that all is there.
    fn rename_all(&self, base: i64, from: &str, to: &str) -> io::Result<()> {
        let order = OF_A_SEGMENT.iter().filter(|suffix| **suffix != LOG);
        for suffix in order.chain([&LOG]) {
            let old = file_path(self.dir(), base, &format!("{suffix}{from}"));
            let new = file_path(self.dir(), base, &format!("{suffix}{to}"));
            match calls::rename(&old, &new) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }
}
