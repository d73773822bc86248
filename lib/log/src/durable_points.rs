//! `durable-points`, our sidecar per disk: how far each log is known to have been durable.
//!
//! Recovery needs it to tell a torn tail (never promised, cut off) from damage (promised, kept for
//! repair). Points are written after the sync that made them true and become durable themselves with
//! a later one: a stored point is never above the truth, and at most the last moments below it.
//!
//! ```text
//! 64 bytes header: "WBDP", u32 version = 2, zeros
//! slots of 64 bytes: topic id 16, i32 partition, i64 durable end, i64 log start (-1 = not known),
//!                    u64 bytes (see below), u32 CRC-32C of the topic's name
//!                    (0 = not noted), u32 CRC-32C of `leader-epoch-checkpoint` (likewise),
//!                    i64 high watermark + 1 (likewise), u32 CRC-32C of bytes 0..60
//! ```
//! The bytes are those of all batches up to the durable end, with the highest bit set. Without it, as version 1
//! has it, those below the first local segment: which that is tell the files alone, and a crash between a slot
//! and the files it is about would count what is freed twice.
//!
//! A slot never crosses a sector, so that a power cut leaves the old one or the new one; one that is
//! torn all the same fails its CRC and counts as unknown. Free slots are zeros.

use std::collections::{BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::calls;
use crate::fields::Fields;
use crate::naming::DURABLE_POINTS;

const MAGIC: [u8; 4] = *b"WBDP";
const VERSION: u32 = 2;
/// With other bytes in the slots.
const BEFORE: u32 = 1;
/// Of the field of bytes.
const UP_TO_THE_DURABLE_END: u64 = 1 << 63;
const SLOT: usize = 64;
const CRC_AT: usize = 60;
/// Stands for a log start that is not known.
const UNKNOWN: i64 = -1;
/// A million partitions.
const MAX_BYTES: u64 = 64 << 20;

/// Bytes of all batches from the first offset ever, freed ones included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    ToDurableEnd(u64),
    ToFirstLocal(u64),
}

/// What one slot says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) durable_end: i64,
    /// `None` where an earlier start lost it: what is local says nothing of where the log begins.
    pub(crate) log_start: Option<i64>,
    pub(crate) bytes: Counted,
    /// See [`name_check`].
    pub(crate) name: u32,
    /// Of the text of `leader-epoch-checkpoint`, which has no checksum of its own.
    pub(crate) epochs: u32,
    /// `replication-offset-checkpoint` has no checksum: what it says counts only where this is unknown.
    pub(crate) high_watermark: Option<i64>,
}

/// What a slot holds of a topic's name: enough to see that `partition.metadata` names another topic id
/// than the log of this name had.
pub(crate) fn name_check(topic: &str) -> u32 {
    crc32c::crc32c(topic.as_bytes())
}

pub(crate) type Key = (Uuid, i32);

fn encode(key: Key, point: Point) -> [u8; SLOT] {
    let mut slot = [0; SLOT];
    slot[..16].copy_from_slice(key.0.as_bytes());
    slot[16..20].copy_from_slice(&key.1.to_be_bytes());
    slot[20..28].copy_from_slice(&point.durable_end.to_be_bytes());
    slot[28..36].copy_from_slice(&point.log_start.unwrap_or(UNKNOWN).to_be_bytes());
    let bytes = match point.bytes {
        Counted::ToDurableEnd(bytes) => bytes | UP_TO_THE_DURABLE_END,
        Counted::ToFirstLocal(bytes) => bytes & !UP_TO_THE_DURABLE_END,
    };
    slot[36..44].copy_from_slice(&bytes.to_be_bytes());
    slot[44..48].copy_from_slice(&point.name.to_be_bytes());
    slot[48..52].copy_from_slice(&point.epochs.to_be_bytes());
    let high_watermark = point.high_watermark.map_or(0, |hw| hw.saturating_add(1));
    slot[52..60].copy_from_slice(&high_watermark.to_be_bytes());
    let crc = crc32c::crc32c(&slot[..CRC_AT]);
    slot[CRC_AT..].copy_from_slice(&crc.to_be_bytes());
    slot
}

