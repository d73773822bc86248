//! A segment by its records' times. The time index has no checksum, and its end may be missing: what it says is held
//! against the log.

use std::io;
use std::sync::atomic::Ordering;

use crate::descriptors::Descriptors;
use crate::segment::SegmentFile;
use crate::segment::scan::{Scanner, Step};

impl SegmentFile {
    /// An offset below which no record is as late as `timestamp_ms`.
    pub(crate) fn near_time(
        &self,
        timestamp_ms: i64,
        descriptors: &Descriptors,
    ) -> io::Result<i64> {
        let entry = self.indexes.lock().floor_time(timestamp_ms, descriptors)?;
        match entry {
            Some(entry) if self.is_time_of(entry, descriptors)? => Ok(entry.1),
            _ => Ok(self.base),
        }
    }

    /// Whether the batch that ends at an entry's offset has its timestamp.
    fn is_time_of(&self, entry: (i64, i64), descriptors: &Descriptors) -> io::Result<bool> {
        let located = self.locate(entry.1, descriptors)?;
        Ok(matches!(located, Ok(Some(at))
            if at.header.max_timestamp == entry.0 && at.header.last_offset() == entry.1))
    }

    /// Last offset of the batch that the newest entry of the time index is about; `None` if it is about none.
    pub(crate) fn newest_time(&self, descriptors: &Descriptors) -> io::Result<Option<i64>> {
        let newest = self.indexes.lock().newest_time();
        let right = newest.0 >= 0 && self.is_time_of(newest, descriptors)?;
        Ok(right.then_some(newest.1))
    }

    /// Highest timestamp, -1 for none, as the log has it: the index of a segment that was not written by
    /// this process is looked at once.
    pub(crate) fn sure_max_timestamp_ms(&self, descriptors: &Descriptors) -> io::Result<i64> {
        let newest = self.indexes.lock().newest_time();
        if self.times_checked.load(Ordering::Acquire)
            || (newest.0 >= 0 && self.is_time_of(newest, descriptors)?)
        {
            self.times_checked.store(true, Ordering::Release);
            return Ok(newest.0);
        }
        let file = self.open(descriptors)?;
        let mut scanner = Scanner::new(&file, 0, self.size(), self.base);
        let mut found = (-1, -1);
        loop {
            match scanner.step(|_| true)? {
                Step::Batch { header, .. } if header.max_timestamp > found.0 => {
                    found = (header.max_timestamp, header.last_offset());
                }
                Step::Batch { .. } => {}
                Step::End => break,
                Step::Bad { why, .. } => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, why));
                }
            }
        }
        self.indexes.lock().set_newest_time(found);
        self.times_checked.store(true, Ordering::Release);
        Ok(found.0)
    }

    /// What is left of the time index may say nothing of the newest batches that are left.
    pub(super) fn learn_newest_time(&self, descriptors: &Descriptors) -> io::Result<()> {
        let known = self.newest_time(descriptors)?;
        let mut newest = match known {
            Some(_) => self.indexes.lock().newest_time(),
            None => (-1, -1),
        };
        let from = match known {
            Some(offset) => self.near(offset, descriptors)?,
            None => 0,
        };
        let file = self.open(descriptors)?;
        let mut scanner = Scanner::new(&file, from, self.size(), self.base);
        while let Step::Batch { header, .. } = scanner.step(|_| false)? {
            if header.max_timestamp > newest.0 {
                newest = (header.max_timestamp, header.last_offset());
            }
        }
        self.indexes.lock().set_newest_time(newest);
        Ok(())
    }
}
