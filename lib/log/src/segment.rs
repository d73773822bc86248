//! One segment: a `.log` file of batches and its indexes.
//!
//! Written by one thread at a time (the log's writer lock), read by any number at once: bytes below
//! `size` never change while the segment is part of the log, except by a truncation, which the log
//! tells readers about.

mod indexes;
pub(crate) mod scan;

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;
use whimbrel_wire::batch::BatchHeader;

use crate::descriptors::{Descriptors, Slot};
use crate::naming::{APPEND_TIME, CUT, INDEX, LOG, TIME_INDEX, TXN_INDEX, file_path};
use crate::replace::{remove_if_there, sync_dir};
use indexes::Indexes;
use scan::{Scanner, Step};

/// Places where readers stopped, so that the next read of each needs no search.
const HINTS: usize = 4;

#[derive(Debug, Default)]
struct Hints {
    at: [(i64, u64); HINTS],
    next: usize,
}

/// Where a batch stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Located {
    pub(crate) position: u64,
    pub(crate) header: BatchHeader,
}

#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub(crate) base: i64,
    dir: PathBuf,
    log: Arc<Slot>,
    size: AtomicU64,
    end: AtomicI64,
    indexes: Mutex<Indexes>,
    hints: Mutex<Hints>,
}

impl SegmentFile {
    fn new(dir: &Path, base: i64, size: u64, end: i64) -> Self {
        SegmentFile {
            base,
            dir: dir.to_owned(),
            log: Slot::new(file_path(dir, base, LOG)),
            size: AtomicU64::new(size),
            end: AtomicI64::new(end),
            indexes: Mutex::new(Indexes::new(dir, base)),
            hints: Mutex::new(Hints::default()),
        }
    }

    /// An empty segment; index files of an earlier life are removed.
    pub(crate) fn create(
        dir: &Path,
        base: i64,
        descriptors: &Descriptors,
    ) -> io::Result<SegmentFile> {
        for suffix in [INDEX, TIME_INDEX, TXN_INDEX, APPEND_TIME] {
            remove_if_there(&file_path(dir, base, suffix))?;
        }
        let segment = SegmentFile::new(dir, base, 0, base);
        descriptors.create(&segment.log)?.set_len(0)?;
        // Kafka wants both index files beside every segment.
        let mut indexes = segment.indexes.lock();
        indexes.finish(descriptors)?;
        drop(indexes);
        Ok(segment)
    }

    /// A segment that is there, ending at `end` as far as is known. False: the indexes are missing or bad.
    pub(crate) fn load(
        dir: &Path,
        base: i64,
        end: i64,
        descriptors: &Descriptors,
    ) -> io::Result<(SegmentFile, bool)> {
        let size = std::fs::metadata(file_path(dir, base, LOG))?.len();
        let segment = SegmentFile::new(dir, base, size, end);
        let usable = segment.indexes.lock().load(size, descriptors)?;
        Ok((segment, usable))
    }

    pub(crate) fn path(&self) -> &Path {
        self.log.path()
    }

    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Offset after the last batch; the base offset if there is none.
    pub(crate) fn end(&self) -> i64 {
        self.end.load(Ordering::Acquire)
    }

    pub(crate) fn set_end(&self, end: i64) {
        self.end.store(end, Ordering::Release);
    }

    pub(crate) fn max_timestamp_ms(&self) -> i64 {
        self.indexes.lock().max_timestamp_ms
    }

    pub(crate) fn open(&self, descriptors: &Descriptors) -> io::Result<Arc<File>> {
        descriptors.open(&self.log)
    }

    #[cfg(test)]
    pub(crate) fn close_file(&self) {
        self.log.close();
    }

    pub(crate) fn index_is_full(&self, segment_index_bytes: u64) -> bool {
        self.indexes.lock().is_full(segment_index_bytes)
    }

