//! One segment: a `.log` file of batches and its indexes.
//!
//! Written by one thread at a time (the log's writer lock), read by any number at once: bytes below
//! `size` never change while the segment is part of the log, except by a truncation, which the log
//! tells readers about.

pub(crate) mod behind;
mod indexes;
pub(crate) mod scan;
mod times;

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;
use whimbrel_wire::batch::BatchHeader;

use crate::calls;
use crate::descriptors::{Descriptors, Slot};
use crate::log::recover::Told;
use crate::naming::{CUT, LOG, OF_A_SEGMENT, TXN_INDEX, file_path};
use crate::replace::{remove_if_there, sync_dir};
use indexes::Indexes;
pub(crate) use indexes::UNKNOWN_MS;
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
    /// The highest timestamp is known to be right.
    times_checked: AtomicBool,
    /// See [`Self::begun_ms`]; below zero while it is not known.
    begun_ms: AtomicI64,
}

impl SegmentFile {
    /// `ending` stands behind the suffix of each file's name.
    fn new(dir: &Path, base: i64, size: u64, end: i64, ending: &str) -> Self {
        SegmentFile {
            base,
            dir: dir.to_owned(),
            log: Slot::new(file_path(dir, base, &format!("{LOG}{ending}"))),
            size: AtomicU64::new(size),
            end: AtomicI64::new(end),
            indexes: Mutex::new(Indexes::new(dir, base, ending)),
            hints: Mutex::new(Hints::default()),
            times_checked: AtomicBool::new(false),
            begun_ms: AtomicI64::new(-1),
        }
    }

    /// Stands for a segment whose files are not to be touched.
    pub(crate) fn absent(dir: &Path, base: i64) -> SegmentFile {
        let segment = SegmentFile::new(dir, base, 0, base, "");
        segment.times_checked.store(true, Ordering::Release);
        segment
    }

    /// An empty segment; index files of an earlier life are removed.
    pub(crate) fn create(
        dir: &Path,
        base: i64,
        descriptors: &Descriptors,
    ) -> io::Result<SegmentFile> {
        SegmentFile::create_as(dir, base, "", descriptors)
    }

    /// As `create`, with `ending` behind the names of all files.
    pub(crate) fn create_as(
        dir: &Path,
        base: i64,
        ending: &str,
        descriptors: &Descriptors,
    ) -> io::Result<SegmentFile> {
        for suffix in OF_A_SEGMENT.iter().filter(|suffix| **suffix != LOG) {
            remove_if_there(&file_path(dir, base, &format!("{suffix}{ending}")))?;
        }
        let segment = SegmentFile::new(dir, base, 0, base, ending);
        segment.times_checked.store(true, Ordering::Release);
        if let Err(error) = segment.make(descriptors) {
            // Part of it would say that the segment before ends here, although the log goes on in that one. Should
            // this fail too, recovery sees it.
            for suffix in OF_A_SEGMENT {
                let _ = remove_if_there(&file_path(dir, base, &format!("{suffix}{ending}")));
            }
            return Err(error);
        }
        Ok(segment)
    }

    fn make(&self, descriptors: &Descriptors) -> io::Result<()> {
        let file = descriptors.create(&self.log)?;
        calls::set_length(&file, self.path(), 0)?;
        // Kafka wants both index files beside every segment.
        self.indexes.lock().finish(descriptors)
    }

