//! The leader epochs of a log and where each began (KIP-101, KIP-279, KIP-320).
//!
//! Pure: the caller writes the checkpoint. Epochs and start offsets rise strictly; an epoch without
//! records disappears when the next one begins at the same offset, as in Kafka
//! (`LeaderEpochFileCache.assign`).

use std::ops::Range;

/// An epoch and the offset of its first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EpochStart {
    pub epoch: i32,
    pub start_offset: i64,
}

/// The answer to OffsetForLeaderEpoch: the largest epoch not above the asked one, and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    /// -1: the log has no epoch at all.
    pub epoch: i32,
    /// Exclusive; -1 with epoch -1.
    pub end_offset: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Epochs {
    entries: Vec<EpochStart>,
}

impl Epochs {
    /// Keeps what is in order; entries that break the order are dropped.
    pub(crate) fn new(entries: impl IntoIterator<Item = EpochStart>) -> Self {
        let mut epochs = Epochs::default();
        for entry in entries {
            if entry.epoch >= 0 && entry.start_offset >= 0 {
                epochs.assign(entry.epoch, entry.start_offset);
            }
        }
        epochs
    }

    pub(crate) fn entries(&self) -> &[EpochStart] {
        &self.entries
    }

    pub(crate) fn latest(&self) -> Option<EpochStart> {
        self.entries.last().copied()
    }

    /// Notes that `epoch` owns the records from `start_offset` on. True if the cache changed.
    /// An epoch that is already the newest keeps its start.
    pub(crate) fn assign(&mut self, epoch: i32, start_offset: i64) -> bool {
        if self
            .latest()
            .is_some_and(|last| last.epoch == epoch && last.start_offset <= start_offset)
        {
            return false;
        }
        self.entries
            .retain(|e| e.epoch < epoch && e.start_offset < start_offset);
        self.entries.push(EpochStart {
            epoch,
            start_offset,
        });
        true
    }

    /// Forgets epochs that begin at or after `end`. True if the cache changed.
    pub(crate) fn truncate_from_end(&mut self, end: i64) -> bool {
        let before = self.entries.len();
        self.entries.retain(|e| e.start_offset < end);
        before != self.entries.len()
    }

    /// Forgets epochs that end at or below `start`; the one that holds `start` begins there.
    /// True if the cache changed.
    pub(crate) fn truncate_from_start(&mut self, start: i64) -> bool {
        let below = self.entries.partition_point(|e| e.start_offset <= start);
        let Some(holder) = below.checked_sub(1) else {
            return false;
        };
        if holder == 0 && self.entries[0].start_offset == start {
            return false;
        }
        self.entries.drain(..holder);
        self.entries[0].start_offset = start;
        true
    }

    /// Forgets epochs that begin below `start`, also the one that holds it. True if the cache changed.
    pub(crate) fn forget_below(&mut self, start: i64) -> bool {
        let before = self.entries.len();
        self.entries.retain(|e| e.start_offset >= start);
        before != self.entries.len()
    }

    /// The epoch that owns `offset`, if it is known.
    pub(crate) fn at(&self, offset: i64) -> Option<i32> {
        let below = self.entries.partition_point(|e| e.start_offset <= offset);
        Some(self.entries[below.checked_sub(1)?].epoch)
    }

    /// The epoch that owns `offset` and all offsets it owns, if it is known.
    pub(crate) fn owner(&self, offset: i64) -> Option<(Range<i64>, i32)> {
        let next = self.entries.partition_point(|e| e.start_offset <= offset);
        let own = self.entries[next.checked_sub(1)?];
        let end = self.entries.get(next).map_or(i64::MAX, |e| e.start_offset);
        Some((own.start_offset..end, own.epoch))
    }

    /// See [`EpochEnd`]. A log that has an epoch never answers -1: an epoch above all known ones
    /// gets the newest and the log end, one below all gets itself and the first known start.
    pub(crate) fn end_for(&self, epoch: i32, log_end: i64) -> EpochEnd {
        let (Some(first), true) = (self.entries.first(), epoch >= 0) else {
            return EpochEnd {
                epoch: -1,
                end_offset: -1,
            };
        };
        let next = self.entries.partition_point(|e| e.epoch <= epoch);
        let end_offset = self.entries.get(next).map_or(log_end, |e| e.start_offset);
        match next.checked_sub(1) {
            Some(floor) => EpochEnd {
                epoch: self.entries[floor].epoch,
                end_offset,
            },
            None => EpochEnd {
                epoch,
                end_offset: first.start_offset,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(i32, i64)]) -> Epochs {
        Epochs::new(entries.iter().map(|&(epoch, start_offset)| EpochStart {
            epoch,
            start_offset,
        }))
    }

    fn pairs(epochs: &Epochs) -> Vec<(i32, i64)> {
        epochs
            .entries()
            .iter()
            .map(|e| (e.epoch, e.start_offset))
            .collect()
    }

    #[test]
    fn an_epoch_between_known_ones_gets_the_largest_lower_one_and_its_end() {
        let cache = epochs(&[(2, 0), (5, 10), (9, 30)]);
        assert_eq!(
            cache.end_for(2, 40),
            EpochEnd {
                epoch: 2,
                end_offset: 10
            }
        );
        assert_eq!(
            cache.end_for(4, 40),
            EpochEnd {
                epoch: 2,
                end_offset: 10
            }
        );
        assert_eq!(
            cache.end_for(5, 40),
            EpochEnd {
                epoch: 5,
                end_offset: 30
            }
        );
        assert_eq!(
            cache.end_for(9, 40),
            EpochEnd {
                epoch: 9,
                end_offset: 40
            }
        );
        assert_eq!(
            cache.end_for(12, 40),
            EpochEnd {
                epoch: 9,
                end_offset: 40
            }
        );
        assert_eq!(
            cache.end_for(1, 40),
            EpochEnd {
                epoch: 1,
                end_offset: 0
            }
        );
        assert_eq!(
            epochs(&[]).end_for(1, 40),
            EpochEnd {
                epoch: -1,
                end_offset: -1
            }
        );
        assert_eq!(
            cache.end_for(-1, 40),
            EpochEnd {
                epoch: -1,
                end_offset: -1
            }
        );
    }

    #[test]
    fn an_epoch_without_records_gives_way_to_the_next() {
        let mut cache = epochs(&[(1, 0), (2, 10)]);
        assert!(cache.assign(3, 10));
        assert_eq!(pairs(&cache), [(1, 0), (3, 10)]);
        assert!(!cache.assign(3, 15));
    }

    #[test]
    fn truncation_at_both_ends() {
        let mut cache = epochs(&[(1, 0), (2, 10), (4, 20)]);
        assert!(cache.truncate_from_end(20));
        assert_eq!(pairs(&cache), [(1, 0), (2, 10)]);
        assert!(cache.truncate_from_start(15));
        assert_eq!(pairs(&cache), [(2, 15)]);
        assert!(!cache.truncate_from_start(15));
        assert!(!cache.truncate_from_start(3));
        assert_eq!(cache.at(15), Some(2));
        assert_eq!(cache.at(14), None);
        let mut cache = epochs(&[(1, 0), (2, 10), (4, 20)]);
        assert!(cache.forget_below(11));
        assert_eq!(pairs(&cache), [(4, 20)]);
        assert!(!cache.forget_below(20));
    }
}
