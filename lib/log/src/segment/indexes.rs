//! The index files of one segment: offsets, times, and our append times.
//!
//! * `.index` (`OffsetIndex`): `{i32 relative offset, i32 position}`: last offset of a batch and
//!   where the batch begins; at most one per `index.interval.bytes`.
//! * `.timeindex` (`TimeIndex`): `{i64 highest timestamp so far, i32 relative offset}` of the last
//!   offset of the batch that had it; timestamps rise strictly; one entry more when the segment is closed.
//! * `.appendtime`, ours: `{i64 broker time, i32 relative last offset}` of groups of appends; the time
//!   is that of the group's first append, so that an age computed from it is never too small.

use std::io;
use std::path::Path;

use whimbrel_wire::batch::BatchHeader;

use crate::descriptors::Descriptors;
use crate::entry_file::EntryFile;
use crate::naming::{APPEND_TIME, INDEX, TIME_INDEX, file_path};

/// A group of appends is closed at this age if it holds enough bytes,
const GROUP_MS: i64 = 100;
const GROUP_BYTES: u64 = 4096;
/// and at this age in any case.
const GROUP_MAX_MS: i64 = 1000;

#[derive(Debug, Clone, Copy)]
struct Group {
    first_ms: i64,
    last_offset: i64,
    bytes: u64,
}

#[derive(Debug)]
pub(crate) struct Indexes {
    base: i64,
    offsets: EntryFile<8>,
    times: EntryFile<12>,
    append_times: EntryFile<12>,
    since_entry: u64,
    /// -1 without a timestamp.
    pub(super) max_timestamp_ms: i64,
    max_timestamp_offset: i64,
    last_time_entry_ms: i64,
    group: Option<Group>,
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
            append_times: EntryFile::new(path(APPEND_TIME)),
            since_entry: 0,
            max_timestamp_ms: -1,
            max_timestamp_offset: -1,
            last_time_entry_ms: -1,
            group: None,
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
        // A segment is rolled before an offset could lie further away.
        i32::try_from(offset.saturating_sub(self.base)).unwrap_or(i32::MAX)
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

    pub(crate) fn note_append(
        &mut self,
        last_offset: i64,
        bytes: u64,
        now_ms: i64,
        descriptors: &Descriptors,
    ) {
        let group = self.group.get_or_insert(Group {
            first_ms: now_ms,
            last_offset,
            bytes: 0,
        });
        let age_ms = now_ms.saturating_sub(group.first_ms);
        let done = group.bytes > 0
            && (age_ms >= GROUP_MAX_MS || (age_ms >= GROUP_MS && group.bytes >= GROUP_BYTES));
        if done {
            let ended = *group;
            *group = Group {
                first_ms: now_ms,
                last_offset,
                bytes: 0,
            };
            self.push_group(ended, descriptors);
        }
        if let Some(group) = &mut self.group {
            group.last_offset = last_offset;
            group.bytes = group.bytes.saturating_add(bytes);
        }
    }

    fn push_group(&mut self, group: Group, descriptors: &Descriptors) {
        let relative = self.relative(group.last_offset);
        self.append_times
            .push(time_entry(group.first_ms, relative), descriptors);
    }

    /// Appends up to `end` happened before a restart at times that were not stored: they count as old
    /// as the newest stored time. Times of what the restart lost go.
    pub(crate) fn close_append_gap(
        &mut self,
        end: i64,
        descriptors: &Descriptors,
    ) -> io::Result<()> {
        self.truncate_append_times(end, descriptors)?;
        let Some((time_ms, relative)) = self
            .append_times
            .last(descriptors)?
            .map(|entry| parse_time(&entry))
        else {
            return Ok(());
        };
        let last_offset = end.saturating_sub(1);
        if self.relative(last_offset) > relative {
            self.push_group(
                Group {
                    first_ms: time_ms,
                    last_offset,
                    bytes: 0,
                },
                descriptors,
            );
        }
        Ok(())
    }

    pub(crate) fn append_time_of(
        &self,
        offset: i64,
        descriptors: &Descriptors,
    ) -> io::Result<Option<i64>> {
        let wanted = self.relative(offset);
        let at = self
            .append_times
            .partition_point(descriptors, |entry| parse_time(entry).1 < wanted)?;
        if at < self.append_times.len() {
            return Ok(Some(parse_time(&self.append_times.get(at, descriptors)?).0));
        }
        Ok(self
            .group
            .filter(|group| offset <= group.last_offset)
            .map(|group| group.first_ms))
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

    /// Drops append times of what lies at or above `end`.
    pub(crate) fn truncate_append_times(
        &mut self,
        end: i64,
        descriptors: &Descriptors,
    ) -> io::Result<()> {
        let relative = self.relative(end);
        if let Some(group) = self.group.take().filter(|_| end > self.base) {
            self.push_group(group, descriptors);
        }
        let keep = self
            .append_times
            .partition_point(descriptors, |entry| parse_time(entry).1 < relative)?;
        // The entry that reaches over the end still says when what is below it was appended.
        let over = (keep < self.append_times.len())
            .then(|| self.append_times.get(keep, descriptors))
            .transpose()?;
        self.append_times.truncate(keep, descriptors)?;
        if let Some(entry) = over.filter(|_| end > self.base) {
            self.append_times
                .push(time_entry(parse_time(&entry).0, relative - 1), descriptors);
        }
        Ok(())
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
        if let Some(group) = self.group.take() {
            self.push_group(group, descriptors);
        }
        self.offsets.finish(descriptors)?;
        self.times.finish(descriptors)?;
        if self.append_times.len() > 0 {
            self.append_times.finish(descriptors)
        } else {
            Ok(())
        }
    }
}
