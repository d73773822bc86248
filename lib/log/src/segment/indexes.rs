//! The index files of one segment: offsets, times, and our append times ([`append_times`]).
//!
//! * `.index` (`OffsetIndex`): `{i32 relative offset, i32 position}`: last offset of a batch and
//!   where the batch begins; at most one per `index.interval.bytes`.
//! * `.timeindex` (`TimeIndex`): `{i64 highest timestamp so far, i32 relative offset}` of the last
//!   offset of the batch that had it; timestamps rise strictly; one entry more when the segment is closed.

mod append_times;

use std::io;
use std::path::Path;

use whimbrel_wire::batch::BatchHeader;

use self::append_times::AppendTimes;
pub(crate) use self::append_times::UNKNOWN_MS;
use crate::descriptors::Descriptors;
use crate::entry_file::EntryFile;
use crate::log::recover::Told;
use crate::naming::{APPEND_TIME, INDEX, TIME_INDEX, file_path};

#[derive(Debug)]
pub(crate) struct Indexes {
    base: i64,
    offsets: EntryFile<8>,
    times: EntryFile<12>,
    pub(super) append_times: AppendTimes,
    since_entry: u64,
    /// -1 without a timestamp.
    pub(super) max_timestamp_ms: i64,
    max_timestamp_offset: i64,
    last_time_entry_ms: i64,
}

fn time_entry(timestamp_ms: i64, relative: i32) -> [u8; 12] {
    let mut entry = [0; 12];
    entry[..8].copy_from_slice(&timestamp_ms.to_be_bytes());
    entry[8..].copy_from_slice(&relative.to_be_bytes());
    entry
}

fn parse_time(entry: &[u8; 12]) -> (i64, i32) {
    let [a, b, c, d, e, f, g, h, relative @ ..] = *entry;
    (
        i64::from_be_bytes([a, b, c, d, e, f, g, h]),
        i32::from_be_bytes(relative),
    )
}

fn parse_offset(entry: &[u8; 8]) -> (i32, i32) {
    let [a, b, c, d, position @ ..] = *entry;
    (
        i32::from_be_bytes([a, b, c, d]),
        i32::from_be_bytes(position),
    )
}

impl Indexes {
    pub(crate) fn new(dir: &Path, base: i64, ending: &str) -> Self {
        let path = |suffix: &str| file_path(dir, base, &format!("{suffix}{ending}"));
        Indexes {
            base,
            offsets: EntryFile::new(path(INDEX)),
            times: EntryFile::new(path(TIME_INDEX)),
            append_times: AppendTimes::new(path(APPEND_TIME), base),
            since_entry: 0,
            max_timestamp_ms: -1,
            max_timestamp_offset: -1,
            last_time_entry_ms: -1,
        }
    }

    /// Takes over the files. False if they cannot be used for a segment of `size` bytes.
    pub(crate) fn load(&mut self, size: u64, descriptors: &Descriptors) -> io::Result<bool> {
        self.append_times.load(descriptors)?;
        let there = self.offsets.load(descriptors)? & self.times.load(descriptors)?;
        if !there && size > 0 {
            return Ok(false);
        }
        let position = self
            .offsets
            .last(descriptors)?
            .map(|entry| parse_offset(&entry));
        if position.is_some_and(|(relative, position)| {
            relative < 0 || position < 0 || u64::from(position.unsigned_abs()) >= size
        }) {
            return Ok(false);
        }
        self.take_last_time(descriptors)?;
        Ok(true)
    }

    fn take_last_time(&mut self, descriptors: &Descriptors) -> io::Result<()> {
        let last = self
            .times
            .last(descriptors)?
            .map(|entry| parse_time(&entry));
        let (timestamp_ms, relative) = last.unwrap_or((-1, -1));
        self.max_timestamp_ms = timestamp_ms;
        self.last_time_entry_ms = timestamp_ms;
        self.max_timestamp_offset = self.base.saturating_add(i64::from(relative));
        Ok(())
    }

    fn relative(&self, offset: i64) -> i32 {
        // A segment is rolled before an offset of its own could lie further away. Others are below or above it.
        let distance = offset.saturating_sub(self.base);
        let far = if distance < 0 { i32::MIN } else { i32::MAX };
        i32::try_from(distance).unwrap_or(far)
    }

    /// Notes a batch written at `position`.
    pub(crate) fn note(
        &mut self,
        position: u64,
        header: &BatchHeader,
        interval: u64,
        descriptors: &Descriptors,
    ) {
        let last_offset = header.last_offset();
        if header.max_timestamp > self.max_timestamp_ms {
            self.max_timestamp_ms = header.max_timestamp;
            self.max_timestamp_offset = last_offset;
        }
        if self.since_entry > interval
            && let Ok(position) = i32::try_from(position)
        {
            let mut entry = [0; 8];
            entry[..4].copy_from_slice(&self.relative(last_offset).to_be_bytes());
            entry[4..].copy_from_slice(&position.to_be_bytes());
            self.offsets.push(entry, descriptors);
            self.note_time(descriptors);
            self.since_entry = 0;
        }
        self.since_entry = self.since_entry.saturating_add(header.size() as u64);
    }

