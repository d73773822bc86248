//! `.appendtime`, ours: when what is in a segment came in, by groups of appends.
//!
//! ```text
//! 12 bytes an entry: u16 check, u48 broker time in ms, i32 relative last offset
//! ```
//! The time is that of the group's first append, so that an age computed from it is never too small; 0 stands for
//! one that is not known. What a restart lost counts as old as the newest time before it; so that there is one, the
//! time of a segment's first append is written at once. The check is of the other
//! ten bytes; 0 stands for none. Where a search meets a damaged entry, the time is not known either: a younger one
//! would make a loss look smaller than it is.

use std::cell::Cell;
use std::io;
use std::path::PathBuf;

use crate::descriptors::Descriptors;
use crate::entry_file::EntryFile;

/// A time that is not known.
pub(crate) const UNKNOWN_MS: i64 = 0;
/// What six bytes hold: until the year 10889.
const LAST_MS: i64 = (1 << 48) - 1;
/// A group of appends is closed at this age if it holds enough bytes,
const GROUP_MS: i64 = 100;
const GROUP_BYTES: u64 = 4096;
/// and at this age in any case.
const GROUP_MAX_MS: i64 = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    time_ms: i64,
    relative: i32,
}

fn check(entry: &[u8; 12]) -> u16 {
    let [a, b, c, d] = crc32c::crc32c(&entry[2..]).to_be_bytes();
    u16::from_be_bytes([a ^ c, b ^ d]).max(1)
}

impl Entry {
    fn encode(self) -> [u8; 12] {
        let mut entry = [0; 12];
        let time_ms = self.time_ms.clamp(UNKNOWN_MS, LAST_MS);
        entry[..8].copy_from_slice(&time_ms.to_be_bytes());
        entry[8..].copy_from_slice(&self.relative.to_be_bytes());
        let check = check(&entry);
        entry[..2].copy_from_slice(&check.to_be_bytes());
        entry
    }