    /// Writes `parts` behind the last batch. On an error the file is cut back to what it was; the
    /// segment is unchanged either way until [`Self::note`].
    pub(crate) fn write(
        &self,
        parts: &mut [IoSlice<'_>],
        descriptors: &Descriptors,
    ) -> io::Result<Arc<File>> {
        let file = self.open(descriptors)?;
        let start = self.size();
        if let Err(error) = write_all_vectored_at(&file, parts, start) {
            // Should this fail too, the next append overwrites the rest, and recovery cuts it off.
            let _ = file.set_len(start);
            return Err(error);
        }
        Ok(file)
    }

    /// Makes written batches part of the segment: `(header, position)` of each.
    pub(crate) fn note(
        &self,
        batches: &[(BatchHeader, u64)],
        interval: u64,
        now_ms: Option<i64>,
        descriptors: &Descriptors,
    ) {
        let Some((last, position)) = batches.last() else {
            return;
        };
        let mut indexes = self.indexes.lock();
        let mut bytes = 0;
        for (header, position) in batches {
            indexes.note(*position, header, interval, descriptors);
            bytes += header.size() as u64;
        }
        if let Some(now_ms) = now_ms {
            indexes.note_append(last.last_offset(), bytes, now_ms, descriptors);
        }
        drop(indexes);
        self.size
            .store(position + last.size() as u64, Ordering::Release);
        self.set_end(last.next_offset());
    }

    /// A position at or before the batch that holds `offset`, without reading the log.
    pub(crate) fn near(&self, offset: i64, descriptors: &Descriptors) -> io::Result<u64> {
        self.indexes.lock().floor(offset, descriptors)
    }

    /// Where a read of `offset` begins, if an earlier read stopped there. A truncation at the same moment
    /// may leave a wrong one: the caller looks whether a batch begins there with exactly this offset.
    pub(crate) fn hint(&self, offset: i64) -> Option<u64> {
        if offset == self.base {
            return Some(0);
        }
        let hints = self.hints.lock();
        hints
            .at
            .iter()
            .find(|(at, position)| *at == offset && *position > 0)
            .map(|(_, position)| *position)
    }

    pub(crate) fn remember(&self, offset: i64, position: u64) {
        let mut hints = self.hints.lock();
        if hints.at.iter().any(|(at, _)| *at == offset) {
            return;
        }
        let next = hints.next;
        hints.at[next] = (offset, position);
        hints.next = (next + 1) % HINTS;
    }

    /// The first batch whose last offset is not below `offset`. `Err(Ok)` carries damage.
    pub(crate) fn locate(
        &self,
        offset: i64,
        descriptors: &Descriptors,
    ) -> io::Result<Result<Option<Located>, Step>> {
        let size = self.size();
        let start = self.near(offset, descriptors)?;
        let file = self.open(descriptors)?;
        let mut scanner = Scanner::new(&file, start, size, self.base);
        loop {
            match scanner.step(|_| false)? {
                Step::Batch { position, header } if header.last_offset() >= offset => {
                    return Ok(Ok(Some(Located { position, header })));
                }
                Step::Batch { .. } => {}
                Step::End => return Ok(Ok(None)),
                bad @ Step::Bad { .. } => return Ok(Err(bad)),
            }
        }
    }

    /// An offset below which no record is as late as `timestamp_ms`.
    pub(crate) fn near_time(
        &self,
        timestamp_ms: i64,
        descriptors: &Descriptors,
    ) -> io::Result<i64> {
        self.indexes.lock().floor_time(timestamp_ms, descriptors)
    }

    pub(crate) fn append_time_of(
        &self,
        offset: i64,
        descriptors: &Descriptors,
    ) -> io::Result<Option<i64>> {
        self.indexes.lock().append_time_of(offset, descriptors)
    }

    /// Where recovery may begin to look at the log instead of the index, see `Indexes::newest`.
    pub(crate) fn newest_entry(&self, descriptors: &Descriptors) -> io::Result<Option<(i64, u64)>> {
        self.indexes.lock().newest(descriptors)
    }

    /// See `Indexes::resume`.
    pub(crate) fn resume_indexes(&self, size: u64) {
        self.indexes.lock().resume(size);
    }

    /// Leaves bytes from `position` on out of the segment, without touching the file.
    pub(crate) fn hide_from(&self, end: i64, position: u64) {
        self.size.store(position, Ordering::Release);
        self.set_end(end);
    }

    pub(crate) fn close_append_gap(&self, descriptors: &Descriptors) -> io::Result<()> {
        self.indexes
            .lock()
            .close_append_gap(self.end(), descriptors)
    }

    pub(crate) fn flush_indexes(&self, descriptors: &Descriptors) -> io::Result<()> {
        self.indexes.lock().flush(descriptors)
    }

    /// No batch follows: final length of all files.
    pub(crate) fn finish(&self, descriptors: &Descriptors) -> io::Result<()> {
        self.indexes.lock().finish(descriptors)
    }

    /// Forgets index entries about batches from `position` and `end` on, in memory and in the files.
    pub(crate) fn truncate_indexes(
        &self,
        end: i64,
        position: u64,
        descriptors: &Descriptors,
    ) -> io::Result<()> {
        *self.hints.lock() = Hints::default();
        self.indexes.lock().truncate(end, position, descriptors)
    }

    /// Cuts the log to `position`, where the batch at `end` began; durable on return. A pinned file is
    /// replaced by a copy instead, so that the pin keeps its bytes.
    pub(crate) fn cut(&self, end: i64, position: u64, descriptors: &Descriptors) -> io::Result<()> {
        use std::os::unix::fs::MetadataExt;
        let file = self.open(descriptors)?;
        if file.metadata()?.nlink() > 1 {
            let copy = file_path(&self.dir, self.base, CUT);
            let mut into = File::create(&copy)?;
            let mut from = File::open(self.path())?;
            io::copy(&mut io::Read::take(&mut from, position), &mut into)?;
            into.sync_all()?;
            std::fs::rename(&copy, self.path())?;
            sync_dir(&self.dir)?;
            self.log.close();
            self.indexes.lock().unshare()?;
        } else {
            file.set_len(position)?;
            file.sync_all()?;
        }
        self.size.store(position, Ordering::Release);
        self.set_end(end);
        self.truncate_indexes(end, position, descriptors)?;
        self.indexes
            .lock()
            .truncate_append_times(end, descriptors)?;
        crate::txn_index::truncate(&file_path(&self.dir, self.base, TXN_INDEX), end)
    }

    /// Removes all files of the segment, the log first: indexes without a log are swept at the next start.
    pub(crate) fn remove(&self) -> io::Result<()> {
        for suffix in [LOG, INDEX, TIME_INDEX, TXN_INDEX, APPEND_TIME] {
            remove_if_there(&file_path(&self.dir, self.base, suffix))?;
        }
        Ok(())
    }
}

fn write_all_vectored_at(
    file: &File,
    mut parts: &mut [IoSlice<'_>],
    mut at: u64,
) -> io::Result<()> {
    // Linux takes 1024 parts in one call.
    const MOST_PARTS: usize = 1024;
    if let [one] = parts {
        return file.write_all_at(one, at);
    }
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        let count = parts.len().min(MOST_PARTS);
        match rustix::io::pwritev(file, &parts[..count], at) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero)),
            Ok(written) => {
                at += written as u64;
                IoSlice::advance_slices(&mut parts, written);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