    fn note_time(&mut self, descriptors: &Descriptors) {
        if self.max_timestamp_ms > self.last_time_entry_ms {
            let relative = self.relative(self.max_timestamp_offset);
            self.times
                .push(time_entry(self.max_timestamp_ms, relative), descriptors);
            self.last_time_entry_ms = self.max_timestamp_ms;
        }
    }

    /// Where to begin looking for `offset`: the last offset of a batch that ends at or before it, and its
    /// position.
    pub(crate) fn floor(
        &self,
        offset: i64,
        descriptors: &Descriptors,
    ) -> io::Result<Option<(i64, u64)>> {
        let wanted = self.relative(offset);
        let after = self
            .offsets
            .partition_point(descriptors, |entry| parse_offset(entry).0 <= wanted)?;
        let Some(at) = after.checked_sub(1) else {
            return Ok(None);
        };
        let (relative, position) = parse_offset(&self.offsets.get(at, descriptors)?);
        let last_offset = self.base.saturating_add(i64::from(relative));
        Ok(u64::try_from(position).ok().map(|at| (last_offset, at)))
    }

    /// Last offset of the batch the index's newest entry points at, and where it begins.
    pub(crate) fn newest(&self, descriptors: &Descriptors) -> io::Result<Option<(i64, u64)>> {
        let entry = self
            .offsets
            .last(descriptors)?
            .map(|entry| parse_offset(&entry));
        Ok(entry.map(|(relative, position)| {
            (
                self.base.saturating_add(i64::from(relative)),
                u64::try_from(position).unwrap_or(0),
            )
        }))
    }

    /// The newest entries of all files.
    pub(crate) fn told(&self, descriptors: &Descriptors) -> io::Result<Told> {
        let newest = self.times.last(descriptors)?;
        let time_index = newest.map(|entry| parse_time(&entry).1);
        Ok(Told {
            offset_index: self.newest(descriptors)?,
            time_index: time_index.map(|relative| self.base.saturating_add(i64::from(relative))),
            append_times: self.append_times.newest_offset(descriptors)?,
        })
    }

    /// The newest entry below `timestamp_ms`, as (timestamp, last offset of the batch that has it): no
    /// record before that is as late as `timestamp_ms`.
    pub(crate) fn floor_time(
        &self,
        timestamp_ms: i64,
        descriptors: &Descriptors,
    ) -> io::Result<Option<(i64, i64)>> {
        let after = self
            .times
            .partition_point(descriptors, |entry| parse_time(entry).0 < timestamp_ms)?;
        let Some(at) = after.checked_sub(1) else {
            return Ok(None);
        };
        let (timestamp_ms, relative) = parse_time(&self.times.get(at, descriptors)?);
        Ok(Some((
            timestamp_ms,
            self.base.saturating_add(i64::from(relative)),
        )))
    }

    /// Highest timestamp and the last offset of the batch that has it.
    pub(crate) fn newest_time(&self) -> (i64, i64) {
        (self.max_timestamp_ms, self.max_timestamp_offset)
    }

    pub(crate) fn set_newest_time(&mut self, newest: (i64, i64)) {
        (self.max_timestamp_ms, self.max_timestamp_offset) = newest;
    }

    /// Drops entries about batches that begin at or behind `position` or end at or above `end`.
    pub(crate) fn truncate(
        &mut self,
        end: i64,
        position: u64,
        descriptors: &Descriptors,
    ) -> io::Result<()> {
        let relative = self.relative(end);
        let keep = self.offsets.partition_point(descriptors, |entry| {
            let (offset, at) = parse_offset(entry);
            offset < relative && u64::try_from(at).is_ok_and(|at| at < position)
        })?;
        self.offsets.truncate(keep, descriptors)?;
        let keep = self
            .times
            .partition_point(descriptors, |entry| parse_time(entry).1 < relative)?;
        self.times.truncate(keep, descriptors)?;
        self.since_entry = 0;
        self.take_last_time(descriptors)
    }

    /// Goes on behind the newest entry, which is about a batch of `size` bytes.
    pub(crate) fn resume(&mut self, size: u64) {
        self.since_entry = size;
    }

    /// See `EntryFile::unshare`.
    pub(crate) fn unshare(&self) -> io::Result<()> {
        self.offsets.unshare()?;
        self.times.unshare()?;
        self.append_times.unshare()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.offsets.bytes().max(self.times.bytes())
    }

    /// A full index file makes the segment roll.
    pub(crate) fn is_full(&self, segment_index_bytes: u64) -> bool {
        // One slot stays free for the entry written on close.
        self.offsets.bytes() + 8 > segment_index_bytes
            || self.times.bytes() + 24 > segment_index_bytes
    }

    /// Writes what waits in memory.
    pub(crate) fn flush(&mut self, descriptors: &Descriptors) -> io::Result<()> {
        self.offsets.flush(descriptors)?;
        self.times.flush(descriptors)?;
        self.append_times.flush(descriptors)
    }

    /// No batch follows: the last time entry is added and the files get their final length.
    pub(crate) fn finish(&mut self, descriptors: &Descriptors) -> io::Result<()> {
        self.note_time(descriptors);
        self.offsets.finish(descriptors)?;
        self.times.finish(descriptors)?;
        self.append_times.finish(descriptors)
    }
}
