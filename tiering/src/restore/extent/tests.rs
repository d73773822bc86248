use proptest::prelude::*;
use whimbrel_fleet::cut::End;

use super::*;

fn entry(base: i64, end: i64, random: u64) -> Entry {
    let bytes = u64::try_from(end - base).unwrap() * 10;
    Entry {
        random,
        object_bytes: bytes + 100,
        data_bytes: bytes,
        records: 1,
        ..Entry::sample(base, end)
    }
}

/// Pieces of these lengths, one after another from `base` on; those marked are lost.
fn extent(log_start: i64, base: i64, lengths: &[(i64, bool)]) -> Extent {
    let mut pieces = Vec::new();
    let mut next = base;
    for (n, (length, lost)) in (0_u64..).zip(lengths) {
        let end = next + length;
        let holds = if *lost {
            Holds::Lost(format!("object {n}"))
        } else {
            Holds::Slice(entry(next, end, n))
        };
        let base = next;
        pieces.push(Piece { base, end, holds });
        next = end;
    }
    Extent {
        shard: 0,
        topic: "t".into(),
        group: "default".into(),
        region_epoch: 1,
        log_start,
        lineage: vec![EpochStart {
            epoch: 1,
            start_offset: 0,
        }],
        pieces,
        end: next,
    }
}

#[test]
fn a_log_is_cut_inside_an_object_and_above_its_start() {
    let extent = extent(15, 0, &[(10, false), (10, false), (10, false), (10, false)]);
    let part = extent.upto(25);
    assert_eq!((part.log_start, part.end), (15, 25));
    let of: Vec<_> = part.slices.iter().map(|e| (e.base, e.end)).collect();
    assert_eq!(of, [(10, 20), (20, 30)]);
    assert_eq!(part.missing, []);
    // Retention has taken all that was there at the cut.
    let gone = extent.upto(5);
    assert_eq!((gone.log_start, gone.end, gone.slices.len()), (5, 5, 0));
}

#[test]
fn what_is_missing_is_named_in_as_few_ranges_as_there_are_reasons() {
    let mut one = extent(0, 5, &[(10, false), (10, true), (10, false)]);
    one.pieces[2].holds = Holds::Damaged(entry(25, 35, 9));
    let part = one.upto(40);
    let ranges: Vec<_> = part
        .missing
        .iter()
        .map(|(from, to, _)| (*from, *to))
        .collect();
    assert_eq!(ranges, [(0, 5), (15, 25), (25, 35), (35, 40)]);
    // Damaged in part: what is sound of it comes back.
    assert_eq!(part.slices.len(), 2);
    one.pieces[2].holds = Holds::Lost("object 1".into());
    assert_eq!(one.upto(35).missing[1..], [(15, 35, "object 1".to_owned())]);
}

#[test]
fn what_is_lost_at_the_end_was_not_copied_yet_and_what_is_lost_below_stays_lost() {
    let end = |offset| End { epoch: 1, offset };
    let one = extent(0, 0, &[(10, true), (10, false), (10, true)]);
    assert!(one.there().holds(end(20)) && !one.there().holds(end(21)));
    assert!(one.named().holds(end(30)));
    let none = extent(0, 0, &[(10, true)]);
    assert!(!none.there().holds(end(1)));
    let freed = Extent {
        log_start: 10,
        end: 10,
        ..extent(0, 0, &[])
    };
    assert!(freed.there().holds(end(10)));
}

proptest! {
    #[test]
    fn every_offset_comes_back_or_is_named(
        lengths in proptest::collection::vec((1..20_i64, any::<bool>()), 0..12),
        base in 0..30_i64,
        log_start in 0..100_i64,
        end in 0..200_i64,
    ) {
        let extent = extent(log_start, base, &lengths);
        let part = extent.upto(end);
        let mut covered = vec![0; 300];
        let (from, to) = (part.log_start, part.end);
        let clip = |a: i64, b: i64| a.max(from)..b.min(to);
        for entry in &part.slices {
            for offset in clip(entry.base, entry.end) {
                covered[usize::try_from(offset).unwrap()] += 1;
            }
        }
        for (a, b, _) in &part.missing {
            prop_assert!(from <= *a && a < b && *b <= to);
            for offset in *a..*b {
                covered[usize::try_from(offset).unwrap()] += 1;
            }
        }
        prop_assert_eq!((from, to), (log_start.min(end), end));
        for (offset, times) in (0_i64..).zip(&covered) {
            prop_assert_eq!(*times, i32::from(offset >= from && offset < to), "{}", offset);
        }
        // What is there of the end is never more than what the root names.
        prop_assert!(extent.there().lineage.end_offset <= extent.named().lineage.end_offset);
    }
}
