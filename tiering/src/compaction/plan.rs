//! Whether what the bucket has of a compacted log is to be replaced, and how far. Pure.

use whimbrel_rpc::proto::node::CleanedSegment;

use crate::root::Entry;

/// From so many objects on they are also replaced where half as many are enough: an edit cannot unlink any number.
const MANY: usize = 1_000;

/// What bounds how much is uploaded again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Percent of the bucket's bytes that must be gone from the log; with 0 nothing need be.
    pub ratio: u8,
    /// Between two replacements of one partition, by the age of the objects.
    pub every_ms: u64,
}

/// For what is damaged.
pub const AT_ONCE: Limits = Limits {
    ratio: 0,
    every_ms: 0,
};

/// All entries that end at or below `end` are to be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub base: i64,
    /// Exclusive; a cleaned segment and an entry both end here.
    pub end: i64,
    pub old: Vec<Entry>,
}

/// `entries` are all that the bucket has of the partition, `segments` what compaction has looked at.
///
/// Entries that were cleaned already are replaced with the rest, or nothing is: their log may have been another
/// one, which was cleaned further.
pub fn plan(
    entries: &[Entry],
    segments: &[CleanedSegment],
    now_ms: i64,
    limits: &Limits,
) -> Option<Plan> {
    let last = segments
        .iter()
        .rev()
        .find(|s| entries.iter().any(|e| e.end == s.end_offset))?;
    let end = last.end_offset;
    let count = entries.partition_point(|e| e.end <= end);
    let (old, behind) = entries.split_at(count);
    if behind.iter().any(Entry::is_sparse) {
        return None;
    }
    let there = Entry::data_bytes_of(old);
    let below = segments.partition_point(|s| s.end_offset <= end);
    let left: u64 = segments[..below].iter().map(|s| s.bytes).sum();
    let gone = there.checked_sub(left)?;
    let enough = u128::from(gone) * 100 >= u128::from(there) * u128::from(limits.ratio);
    let many = old.len() >= MANY && below * 2 <= old.len();
    // A clock that was wrong once does not hold it up for ever.
    let rewritten = old.iter().filter(|e| e.is_sparse());
    let rests = rewritten
        .map(|e| now_ms.abs_diff(e.created_ms))
        .any(|age_ms| age_ms < limits.every_ms);
    let due = limits.ratio == 0 || gone > 0 && (enough || many);
    (due && !rests).then(|| Plan {
        base: old.first().map_or(end, |e| e.base),
        end,
        old: old.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        ratio: 50,
        every_ms: 1_000,
    };

    fn entry(base: i64, end: i64, data_bytes: u64, records: u64) -> Entry {
        Entry {
            data_bytes,
            records,
            created_ms: 5_000,
            ..Entry::sample(base, end)
        }
    }

    fn segment(base_offset: i64, end_offset: i64, bytes: u64) -> CleanedSegment {
        CleanedSegment {
            base_offset,
            end_offset,
            bytes,
        }
    }

    fn bounds(plan: Option<Plan>) -> Option<(i64, i64, usize)> {
        plan.map(|p| (p.base, p.end, p.old.len()))
    }

    #[test]
    fn half_of_it_must_be_gone_up_to_where_segments_and_entries_both_end() {
        let entries = [
            entry(0, 10, 100, 10),
            entry(10, 20, 100, 10),
            entry(20, 30, 100, 10),
        ];
        let found = |segments: &[CleanedSegment]| bounds(plan(&entries, segments, 5_000, &LIMITS));
        assert_eq!(found(&[segment(0, 20, 100)]), Some((0, 20, 2)));
        assert_eq!(found(&[segment(0, 20, 101)]), None);
        assert_eq!(
            found(&[segment(0, 10, 40), segment(10, 25, 1)]),
            Some((0, 10, 1))
        );
        assert_eq!(found(&[segment(0, 15, 1)]), None);
        assert_eq!(found(&[segment(0, 20, 900)]), None);
        assert_eq!(found(&[]), None);
        let same = [segment(0, 30, 300)];
        assert_eq!(found(&same), None);
        assert_eq!(
            bounds(plan(&entries, &same, 5_000, &AT_ONCE)),
            Some((0, 30, 3))
        );
    }

    #[test]
    fn what_was_cleaned_already_is_replaced_with_the_rest_and_not_too_soon() {
        let entries = [entry(0, 10, 100, 3), entry(10, 20, 100, 10)];
        let all = [segment(0, 10, 10), segment(10, 20, 10)];
        let found = |now_ms| bounds(plan(&entries, &all, now_ms, &LIMITS));
        assert_eq!(found(5_999), None);
        assert_eq!(found(6_000), Some((0, 20, 2)));
        assert_eq!(found(-1_000_000), Some((0, 20, 2)));
        // A log that was cleaned less far than the bucket.
        let entries = [entry(0, 10, 100, 3), entry(10, 20, 100, 3)];
        assert_eq!(bounds(plan(&entries, &all[..1], 9_000, &LIMITS)), None);
    }
}