    /// A segment that is there, ending at `end` as far as is known. False: the indexes are missing or bad.
    pub(crate) fn load(
        dir: &Path,
        base: i64,
        end: i64,
        descriptors: &Descriptors,
    ) -> io::Result<(SegmentFile, bool)> {
        let size = std::fs::metadata(file_path(dir, base, LOG))?.len();
        let segment = SegmentFile::new(dir, base, size, end, "");
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

    /// Bytes of the larger index.
    pub(crate) fn index_bytes(&self) -> u64 {
        self.indexes.lock().bytes()
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
        if let Err(error) = calls::write_vectored_at(&file, self.path(), parts, start) {
            // Should this fail too, the next append overwrites the rest, and recovery cuts it off.
            let _ = calls::set_length(&file, self.path(), start);
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
            indexes
                .append_times
                .note(last.last_offset(), bytes, now_ms, descriptors);
        }
        drop(indexes);
        // The end first: who sees the batch knows an end behind it.
        self.set_end(last.next_offset());
        self.size
            .store(position + last.size() as u64, Ordering::Release);
    }

    /// A position at or before the batch that holds `offset`.
    pub(crate) fn near(&self, offset: i64, descriptors: &Descriptors) -> io::Result<u64> {
        let file = self.open(descriptors)?;
        self.start_of_scan(offset, &file, self.size(), descriptors)
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
        let file = self.open(descriptors)?;
        let start = self.start_of_scan(offset, &file, size, descriptors)?;
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

    /// Where the index says that a search for `offset` may begin, if the log agrees. The index has no
    /// checksum: an entry that is not about the batch it points at would make a reader miss records.
    fn start_of_scan(
        &self,
        offset: i64,
        file: &File,
        size: u64,
        descriptors: &Descriptors,
    ) -> io::Result<u64> {
        let Some((last_offset, position)) = self.indexes.lock().floor(offset, descriptors)? else {
            return Ok(0);
        };
        let step = Scanner::new(file, position, size, self.base).step(|_| false)?;
        let right =
            matches!(step, Step::Batch { header, .. } if header.last_offset() == last_offset);
        Ok(if right { position } else { 0 })
    }

    pub(crate) fn append_time_of(
        &self,
        offset: i64,
        descriptors: &Descriptors,
    ) -> io::Result<Option<i64>> {
        self.indexes
            .lock()
            .append_times
            .time_of(offset, descriptors)
    }

    /// Broker time of the newest group of appends: what comes behind the segment came later.
    pub(crate) fn newest_append_ms(&self, descriptors: &Descriptors) -> io::Result<Option<i64>> {
        self.indexes.lock().append_times.newest_ms(descriptors)
    }

    /// Broker time of the segment's first append that is known of, remembered once it was found.
    pub(crate) fn begun_ms(&self, descriptors: &Descriptors) -> io::Result<Option<i64>> {
        let known = self.begun_ms.load(Ordering::Relaxed);
        if known >= 0 {
            return Ok(Some(known));
        }
        let found = self
            .indexes
            .lock()
            .append_times
            .first_known_ms(descriptors)?;
        self.begun_ms.store(found.unwrap_or(-1), Ordering::Relaxed);
        Ok(found)
    }

    /// Where recovery may begin to look at the log instead of the index, see `Indexes::newest`.
    pub(crate) fn newest_entry(&self, descriptors: &Descriptors) -> io::Result<Option<(i64, u64)>> {
        self.indexes.lock().newest(descriptors)
    }

    /// See `Indexes::told`.
    pub(crate) fn told(&self, descriptors: &Descriptors) -> io::Result<Told> {
        self.indexes.lock().told(descriptors)
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

    /// See `AppendTimes::close_gap`.
    pub(crate) fn close_append_gap(
        &self,
        before_ms: Option<i64>,
        descriptors: &Descriptors,
    ) -> io::Result<()> {
        self.indexes
            .lock()
            .append_times
            .close_gap(self.end(), before_ms, descriptors)
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
        self.begun_ms.store(-1, Ordering::Relaxed);
        self.indexes.lock().truncate(end, position, descriptors)
    }

    /// Makes the copies that [`Self::cut`] at `position` needs of pinned files. The segment stays as it is:
    /// a disk without room for them refuses the cut before anything is cut.
    pub(crate) fn prepare_cut(&self, position: u64, descriptors: &Descriptors) -> io::Result<()> {
        if self.open(descriptors)?.metadata()?.nlink() <= 1 {
            return Ok(());
        }
        let copy = file_path(&self.dir, self.base, CUT);
        let made = self.indexes.lock().unshare().and_then(|()| {
            crate::txn_index::unshare(&file_path(&self.dir, self.base, TXN_INDEX))?;
            calls::copy(self.path(), &copy, position)
        });
        if made.is_err() {
            // What is left of it is swept at the next start at the latest.
            let _ = remove_if_there(&copy);
        }
        made
    }

    /// Cuts the log to `position`, where the batch at `end` began; durable on return. A pinned file is
    /// replaced by the copy that [`Self::prepare_cut`] made, so that the pin keeps its bytes.
    pub(crate) fn cut(&self, end: i64, position: u64, descriptors: &Descriptors) -> io::Result<()> {
        let file = self.open(descriptors)?;
        if file.metadata()?.nlink() > 1 {
            calls::rename(&file_path(&self.dir, self.base, CUT), self.path())?;
            sync_dir(&self.dir)?;
            self.log.close();
        } else {
            calls::set_length(&file, self.path(), position)?;
            calls::sync_all(&file, self.path())?;
        }
        self.size.store(position, Ordering::Release);
        self.set_end(end);
        self.truncate_indexes(end, position, descriptors)?;
        self.indexes
            .lock()
            .append_times
            .truncate(end, descriptors)?;
        self.learn_newest_time(descriptors)?;
        match crate::txn_index::truncate(&file_path(&self.dir, self.base, TXN_INDEX), end) {
            // What is damaged stays so, and is refused to readers, until the next start builds it from the log.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(()),
            other => other,
        }
    }

    /// Removes all files of the segment, the log first: indexes without a log are swept at the next start.
    pub(crate) fn remove(&self) -> io::Result<()> {
        for suffix in OF_A_SEGMENT {
            remove_if_there(&file_path(&self.dir, self.base, suffix))?;
        }
        Ok(())
    }
}
