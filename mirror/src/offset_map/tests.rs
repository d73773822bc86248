//! The map against a model that simply remembers every pair of offsets.

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

/// Copied records with gaps on either side: (source gap, target gap) before each.
fn pairs() -> impl Strategy<Value = Vec<(i64, i64)>> {
    let gap = || prop_oneof![6 => Just(0_i64), 1 => 1..4_i64, 1 => 1..1_000_000_i64];
    prop::collection::vec((gap(), gap()), 0..200).prop_map(|gaps| {
        let (mut source, mut target) = (0, 0);
        let place = |(source_gap, target_gap): (i64, i64)| {
            source += source_gap;
            target += target_gap;
            let pair = (source, target);
            source += 1;
            target += 1;
            pair
        };
        gaps.into_iter().map(place).collect()
    })
}

fn map(pairs: &[(i64, i64)]) -> OffsetMap {
    let mut map = OffsetMap::default();
    for (source, target) in pairs {
        let run = Run {
            source: *source,
            target: *target,
            length: 1,
        };
        map.push(run).unwrap();
    }
    map
}

fn chunks(map: &OffsetMap) -> Vec<Bytes> {
    let chunk = |runs: &[Run]| {
        Chunk {
            topic_id: Uuid::from_u128(9),
            runs: runs.to_vec(),
        }
        .encode()
    };
    map.runs().chunks(CHUNK_RUNS).map(chunk).collect()
}

proptest! {
    #[test]
    fn a_position_separates_the_same_records_on_both_sides(pairs in pairs(), at in any::<prop::sample::Index>()) {
        let map = map(&pairs);
        let (source_end, target_end) = pairs.last().map_or((0, 0), |(s, t)| (s + 1, t + 1));
        let forward = at.index(usize::try_from(source_end).unwrap() + 1) as i64;
        let target = map.to_target(forward, source_end).unwrap();
        for (s, t) in &pairs {
            prop_assert_eq!(*s < forward, *t < target, "source {} target {}", s, t);
        }
        if !pairs.is_empty() {
            let back = at.index(usize::try_from(target_end).unwrap() + 5) as i64;
            let source = map.to_source(back).unwrap();
            for (s, t) in &pairs {
                prop_assert_eq!(*t < back, *s < source, "source {} target {}", s, t);
            }
        }
    }

    #[test]
    fn there_and_back_again_nothing_lies_between(pairs in pairs(), at in any::<prop::sample::Index>()) {
        prop_assume!(!pairs.is_empty());
        let map = map(&pairs);
        let end = map.resume().unwrap();
        let position = at.index(usize::try_from(end).unwrap() + 1) as i64;
        let back = map.to_source(map.to_target(position, end).unwrap()).unwrap();
        let (low, high) = (position.min(back), position.max(back));
        prop_assert!(!pairs.iter().any(|(s, _)| *s >= low && *s < high));
    }

    #[test]
    fn runs_are_merged_where_and_only_where_both_sides_continue(pairs in pairs()) {
        let map = map(&pairs);
        for pair in map.runs().windows(2) {
            let touches = pair[0].source_end() == pair[1].source && pair[0].target_end() == pair[1].target;
            prop_assert!(!touches);
        }
        let total: i64 = map.runs().iter().map(|r| r.length).sum();
        prop_assert_eq!(total, pairs.len() as i64);
    }

    #[test]
    fn a_restart_from_the_stored_chunks_has_the_same_map_and_resumes_after_the_last_copied_record(pairs in pairs()) {
        let map = map(&pairs);
        let mut again = OffsetMap::default();
        for bytes in chunks(&map) {
            for run in Chunk::decode(&bytes).unwrap().runs {
                again.push(run).unwrap();
            }
        }
        prop_assert_eq!(again.resume(), pairs.last().map(|(s, _)| s + 1));
        prop_assert_eq!(again, map);
    }

    #[test]
    fn no_part_of_a_chunk_and_no_random_bytes_are_taken_for_one(pairs in pairs(), noise in prop::collection::vec(any::<u8>(), 0..100)) {
        for bytes in chunks(&map(&pairs)) {
            for cut in 0..bytes.len() {
                prop_assert!(Chunk::decode(&bytes[..cut]).is_err());
            }
        }
        let _ = Chunk::decode(&noise);
        let _ = Key::decode(&noise);
    }

    #[test]
    fn keys_round_trip(topic in "[a-zA-Z0-9._-]{1,249}", partition in 0..i32::MAX, chunk in any::<u32>()) {
        let key = Key { topic, partition, chunk };
        prop_assert_eq!(Key::decode(&key.encode()).unwrap(), key);
    }
}

#[test]
fn what_was_not_looked_through_yet_is_not_translated() {
    let map = map(&[(0, 0), (1, 1)]);
    assert_eq!(map.to_target(2, 2), Some(2));
    assert_eq!(map.to_target(3, 2), None);
    assert_eq!(map.to_target(3, 3), Some(2));
    assert_eq!(OffsetMap::default().to_target(0, 0), Some(0));
    assert_eq!(OffsetMap::default().to_target(1, 0), None);
    assert_eq!(OffsetMap::default().to_source(0), None);
}

#[test]
fn a_run_below_the_others_is_refused() {
    let mut map = map(&[(10, 5)]);
    for (source, target, length) in [(10, 6, 1), (11, 5, 1), (11, 6, 0), (11, 6, i64::MAX)] {
        assert!(
            map.push(Run {
                source,
                target,
                length
            })
            .is_err()
        );
    }
    assert_eq!(map.runs().len(), 1);
}

#[test]
fn a_dense_log_takes_one_run_and_a_gap_costs_few_bytes() {
    let dense: Vec<_> = (0..100_000).map(|n| (n, n)).collect();
    assert_eq!(map(&dense).runs().len(), 1);
    let holes: Vec<_> = (0..CHUNK_RUNS as i64).map(|n| (n * 7, n * 2)).collect();
    assert!(chunks(&map(&holes))[0].len() < CHUNK_RUNS * 8);
}
