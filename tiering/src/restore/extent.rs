//! What the bucket holds of one partition, piece by piece, and what of that can be had.

use whimbrel_fleet::{EpochStart, Lineage, cut::Standing};

use crate::root::{Entry, Partition};

/// One partition in a root, with the older entries that its parts have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    pub shard: u16,
    pub topic: String,
    pub group: String,
    pub region_epoch: u32,
    pub log_start: i64,
    pub lineage: Vec<EpochStart>,
    /// Rising, one after another, up to the end.
    pub pieces: Vec<Piece>,
    /// Exclusive, as the root says it; stays when retention has taken all.
    pub end: i64,
}

/// A range of offsets that one object holds, or one part of a root that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub base: i64,
    /// Exclusive.
    pub end: i64,
    pub holds: Holds,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holds {
    Slice(Entry),
    /// It is there, and was found damaged in part.
    Damaged(Entry),
    /// Why it cannot be had.
    Lost(String),
}

impl Piece {
    pub fn slice(&self) -> Option<&Entry> {
        match &self.holds {
            Holds::Slice(entry) | Holds::Damaged(entry) => Some(entry),
            Holds::Lost(_) => None,
        }
    }
}

/// What of a partition comes back when its log is cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    pub log_start: i64,
    /// Exclusive.
    pub end: i64,
    /// The objects that hold it.
    pub slices: Vec<Entry>,
    /// Ranges that do not come back, and why.
    pub missing: Vec<(i64, i64, String)>,
}

impl Extent {
    pub fn new(shard: u16, partition: &Partition, pieces: Vec<Piece>) -> Self {
        Self {
            shard,
            topic: partition.topic.clone(),
            group: partition.group.clone(),
            region_epoch: partition.region_epoch,
            log_start: partition.log_start,
            lineage: partition.lineage.clone(),
            pieces,
            end: partition.end,
        }
    }

    /// What the root names, whether it can be had or not.
    pub fn named(&self) -> Standing {
        self.standing(self.end)
    }

    /// Up to the last piece that is there. What is missing below it is missing at every cut; what is missing at the end
    /// may not have been copied yet when the root was.
    pub fn there(&self) -> Standing {
        let last = self.pieces.iter().rev().find(|p| p.slice().is_some());
        let end = match (last, self.pieces.first()) {
            (Some(last), _) => last.end,
            (None, Some(first)) => first.base,
            (None, None) => self.end,
        };
        self.standing(end)
    }

    fn standing(&self, end: i64) -> Standing {
        let begun = self.lineage.iter().filter(|e| e.start_offset < end);
        Standing {
            log_start: self.log_start,
            lineage: Lineage {
                epochs: begun.copied().collect(),
                end_offset: end,
            },
        }
    }

    /// What comes back when the log ends at `end`.
    pub fn upto(&self, end: i64) -> Part {
        let log_start = self.log_start.min(end);
        let mut part = Part {
            log_start,
            end,
            ..Part::default()
        };
        let mut next = log_start;
        for piece in &self.pieces {
            let (from, to) = (piece.base.max(log_start), piece.end.min(end));
            if from >= to {
                continue;
            }
            if next < from {
                part.miss(next, from, "no object holds it");
            }
            next = to;
            match &piece.holds {
                Holds::Slice(entry) => part.slices.push(*entry),
                Holds::Damaged(entry) => {
                    part.miss(from, to, "it is quarantined: damaged in part");
                    part.slices.push(*entry);
                }
                Holds::Lost(why) => part.miss(from, to, why),
            }
        }
        if next < end {
            part.miss(next, end, "no object holds it");
        }
        part
    }

    pub fn last_epoch(&self) -> i32 {
        self.lineage.last().map_or(-1, |e| e.epoch)
    }
}

impl Part {
    /// Slices that are not missing as a whole.
    pub fn sound(&self) -> impl Iterator<Item = &Entry> {
        self.slices.iter().filter(|entry| {
            let wanted = entry.base.max(self.log_start)..entry.end.min(self.end);
            let is_in =
                |(from, to, _): &(i64, i64, String)| *from <= wanted.start && wanted.end <= *to;
            !self.missing.iter().any(is_in)
        })
    }

    fn miss(&mut self, from: i64, to: i64, why: &str) {
        match self.missing.last_mut() {
            Some((_, end, before)) if *end == from && before == why => *end = to,
            _ => self.missing.push((from, to, why.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests;