fn decode(slot: &[u8]) -> Option<(Key, Point)> {
    let mut fields = Fields(slot);
    let key = (Uuid::from_bytes(fields.take()?), fields.i32()?);
    let durable_end = fields.i64()?;
    let log_start = fields.i64()?;
    let bytes = u64::from_be_bytes(fields.take()?);
    let bytes = match bytes & UP_TO_THE_DURABLE_END {
        0 => Counted::ToFirstLocal(bytes),
        flag => Counted::ToDurableEnd(bytes & !flag),
    };
    let name = fields.u32()?;
    let epochs = fields.u32()?;
    let high_watermark = fields.i64()?.checked_sub(1).filter(|hw| *hw >= 0);
    let crc = u32::from_be_bytes(*slot.get(CRC_AT..)?.first_chunk()?);
    let good = crc == crc32c::crc32c(&slot[..CRC_AT]) && durable_end >= 0 && log_start >= UNKNOWN;
    good.then_some((
        key,
        Point {
            durable_end,
            log_start: Some(log_start).filter(|start| *start != UNKNOWN),
            bytes,
            name,
            epochs,
            high_watermark,
        },
    ))
}

/// The stored points; `None` if there is no such file, as in a directory Kafka wrote.
pub(crate) fn read(root: &Path) -> io::Result<Option<HashMap<Key, Point>>> {
    let path = root.join(DURABLE_POINTS);
    match std::fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
        Ok(meta) if meta.len() > MAX_BYTES => return Ok(Some(HashMap::new())),
        Ok(_) => {}
    }
    let bytes = calls::read(&path)?;
    let version = [VERSION, BEFORE].map(u32::to_be_bytes);
    let known = |found: &[u8]| version.iter().any(|version| version == found);
    let good = bytes.starts_with(&MAGIC) && bytes.get(4..8).is_some_and(known);
    let slots = if good {
        bytes.get(SLOT..).unwrap_or_default()
    } else {
        &[]
    };
    Ok(Some(slots.chunks_exact(SLOT).filter_map(decode).collect()))
}

/// The open file and an image of it; changed slots are written together.
#[derive(Debug)]
pub(crate) struct DurablePoints {
    file: File,
    path: PathBuf,
    image: Vec<u8>,
    slots: HashMap<Key, usize>,
    free: Vec<usize>,
    changed: BTreeSet<usize>,
}

impl DurablePoints {
    /// Writes the file anew with `points`; durable on return.
    pub(crate) fn create(
        root: &Path,
        points: impl IntoIterator<Item = (Key, Point)>,
    ) -> io::Result<Self> {
        let mut image = vec![0; SLOT];
        image[..4].copy_from_slice(&MAGIC);
        image[4..8].copy_from_slice(&VERSION.to_be_bytes());
        let mut slots = HashMap::new();
        for (key, point) in points {
            slots.insert(key, image.len() / SLOT);
            image.extend_from_slice(&encode(key, point));
        }
        let path = root.join(DURABLE_POINTS);
        crate::replace::replace(&path, &image, crate::replace::Durability::Now)?;
        let file = OpenOptions::new().write(true).open(&path)?;
        Ok(DurablePoints {
            file,
            path,
            image,
            slots,
            free: Vec::new(),
            changed: BTreeSet::new(),
        })
    }

    pub(crate) fn set(&mut self, key: Key, point: Point) {
        let slot = *self.slots.entry(key).or_insert_with(|| {
            self.free.pop().unwrap_or_else(|| {
                self.image.resize(self.image.len() + SLOT, 0);
                self.image.len() / SLOT - 1
            })
        });
        let (place, encoded) = (slot * SLOT..(slot + 1) * SLOT, encode(key, point));
        if self.image[place.clone()] != encoded {
            self.image[place].copy_from_slice(&encoded);
            self.changed.insert(slot);
        }
    }

