//! Older entries that no longer stand in a root: runs of entries in immutable parts.
//!
//! ```text
//! part: magic "WBPART01" | format u16 = 1 | shard u16 | directory length u32 | directory crc32c u32
//!   | directory: runs u32 x { topic id 16 | partition i32 | base i64 | end i64 | entries u32 | position u32 | length u32 | crc32c u32 }
//!   | runs, one after another: entries as in a root
//! ```
//! Positions count from the beginning of the part. A root names a run with the same numbers, so that one
//! small GET reads it; the directory is for whoever has the bucket and no root.
//!
//! An edit that concerns entries in runs first takes those runs back into the root; what is too much goes
//! out again before the root is written. Runs of one partition are merged like a binary counter, so that
//! there are few of them, and each entry is written to a part a few times in its life.

use std::collections::BTreeMap;

use whimbrel_fleet::TopicPartition;

use super::{Entry, Partition, Root, Unlinked, codec};
use crate::format::{FormatError, Keys, PartName, Put};

const MAGIC: &[u8; 8] = b"WBPART01";
const FORMAT: u16 = 1;
const HEAD: usize = 8 + 2 + 2 + 4 + 4;
const DIRECTORY_ENTRY: usize = 16 + 4 + 8 + 8 + 4 + 4 + 4 + 4;
/// A root that has grown beyond this gives entries away: what is left holds some
/// thousand commits more.
pub const SPILL_BYTES: usize = 640 << 10;
/// Entries of a partition that stay in the root.
const KEEP: usize = 2;
/// Entries of a run: half a MiB to read for one lookup.
const MOST_ENTRIES: usize = 4_096;
/// A part is read back whole only by a rebuild.
const PART_BYTES: usize = 8 << 20;

/// Entries of one partition in a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub part: PartName,
    pub base: i64,
    /// Exclusive.
    pub end: i64,
    /// Entries that were written, and how many of the first ones are gone since.
    pub entries: u32,
    pub skip: u32,
    /// Of the data that those left name.
    pub data_bytes: u64,
    pub max_timestamp_ms: i64,
    pub position: u32,
    pub length: u32,
    pub crc: u32,
}

/// What went out of a root: to be written before the root is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spilled {
    pub name: PartName,
    pub bytes: Vec<u8>,
}

impl Run {
    /// The entries, if `bytes` are those that were written.
    pub fn decode(&self, bytes: &[u8]) -> Result<Vec<Entry>, FormatError> {
        crate::format::check_crc("root part", bytes, self.crc)?;
        let malformed = |reason: &str| FormatError::malformed("root part", reason);
        let size = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        let mut entries = codec::entries(bytes, size(self.entries))
            .map_err(|e| FormatError::malformed("root part", e))?;
        entries.drain(..entries.len().min(size(self.skip)));
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return Err(malformed("a run of nothing"));
        };
        let follows = entries.windows(2).all(|w| w[0].end == w[1].base);
        let sound = follows && entries.iter().all(Entry::is_sound);
        if !sound || first.base != self.base || last.end != self.end {
            return Err(malformed("a run that is not what its root says"));
        }
        Ok(entries)
    }

    /// Numbers that a run can have.
    pub(super) fn is_sound(&self) -> bool {
        self.base >= 0 && self.base < self.end && self.skip < self.entries && self.length > 0
    }

    pub fn live(&self) -> u32 {
        self.entries.saturating_sub(self.skip)
    }
}

impl Partition {
    /// The run that holds `offset`.
    pub fn run_at(&self, offset: i64) -> Option<&Run> {
        let n = self.runs.partition_point(|r| r.base <= offset);
        self.runs.get(n.checked_sub(1)?).filter(|r| offset < r.end)
    }

    /// Entries in the root and in runs.
    pub fn objects(&self) -> u64 {
        let runs: u64 = self.runs.iter().map(|r| u64::from(r.live())).sum();
        runs + self.entries.len() as u64
    }
}

impl Root {
    /// Puts the last runs of a partition, which were read, back before its entries. They must be the last
    /// ones, in order.
    pub fn unspill(
        &mut self,
        keys: &Keys,
        at: TopicPartition,
        read: Vec<(Run, Vec<Entry>)>,
        now_ms: i64,
    ) {
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        let last: Vec<Run> = read.iter().map(|(run, _)| *run).collect();
        if !partition.runs.ends_with(&last) {
            return;
        }
        partition.runs.truncate(partition.runs.len() - last.len());
        let mut all: Vec<Entry> = read
            .iter()
            .flat_map(|(_, entries)| entries.clone())
            .collect();
        for entry in &all {
            forget_shared(&mut self.shared, entry);
        }
        all.append(&mut partition.entries);
        partition.entries = all;
        let parts: Vec<_> = read.iter().map(|(run, _)| run.part).collect();
        self.unlink_parts(keys, &parts, now_ms);
    }