    /// `None` if it is damaged.
    fn decode(entry: &[u8; 12]) -> Option<Entry> {
        let [a, b, c, d, e, f, g, h, relative @ ..] = *entry;
        let relative = i32::from_be_bytes(relative);
        let stored = u16::from_be_bytes([a, b]);
        let sound = stored == 0 || stored == check(entry);
        (sound && relative >= 0 && *entry != [0; 12]).then_some(Entry {
            time_ms: i64::from_be_bytes([0, 0, c, d, e, f, g, h]),
            relative,
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Group {
    first_ms: i64,
    last_offset: i64,
    bytes: u64,
}

#[derive(Debug)]
pub(crate) struct AppendTimes {
    base: i64,
    file: EntryFile<12>,
    group: Option<Group>,
}

impl AppendTimes {
    pub(super) fn new(path: PathBuf, base: i64) -> Self {
        AppendTimes {
            base,
            file: EntryFile::new(path),
            group: None,
        }
    }

    pub(super) fn load(&mut self, descriptors: &Descriptors) -> io::Result<bool> {
        self.file.load(descriptors)
    }

    fn relative(&self, offset: i64) -> i32 {
        // A segment is rolled before an offset of its own could lie further away. Others are below or above it.
        let distance = offset.saturating_sub(self.base);
        let far = if distance < 0 { i32::MIN } else { i32::MAX };
        i32::try_from(distance).unwrap_or(far)
    }

    /// Notes what was appended at `now_ms` and ends with `last_offset`.
    pub(crate) fn note(
        &mut self,
        last_offset: i64,
        bytes: u64,
        now_ms: i64,
        descriptors: &Descriptors,
    ) {
        if self.group.is_none() && self.file.len() == 0 {
            self.push(now_ms, last_offset, descriptors);
            self.file.flush_and_close(descriptors);
            return;
        }
        let fresh = Group {
            first_ms: now_ms,
            last_offset,
            bytes: 0,
        };
        let group = self.group.get_or_insert(fresh);
        let age_ms = now_ms.saturating_sub(group.first_ms);
        let done = group.bytes > 0
            && (age_ms >= GROUP_MAX_MS || (age_ms >= GROUP_MS && group.bytes >= GROUP_BYTES));
        if done {
            let ended = *group;
            *group = fresh;
            self.push(ended.first_ms, ended.last_offset, descriptors);
        }
        if let Some(group) = &mut self.group {
            // A clock that was set back.
            group.first_ms = group.first_ms.min(now_ms);
            group.last_offset = last_offset;
            group.bytes = group.bytes.saturating_add(bytes);
        }
    }

    fn push(&mut self, time_ms: i64, last_offset: i64, descriptors: &Descriptors) {
        let relative = self.relative(last_offset);
        let entry = Entry { time_ms, relative };
        self.file.push(entry.encode(), descriptors);
    }

    /// Number of entries about offsets below `relative` alone; `None` if damage was met.
    fn entries_below(&self, relative: i32, descriptors: &Descriptors) -> io::Result<Option<u64>> {
        let sound = Cell::new(true);
        let count = self.file.partition_point(descriptors, |entry| {
            let entry = Entry::decode(entry);
            sound.set(sound.get() && entry.is_some());
            entry.is_some_and(|entry| entry.relative < relative)
        })?;
        Ok(sound.get().then_some(count))
    }

    pub(crate) fn time_of(
        &self,
        offset: i64,
        descriptors: &Descriptors,
    ) -> io::Result<Option<i64>> {
        let Some(at) = self.entries_below(self.relative(offset), descriptors)? else {
            return Ok(None);
        };
        let found = if at < self.file.len() {
            Entry::decode(&self.file.get(at, descriptors)?).map(|entry| entry.time_ms)
        } else {
            let group = self.group.filter(|group| offset <= group.last_offset);
            group.map(|group| group.first_ms)
        };
        Ok(found.filter(|ms| *ms != UNKNOWN_MS))
    }

    /// The first time that is known: of the segment's first append, or of the first one after a restart that lost it.
    pub(crate) fn first_known_ms(&self, descriptors: &Descriptors) -> io::Result<Option<i64>> {
        for at in 0..self.file.len().min(2) {
            let entry = Entry::decode(&self.file.get(at, descriptors)?);
            if let Some(entry) = entry.filter(|entry| entry.time_ms != UNKNOWN_MS) {
                return Ok(Some(entry.time_ms));
            }
        }
        let begun_ms = self.group.map(|group| group.first_ms);
        Ok(begun_ms.filter(|ms| *ms != UNKNOWN_MS))
    }

    /// The newest offset that an entry of the file is about.
    pub(super) fn newest_offset(&self, descriptors: &Descriptors) -> io::Result<Option<i64>> {
        let last = self.file.last(descriptors)?;
        let entry = last.and_then(|entry| Entry::decode(&entry));
        Ok(entry.map(|entry| self.base.saturating_add(i64::from(entry.relative))))
    }

    /// Nothing behind the segment came before this.
    pub(crate) fn newest_ms(&self, descriptors: &Descriptors) -> io::Result<Option<i64>> {
        if let Some(group) = self.group {
            return Ok(Some(group.first_ms));
        }
        let last = self.file.last(descriptors)?;
        Ok(last
            .and_then(|entry| Entry::decode(&entry))
            .map(|entry| entry.time_ms))
    }

    /// Appends up to `end` happened before a restart at times that were not stored: they count as old as the newest
    /// stored time, or as `before_ms`, when the segment before was written. Times of what the restart lost go.
    pub(crate) fn close_gap(
        &mut self,
        end: i64,
        before_ms: Option<i64>,
        descriptors: &Descriptors,
    ) -> io::Result<()> {
        self.truncate(end, descriptors)?;
        if end <= self.base {
            return Ok(());
        }
        let last = self.file.last(descriptors)?;
        let (time_ms, relative) = match last.map(|entry| Entry::decode(&entry)) {
            None => (before_ms.unwrap_or(UNKNOWN_MS), -1),
            Some(Some(entry)) => (entry.time_ms, entry.relative),
            Some(None) => {
                let sound = self.file.len().saturating_sub(1);
                self.file.truncate(sound, descriptors)?;
                (UNKNOWN_MS, -1)
            }
        };
        if self.relative(end - 1) > relative {
            self.push(time_ms, end - 1, descriptors);
        }
        Ok(())
    }

    /// Drops times of what lies at or above `end`.
    pub(crate) fn truncate(&mut self, end: i64, descriptors: &Descriptors) -> io::Result<()> {
        let stays = end > self.base;
        if let Some(group) = self.group.take().filter(|_| stays) {
            self.push(group.first_ms, group.last_offset, descriptors);
        }
        // The entry that reaches over the end still says when what is below it was appended.
        let over = match self.entries_below(self.relative(end), descriptors)? {
            Some(keep) => {
                let over = (keep < self.file.len())
                    .then(|| self.file.get(keep, descriptors))
                    .transpose()?;
                self.file.truncate(keep, descriptors)?;
                over.map(|entry| Entry::decode(&entry).map_or(UNKNOWN_MS, |entry| entry.time_ms))
            }
            // Which ones are about what stays cannot be told.
            None => {
                self.file.truncate(0, descriptors)?;
                Some(UNKNOWN_MS)
            }
        };
        if let Some(time_ms) = over.filter(|_| stays) {
            self.push(time_ms, end - 1, descriptors);
        }
        Ok(())
    }

    pub(super) fn unshare(&self) -> io::Result<()> {
        self.file.unshare()
    }

    pub(super) fn flush(&mut self, descriptors: &Descriptors) -> io::Result<()> {
        self.file.flush(descriptors)
    }

    /// No append follows. A segment without times has no file.
    pub(super) fn finish(&mut self, descriptors: &Descriptors) -> io::Result<()> {
        if let Some(group) = self.group.take() {
            self.push(group.first_ms, group.last_offset, descriptors);
        }
        if self.file.len() == 0 {
            return Ok(());
        }
        self.file.finish(descriptors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_is_seen_or_changes_nothing() {
        for (time_ms, relative) in [(1, 0), (1_795_000_000_000, 17), (LAST_MS, i32::MAX)] {
            let entry = Entry { time_ms, relative };
            let good = entry.encode();
            assert_eq!(Entry::decode(&good), Some(entry));
            for bit in 0..96 {
                let mut bad = good;
                bad[bit / 8] ^= 1 << (bit % 8);
                let read = Entry::decode(&bad);
                assert!(read.is_none() || read == Some(entry), "{entry:?} bit {bit}");
            }
        }
        assert_eq!(Entry::decode(&[0; 12]), None);
    }

    #[test]
    fn entries_from_before_there_were_checks_are_read() {
        let old = [0, 0, 0, 0, 0, 0, 3, 232, 0, 0, 0, 5];
        let entry = Entry {
            time_ms: 1000,
            relative: 5,
        };
        assert_eq!(Entry::decode(&old), Some(entry));
    }

    #[test]
    fn behind_a_damaged_entry_times_are_not_known_and_never_younger() {
        let dir = tempfile::tempdir().unwrap();
        let descriptors = Descriptors::new(4);
        let path = dir.path().join("x");
        let mut times = AppendTimes::new(path.clone(), 100);
        for n in 0..9 {
            times.note(100 + n, 5000, 10_000 * (n + 1), &descriptors);
        }
        times.finish(&descriptors).unwrap();
        let good = std::fs::read(&path).unwrap();
        assert_eq!(good.len(), 9 * 12);
        for byte in 0..good.len() {
            let mut bad = good.clone();
            bad[byte] ^= 0x10;
            std::fs::write(&path, &bad).unwrap();
            let mut times = AppendTimes::new(path.clone(), 100);
            times.load(&descriptors).unwrap();
            let never_younger = |times: &AppendTimes, end: i64| {
                for n in 0..end {
                    let said = times.time_of(100 + n, &descriptors).unwrap();
                    assert!(
                        said.is_none_or(|said| said <= 10_000 * (n + 1)),
                        "{byte} {n}"
                    );
                }
            };
            never_younger(&times, 9);
            times.close_gap(107, None, &descriptors).unwrap();
            never_younger(&times, 7);
            times.note(107, 5000, 99_000, &descriptors);
            never_younger(&times, 7);
            assert_eq!(times.time_of(107, &descriptors).unwrap(), Some(99_000));
        }
    }
}
