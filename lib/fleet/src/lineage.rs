//! Leader-epoch lineage: which epoch wrote which offsets, and where two logs stop being the same.
//!
//! The point of agreement is an (epoch, offset) pair, never an offset alone (KIP-101, KIP-279).

use serde::{Deserialize, Serialize};

/// The first offset written in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochStart {
    pub epoch: i32,
    pub start_offset: i64,
}

/// Epoch starts in rising order of both epoch and offset, and the log's end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    pub epochs: Vec<EpochStart>,
    pub end_offset: i64,
}

/// The last point up to which two logs are the same: all offsets below `offset` are equal in both, and
/// `epoch` wrote the last of them (-1 where nothing is common).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Common {
    pub epoch: i32,
    pub offset: i64,
}

impl Lineage {
    /// The epoch that wrote `offset`, if the lineage reaches down to it.
    pub fn epoch_of(&self, offset: i64) -> Option<i32> {
        if offset >= self.end_offset {
            return None;
        }
        self.epochs
            .iter()
            .rev()
            .find(|e| e.start_offset <= offset)
            .map(|e| e.epoch)
    }

    /// The newest epoch that wrote something, -1 for an empty lineage.
    pub fn last_epoch(&self) -> i32 {
        self.epochs
            .iter()
            .rev()
            .find(|e| e.start_offset < self.end_offset)
            .map_or(-1, |e| e.epoch)
    }

    /// The end offset of `epoch` here: the start of the next one, or the log's end.
    pub fn end_of(&self, epoch: i32) -> Option<i64> {
        let at = self.epochs.iter().position(|e| e.epoch == epoch)?;
        Some(
            self.epochs
                .get(at + 1)
                .map_or(self.end_offset, |next| next.start_offset),
        )
    }

    /// Where this log and `other` part. An epoch has one writer and is fsynced before it is seen, so two
    /// logs that both hold an epoch hold the same records of it up to the shorter end.
    pub fn common(&self, other: &Self) -> Common {
        for mine in self.epochs.iter().rev() {
            let Some(my_end) = self.end_of(mine.epoch) else {
                continue;
            };
            let Some(their_end) = other.end_of(mine.epoch) else {
                continue;
            };
            let end = my_end.min(their_end);
            if end > mine.start_offset {
                return Common {
                    epoch: mine.epoch,
                    offset: end,
                };
            }
        }
        // Nothing was written by both: they agree only on what lies below the first record of either.
        Common {
            epoch: -1,
            offset: self.first().min(other.first()),
        }
    }

    fn first(&self) -> i64 {
        self.epochs
            .first()
            .map_or(self.end_offset, |e| e.start_offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lineage(epochs: &[(i32, i64)], end_offset: i64) -> Lineage {
        let epochs = epochs
            .iter()
            .map(|&(epoch, start_offset)| EpochStart {
                epoch,
                start_offset,
            })
            .collect();
        Lineage { epochs, end_offset }
    }

    #[test]
    fn a_prefix_is_common_to_its_end() {
        let long = lineage(&[(1, 0), (2, 10)], 30);
        let short = lineage(&[(1, 0), (2, 10)], 20);
        assert_eq!(
            short.common(&long),
            Common {
                epoch: 2,
                offset: 20
            }
        );
        assert_eq!(
            long.common(&short),
            Common {
                epoch: 2,
                offset: 20
            }
        );
    }

    #[test]
    fn an_orphan_tail_ends_where_the_new_epoch_started() {
        let old_home = lineage(&[(1, 0)], 120);
        let new_home = lineage(&[(1, 0), (2, 100)], 150);
        assert_eq!(
            old_home.common(&new_home),
            Common {
                epoch: 1,
                offset: 100
            }
        );
    }

    #[test]
    fn equal_offsets_of_different_epochs_are_not_common() {
        let old_home = lineage(&[(1, 0), (3, 100)], 140);
        let new_home = lineage(&[(1, 0), (2, 100)], 150);
        assert_eq!(
            old_home.common(&new_home),
            Common {
                epoch: 1,
                offset: 100
            }
        );
    }

    #[test]
    fn an_empty_log_agrees_at_its_end() {
        assert_eq!(
            lineage(&[], 0).common(&lineage(&[(4, 0)], 9)),
            Common {
                epoch: -1,
                offset: 0
            }
        );
    }

    #[test]
    fn the_owner_of_an_offset_is_found() {
        let l = lineage(&[(1, 5), (4, 10)], 12);
        assert_eq!(
            (l.epoch_of(4), l.epoch_of(5), l.epoch_of(10), l.epoch_of(12)),
            (None, Some(1), Some(4), None)
        );
        assert_eq!(l.last_epoch(), 4);
    }
}