    /// Takes the first entries out of a partition's first runs, which were read: those that end at or below
    /// `log_start`. Their objects go onto the pending list.
    pub fn trim(
        &mut self,
        keys: &Keys,
        at: TopicPartition,
        log_start: i64,
        read: &[(Run, Vec<Entry>)],
        now_ms: i64,
    ) {
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        if log_start <= partition.log_start {
            return;
        }
        let (mut gone, mut parts) = (Vec::new(), Vec::new());
        for (run, entries) in read {
            let Some(n) = partition.runs.iter().position(|r| r == run) else {
                continue;
            };
            let below = entries.partition_point(|e| e.end <= log_start);
            gone.extend_from_slice(&entries[..below]);
            match entries.get(below) {
                None => {
                    partition.runs.remove(n);
                    parts.push(run.part);
                }
                Some(first) => {
                    let run = &mut partition.runs[n];
                    run.base = first.base;
                    run.skip += u32::try_from(below).unwrap_or(0);
                    run.data_bytes = Entry::data_bytes_of(&entries[below..]);
                }
            }
        }
        for entry in &gone {
            forget_shared(&mut self.shared, entry);
        }
        self.unlink(keys, at, gone, now_ms);
        self.unlink_parts(keys, &parts, now_ms);
    }

    /// Runs that [`Root::spill`] would merge with what goes out: to be read and unspilled before it.
    pub fn mergeable(&self) -> Vec<(TopicPartition, Vec<Run>)> {
        let runs = |(at, partition): (&TopicPartition, &Partition)| {
            let out = partition.entries.len().checked_sub(KEEP)?;
            let (mut going, mut merged) = (out, Vec::new());
            for run in partition.runs.iter().rev() {
                let entries = usize::try_from(run.live()).unwrap_or(usize::MAX);
                if entries > going || going + entries > MOST_ENTRIES {
                    break;
                }
                going += entries;
                merged.push(*run);
            }
            merged.reverse();
            (!merged.is_empty()).then_some((*at, merged))
        };
        self.partitions.iter().filter_map(runs).collect()
    }

    /// Takes the older entries of all partitions out, until a part is full.
    pub fn spill(&mut self, writer_epoch: u64, random: u64) -> Option<Spilled> {
        let name = PartName {
            shard: self.shard,
            writer_epoch,
            sequence: self.stamp.sequence.saturating_add(1),
            random,
        };
        let (mut body, mut out) = (Vec::new(), Vec::new());
        for (at, partition) in &mut self.partitions {
            let Some(count) = partition.entries.len().checked_sub(KEEP).filter(|n| *n > 0) else {
                continue;
            };
            if body.len() >= PART_BYTES {
                break;
            }
            let going: Vec<_> = partition.entries.drain(..count).collect();
            for chunk in going.chunks(MOST_ENTRIES) {
                let from = body.len();
                for entry in chunk {
                    codec::put_entry(&mut body, entry);
                    if let Some(key) = entry.shared() {
                        *self.shared.entry(key).or_default() += 1;
                    }
                }
                out.extend(run_of(name, chunk, from, &body[from..]).map(|run| (*at, run)));
            }
        }
        if out.is_empty() {
            return None;
        }
        let data_at = HEAD + 4 + out.len() * DIRECTORY_ENTRY;
        let mut directory = Vec::new();
        directory.put_count(out.len());
        for (at, mut run) in out {
            run.position += u32::try_from(data_at).unwrap_or(u32::MAX);
            codec::put_at(&mut directory, at);
            directory.put_i64(run.base);
            directory.put_i64(run.end);
            for n in [run.entries, run.position, run.length, run.crc] {
                directory.put_u32(n);
            }
            if let Some(partition) = self.partitions.get_mut(&at) {
                partition.runs.push(run);
            }
        }
        let mut bytes = Vec::with_capacity(data_at + body.len());
        bytes.put(MAGIC);
        bytes.put_u16(FORMAT);
        bytes.put_u16(self.shard);
        bytes.put_count(directory.len());
        bytes.put_u32(crc32c::crc32c(&directory));
        bytes.put(&directory);
        bytes.put(&body);
        Some(Spilled { name, bytes })
    }

    /// Parts that no run lies in any more are deleted like objects.
    pub(super) fn unlink_parts(&mut self, keys: &Keys, parts: &[PartName], unlinked_ms: i64) {
        for part in parts {
            let key = keys.root_part(part);
            if !self.refers_to(keys, &key) {
                self.pending.push(Unlinked { key, unlinked_ms });
            }
        }
    }

    /// All runs.
    pub fn runs(&self) -> impl Iterator<Item = (TopicPartition, &Run)> {
        self.partitions
            .iter()
            .flat_map(|(at, p)| p.runs.iter().map(|run| (*at, run)))
    }
}

/// Slices in runs, by the merged object that they lie in (writer epoch and random number).
pub type Shared = BTreeMap<(u64, u64), u32>;

fn forget_shared(shared: &mut Shared, entry: &Entry) {
    let Some(key) = entry.shared() else { return };
    if let Some(count) = shared.get_mut(&key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            shared.remove(&key);
        }
    }
}

fn run_of(part: PartName, entries: &[Entry], from: usize, bytes: &[u8]) -> Option<Run> {
    let (first, last) = (entries.first()?, entries.last()?);
    Some(Run {
        part,
        base: first.base,
        end: last.end,
        entries: u32::try_from(entries.len()).ok()?,
        skip: 0,
        data_bytes: Entry::data_bytes_of(entries),
        max_timestamp_ms: entries.iter().map(|e| e.max_timestamp_ms).max()?,
        position: u32::try_from(from).ok()?,
        length: u32::try_from(bytes.len()).ok()?,
        crc: crc32c::crc32c(bytes),
    })
}

#[cfg(test)]
mod tests;
