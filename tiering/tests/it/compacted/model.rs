//! A log of keyed records, one a batch, and the copies of it: each has segments of its own and was cleaned by itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use whimbrel_fleet::EpochStart;
use whimbrel_rpc::proto::node;
use whimbrel_wire::BatchBuilder;

use crate::{broker::Cleaned, support::Log};

/// Offsets that one leader epoch lasts.
const EPOCH: i64 = 7;

/// The value of a record; `None` is a tombstone.
pub type Record = (u8, Option<u8>);

fn epoch_of(offset: i64) -> i32 {
    i32::try_from(offset / EPOCH).unwrap() + 1
}

fn touching(base: i64, end: i64) -> Vec<EpochStart> {
    (base / EPOCH..=(end - 1) / EPOCH)
        .map(|n| EpochStart {
            epoch: i32::try_from(n).unwrap() + 1,
            start_offset: n * EPOCH,
        })
        .collect()
}

pub fn batch(offset: i64, (key, value): Record) -> Vec<u8> {
    let mut builder = BatchBuilder::new(offset).leader_epoch(epoch_of(offset));
    let value = value.map(|v| vec![v; 40]);
    builder
        .add(1_000 + offset, Some(&[key]), value.as_deref(), &[])
        .unwrap();
    builder.finish().unwrap().to_vec()
}

#[derive(Clone, Debug, Default)]
pub struct Replica {
    /// Where its closed segments end.
    pub ends: Vec<i64>,
    pub clean_end: i64,
    pub gone: BTreeSet<i64>,
}

impl Replica {
    /// Keeps of each key the newest record below the last segment end that `bound` allows. Tombstones that were
    /// there already when it was cleaned before go too.
    pub fn clean(&mut self, records: &[Record], bound: i64) {
        let end = self.ends.iter().copied().filter(|e| *e <= bound).max();
        let Some(end) = end.filter(|end| *end > self.clean_end) else {
            return;
        };
        let mut newest = BTreeMap::new();
        for (offset, (key, _)) in (0..end).zip(records) {
            newest.insert(*key, offset);
        }
        for (offset, (key, value)) in (0..end).zip(records) {
            let old_tombstone = value.is_none() && offset < self.clean_end;
            if newest[key] != offset || old_tombstone {
                self.gone.insert(offset);
            }
        }
        self.clean_end = end;
    }

    fn bytes(&self, records: &[Record], base: i64, end: i64) -> Vec<u8> {
        let left = (base..end).filter(|o| !self.gone.contains(o));
        left.flat_map(|o| batch(o, records[usize::try_from(o).unwrap()]))
            .collect()
    }

    fn segments(&self) -> impl Iterator<Item = (i64, i64)> {
        let bases = std::iter::once(0).chain(self.ends.iter().copied());
        bases.zip(self.ends.iter().copied())
    }

    /// What compaction has left, in files of this `version`.
    pub fn cleaned(&self, records: &[Record], dir: &Path, version: u32) -> Vec<Cleaned> {
        let below = self.segments().filter(|(_, end)| *end <= self.clean_end);
        below
            .map(|(base, end)| {
                let bytes = self.bytes(records, base, end);
                let path = dir.join(format!("cleaned-{version}-{base}.log"));
                std::fs::write(&path, &bytes).unwrap();
                let lineage = touching(0, end).into_iter().map(|e| node::EpochStart {
                    epoch: e.epoch,
                    start_offset: e.start_offset,
                });
                Cleaned {
                    base,
                    end,
                    path,
                    bytes: bytes.len() as u64,
                    lineage: lineage.collect(),
                }
            })
            .collect()
    }

    /// What is closed at or above `from`, to be uploaded as it is: a slice for each epoch, as the helper wants them.
    pub fn log(&self, records: &[Record], dir: &Path, from: i64) -> Log {
        let mut log = Log::default();
        for (base, end) in self.segments().filter(|(_, end)| *end > from) {
            let mut base = base.max(from);
            while base < end {
                let upto = end.min((base / EPOCH + 1) * EPOCH);
                let bytes: Vec<u8> = (base..upto)
                    .flat_map(|o| batch(o, records[usize::try_from(o).unwrap()]))
                    .collect();
                let path = dir.join(format!("as-it-was-{base}-{upto}.log"));
                std::fs::write(&path, &bytes).unwrap();
                log.segments.push((base, upto, path, bytes));
                log.lineage.extend(touching(base, upto));
                base = upto;
            }
        }
        log
    }
}