    /// Changes nothing else of what is stored.
    pub(crate) fn set_high_watermark(&mut self, key: Key, high_watermark: i64) {
        let slot = self.slots.get(&key).map(|slot| slot * SLOT);
        let stored = slot.and_then(|at| decode(self.image.get(at..at + SLOT)?));
        if let Some((_, point)) = stored {
            let high_watermark = Some(high_watermark);
            self.set(
                key,
                Point {
                    high_watermark,
                    ..point
                },
            );
        }
    }

    pub(crate) fn remove(&mut self, key: Key) {
        if let Some(slot) = self.slots.remove(&key) {
            self.image[slot * SLOT..(slot + 1) * SLOT].fill(0);
            self.changed.insert(slot);
            self.free.push(slot);
        }
    }

    pub(crate) fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Hands changed slots to the kernel, neighbours in one write. Durable with the next `syncfs` or
    /// [`Self::sync`].
    pub(crate) fn write(&mut self) -> io::Result<()> {
        let mut changed = self.changed.iter().copied().peekable();
        while let Some(first) = changed.next() {
            let mut end = first + 1;
            while changed.next_if_eq(&end).is_some() {
                end += 1;
            }
            let (from, to) = (first * SLOT, end * SLOT);
            calls::write_at(&self.file, &self.path, &self.image[from..to], from as u64)?;
        }
        self.changed.clear();
        Ok(())
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        calls::sync_data(&self.file, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(durable_end: i64) -> Point {
        Point {
            durable_end,
            log_start: (durable_end != 9).then_some(1),
            bytes: match durable_end {
                3 => Counted::ToFirstLocal(2),
                _ => Counted::ToDurableEnd(2),
            },
            name: 3,
            epochs: 4,
            high_watermark: (durable_end > 4).then_some(durable_end - 1),
        }
    }

    #[test]
    fn points_come_back_and_removed_ones_do_not() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
        let key = |n: u128| (Uuid::from_u128(n), 0);
        let mut points = DurablePoints::create(dir.path(), [(key(1), point(5))]).unwrap();
        for n in 2..20 {
            points.set(key(n), point(7));
        }
        points.set(key(1), point(6));
        points.remove(key(2));
        points.write().unwrap();
        points.set(key(30), point(9));
        points.write().unwrap();
        let stored = read(dir.path()).unwrap().unwrap();
        assert_eq!(stored.len(), 19);
        assert_eq!(stored[&key(1)], point(6));
        assert_eq!(stored[&key(30)], point(9));
        assert!(!stored.contains_key(&key(2)));
    }

    #[test]
    fn a_torn_slot_is_unknown_and_harms_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let keys = [(Uuid::from_u128(1), 0), (Uuid::from_u128(1), 1)];
        drop(DurablePoints::create(dir.path(), keys.map(|key| (key, point(3)))).unwrap());
        let path = dir.path().join(DURABLE_POINTS);
        let good = std::fs::read(&path).unwrap();
        for byte in SLOT..2 * SLOT {
            let mut bad = good.clone();
            bad[byte] ^= 0x10;
            std::fs::write(&path, &bad).unwrap();
            assert_eq!(
                read(dir.path()).unwrap().unwrap(),
                HashMap::from([(keys[1], point(3))]),
                "byte {byte}"
            );
        }
        // The version before has the same slots.
        let mut before = good.clone();
        before[7] = 1;
        std::fs::write(&path, &before).unwrap();
        assert_eq!(read(dir.path()).unwrap().unwrap().len(), 2);
        std::fs::write(&path, b"junk").unwrap();
        assert_eq!(read(dir.path()).unwrap(), Some(HashMap::new()));
    }
}
