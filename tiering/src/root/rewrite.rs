//! What compaction has left of a log in the place of what it was.

use whimbrel_fleet::TopicPartition;

use super::{Applied, Entry, Reject, Root, codec::check_partition};
use crate::format::Keys;

impl Root {
    /// Names `new` instead of `old`, which are all entries from the first one on up to some end, and which `new`
    /// covers from the same base to the same end. All at once: a part of one cleaning beside a part of another may
    /// lack the tombstone of what the other still has. For the same reason nothing behind it may be cleaned
    /// already. The old objects are unlinked, and stay for the grace.
    pub fn rewrite(
        &mut self,
        keys: &Keys,
        at: TopicPartition,
        old: &[Entry],
        new: &[Entry],
        now_ms: i64,
    ) -> Result<Applied, Reject> {
        let refuse = |reason: &str| Reject::Unsound {
            at,
            reason: reason.to_owned(),
        };
        let Some(partition) = self.partitions.get(&at) else {
            return Err(refuse("the partition is not there any more"));
        };
        if !new.is_empty() && partition.entries.starts_with(new) {
            return Ok(Applied::Already);
        }
        if old.is_empty() || !partition.runs.is_empty() || !partition.entries.starts_with(old) {
            return Err(refuse("what was to be replaced is not named any more"));
        }
        let bounds = |of: &[Entry]| Some((of.first()?.base, of.last()?.end));
        if bounds(old) != bounds(new) {
            return Err(refuse("what is new does not cover the same offsets"));
        }
        let bytes = Entry::data_bytes_of;
        let whole = new.iter().all(|e| {
            e.end == e.object_end
                && e.merged.is_none()
                && partition.epoch_of(e.end.saturating_sub(1)) == Some(e.leader_epoch)
        });
        if !whole || bytes(new) > bytes(old) {
            return Err(refuse("what is new is not less of the same log"));
        }
        let behind = &partition.entries[old.len()..];
        if behind.iter().any(Entry::is_sparse) {
            return Err(refuse("what follows was cleaned further than it"));
        }
        let mut next = partition.clone();
        next.entries.splice(..old.len(), new.iter().copied());
        check_partition(&next).map_err(|reason| Reject::Unsound { at, reason })?;
        self.partitions.insert(at, next);
        self.unlink(keys, at, old.to_vec(), now_ms);
        Ok(Applied::Changed)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use whimbrel_fleet::EpochStart;

    use super::*;
    use crate::root::Partition;

    fn at() -> TopicPartition {
        TopicPartition::new(Uuid::from_u128(7), 0)
    }

    fn entry(base: i64, end: i64, random: u64, records: u64) -> Entry {
        Entry {
            random,
            object_bytes: 10 * records + 100,
            data_bytes: 10 * records,
            records,
            ..Entry::sample(base, end)
        }
    }

    fn old() -> [Entry; 3] {
        [
            entry(0, 10, 1, 10),
            entry(10, 20, 2, 10),
            entry(20, 30, 3, 10),
        ]
    }

    fn root() -> Root {
        let partition = Partition {
            end: 30,
            lineage: vec![EpochStart {
                epoch: 1,
                start_offset: 0,
            }],
            entries: old().to_vec(),
            ..Partition::default()
        };
        Root::sample(at(), partition)
    }

    #[test]
    fn old_entries_go_together_and_their_objects_wait() {
        let (keys, mut root, old) = (Keys::new("east"), root(), old());
        let new = [entry(0, 20, 9, 3)];
        let done = root.rewrite(&keys, at(), &old[..2], &new, 5);
        assert_eq!(done, Ok(Applied::Changed));
        assert_eq!(root.partitions[&at()].entries, [new[0], old[2]]);
        let waiting: Vec<_> = root.pending.iter().map(|u| u.key.clone()).collect();
        assert_eq!(
            waiting,
            [old[0].key(&keys, 0, at()), old[1].key(&keys, 0, at())]
        );
        assert_eq!(Root::decode(&root.encode()).unwrap(), root);
        // Asked again, after an answer that was lost.
        let done = root.rewrite(&keys, at(), &old[..2], &new, 5);
        assert_eq!((done, root.pending.len()), (Ok(Applied::Already), 2));
    }

    #[test]
    fn what_would_leave_a_gap_or_bring_a_key_back_is_refused() {
        let (keys, old) = (Keys::new("east"), old());
        let mut cleaned = old;
        cleaned[2].records = 4;
        let other = Entry {
            leader_epoch: 2,
            ..entry(0, 20, 9, 3)
        };
        let clipped = Entry {
            object_end: 25,
            ..entry(0, 20, 9, 3)
        };
        for (there, named, new) in [
            // Not the first, not those that are there, nothing at all.
            (old, &old[1..2], vec![entry(10, 20, 9, 3)]),
            (old, &cleaned[..3], vec![entry(0, 30, 9, 3)]),
            (old, &old[..0], vec![entry(0, 10, 9, 3)]),
            (old, &old[..2], vec![]),
            // Other offsets, or a hole between.
            (old, &old[..2], vec![entry(0, 19, 9, 3)]),
            (old, &old[..2], vec![entry(1, 20, 9, 3)]),
            (old, &old[..2], vec![entry(0, 8, 9, 3), entry(9, 20, 8, 3)]),
            // Another log, a part of an object, more than there was.
            (old, &old[..2], vec![other]),
            (old, &old[..2], vec![clipped]),
            (old, &old[..2], vec![entry(0, 20, 9, 30)]),
            // What follows was cleaned already, maybe in another copy of the log.
            (cleaned, &old[..2], vec![entry(0, 20, 9, 3)]),
        ] {
            let mut root = root();
            if let Some(partition) = root.partitions.get_mut(&at()) {
                partition.entries = there.to_vec();
            }
            let before = root.clone();
            let done = root.rewrite(&keys, at(), named, &new, 5);
            assert!(done.is_err(), "{new:?}");
            assert_eq!(root, before);
        }
    }
}
