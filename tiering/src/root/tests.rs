use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn stamp(epoch: u64, sequence: u64, nonce: u128) -> Stamp {
    Stamp {
        incarnation: Uuid::from_u128(9),
        epoch,
        sequence,
        nonce: Uuid::from_u128(nonce),
    }
}

fn at() -> TopicPartition {
    TopicPartition::new(Uuid::from_u128(1), 0)
}

fn keys() -> Keys {
    Keys::new("east")
}

fn entry(base: i64, end: i64, leader_epoch: i32) -> Entry {
    Entry {
        leader_epoch,
        ..Entry::sample(base, end)
    }
}

fn start(epoch: i32, start_offset: i64) -> EpochStart {
    EpochStart {
        epoch,
        start_offset,
    }
}

fn commit(base: i64, end: i64, lineage: &[(i32, i64)]) -> Commit {
    let lineage: Vec<_> = lineage.iter().map(|(e, o)| start(*e, *o)).collect();
    let epoch = lineage.last().unwrap().epoch;
    Commit {
        at: at(),
        topic: "t".into(),
        group: "default".into(),
        region_epoch: 1,
        log_start: 0,
        lineage,
        entry: entry(base, end, epoch),
    }
}

fn root() -> Root {
    let mut root = Root::empty(stamp(1, 1, 1), "east", 0, 16, 5);
    root.commit(&keys(), &commit(0, 10, &[(1, 0)]), 0).unwrap();
    root.commit(&keys(), &commit(10, 20, &[(1, 0), (3, 15)]), 0)
        .unwrap();
    root.commit(&keys(), &commit(20, 30, &[(3, 15)]), 0)
        .unwrap();
    root
}

#[test]
fn every_answer_has_one_verdict() {
    let (mine, before) = (stamp(5, 9, 2), stamp(5, 8, 1));
    let judged = |now| judge(&mine, Some(&before), now);
    assert_eq!(judged(Reading::Root(mine)), Verdict::Done);
    assert_eq!(judged(Reading::Root(before)), Verdict::Again);
    assert_eq!(
        judged(Reading::Root(stamp(6, 9, 7))),
        Verdict::Fenced { epoch: 6 }
    );
    assert_eq!(
        judged(Reading::Root(stamp(5, 9, 7))),
        Verdict::TwoOfOneIdentity
    );
    assert_eq!(judged(Reading::Root(stamp(4, 20, 7))), Verdict::WentBack);
    assert_eq!(judged(Reading::Missing), Verdict::WentBack);
    assert_eq!(judged(Reading::Damaged), Verdict::WentBack);
}

#[test]
fn a_claim_goes_on_top_of_the_last_write_of_the_owner_before() {
    let (mine, before) = (stamp(6, 9, 2), stamp(5, 8, 1));
    let judged = |now| judge(&mine, Some(&before), now);
    assert_eq!(judged(Reading::Root(stamp(5, 9, 7))), Verdict::Moved);
    assert_eq!(judged(Reading::Root(stamp(5, 7, 7))), Verdict::WentBack);
    assert_eq!(
        judged(Reading::Root(stamp(6, 9, 7))),
        Verdict::TwoOfOneIdentity
    );
    assert_eq!(
        judged(Reading::Root(stamp(7, 9, 7))),
        Verdict::Fenced { epoch: 7 }
    );
    let theirs = Stamp {
        incarnation: Uuid::from_u128(5),
        ..stamp(6, 9, 7)
    };
    let first = Verdict::Fenced { epoch: 6 };
    assert_eq!(judged(Reading::Root(theirs)), first);
    assert_eq!(judge(&mine, None, Reading::Root(theirs)), first);
    // Once the claim stood, nobody else may write in its epoch.
    let own = judge(&mine, Some(&stamp(6, 8, 3)), Reading::Root(theirs));
    assert_eq!(own, Verdict::TwoOfOneIdentity);
    assert_eq!(judge(&mine, None, Reading::Missing), Verdict::Again);
    assert_eq!(
        judge(&mine, None, Reading::Root(stamp(1, 1, 7))),
        Verdict::Moved
    );
    let by = Claim {
        incarnation: Uuid::nil(),
        nonce: Uuid::from_u128(8),
        region: "east",
        shard: 0,
        shards: 16,
        now_ms: 1,
    };
    let claimed = claim(Some(&root()), &by);
    assert_eq!(
        (
            claimed.stamp.epoch,
            claimed.stamp.sequence,
            claimed.partitions
        ),
        (2, 2, root().partitions)
    );
    assert_eq!(claim(None, &by).stamp.epoch, 1);
}

#[test]
fn gaps_overlaps_and_foreign_lineages_are_refused() {
    let mut root = root();
    let before = root.clone();
    let mut refused = |c: Commit| root.commit(&keys(), &c, 0).unwrap_err();
    assert!(matches!(
        refused(commit(31, 40, &[(3, 15)])),
        Reject::Gap { .. }
    ));
    assert!(matches!(
        refused(commit(25, 40, &[(3, 15)])),
        Reject::Overlap { .. }
    ));
    assert!(matches!(
        refused(commit(30, 40, &[(2, 15)])),
        Reject::Lineage { .. }
    ));
    // Its leader had fewer records than the bucket has.
    assert!(matches!(
        refused(commit(30, 40, &[(5, 10)])),
        Reject::Lineage { last: 3, .. }
    ));
    assert!(matches!(
        refused(commit(30, 30, &[(3, 15)])),
        Reject::Unsound { .. }
    ));
    assert_eq!(root, before);
    assert_eq!(
        root.commit(&keys(), &commit(20, 30, &[(3, 15)]), 0),
        Ok(Applied::Already)
    );
}

#[test]
fn a_log_that_begins_above_the_bucket_starts_again_there() {
    let mut root = root();
    let restart = Commit {
        log_start: 100,
        ..commit(100, 110, &[(4, 90)])
    };
    root.commit(&keys(), &restart, 7).unwrap();
    let partition = &root.partitions[&at()];
    assert_eq!(
        (partition.start(), partition.end, root.pending.len()),
        (100, 110, 3)
    );
}

#[test]
fn a_truncation_drops_clips_and_lists() {
    let mut root = root();
    assert!(matches!(
        root.truncate(&keys(), at(), 3, 12, 1),
        Err(Reject::Epoch { found: Some(1), .. })
    ));
    let done = root.truncate(&keys(), at(), 1, 12, 1).unwrap();
    let partition = root.partitions[&at()].clone();
    assert_eq!(
        (
            done.end,
            done.orphaned.len(),
            partition.entries.len(),
            partition.end
        ),
        (12, 2, 2, 12)
    );
    assert_eq!(partition.lineage, [start(1, 0)]);
    assert_eq!(
        (partition.entries[1].end, partition.entries[1].object_end),
        (12, 20)
    );
    // The home goes on in another epoch; what was orphaned is never put on the pending list.
    root.commit(&keys(), &commit(12, 50, &[(1, 0), (4, 12)]), 0)
        .unwrap();
    root.raise_log_start(&keys(), at(), 40, 0);
    assert_eq!((root.pending.len(), root.orphaned.len()), (1, 2));
    assert_eq!(Root::decode(&root.encode()).unwrap(), root);
    assert_eq!(root.truncate(&keys(), at(), 4, 60, 4).unwrap().end, 50);
}

#[test]
fn a_replica_that_cuts_late_takes_nothing_of_the_lineage_that_came_after() {
    let mut root = root();
    root.truncate(&keys(), at(), 1, 12, 1).unwrap();
    root.commit(&keys(), &commit(12, 50, &[(1, 0), (5, 12)]), 0)
        .unwrap();
    let before = root.clone();
    for _ in 0..2 {
        let late = root.truncate(&keys(), at(), 1, 12, 1).unwrap();
        assert_eq!((late.end, late.orphaned.len()), (50, 0));
        assert_eq!(root, before);
    }
    // A tail of the newer epoch is cut all the same.
    let cut = root.truncate(&keys(), at(), 5, 40, 5).unwrap();
    assert_eq!((cut.end, cut.orphaned.len()), (40, 1));
}

#[test]
fn a_deleted_topic_goes_and_its_namesake_stays() {
    let mut root = root();
    root.truncate(&keys(), at(), 1, 12, 1).unwrap();
    let namesake = TopicPartition::new(Uuid::from_u128(2), 0);
    let again = Commit {
        at: namesake,
        ..commit(0, 10, &[(1, 0)])
    };
    root.commit(&keys(), &again, 0).unwrap();
    assert_eq!(root.forget(&keys(), at(), 9), Applied::Changed);
    assert_eq!(root.forget(&keys(), at(), 9), Applied::Already);
    assert_eq!(root.partitions.keys().collect::<Vec<_>>(), [&namesake]);
    // The object that the truncation cut stays with the other orphan.
    assert_eq!((root.pending.len(), root.orphaned.len()), (1, 2));
    assert_eq!(Root::decode(&root.encode()).unwrap(), root);
}

#[test]
fn a_reader_of_another_lineage_sees_only_what_is_common() {
    let partition = root().partitions[&at()].clone();
    assert_eq!(partition.agreed_end(&[]), 30);
    assert_eq!(partition.agreed_end(&[start(1, 0), start(3, 15)]), 30);
    assert_eq!(
        partition.agreed_end(&[start(1, 0), start(2, 12), start(3, 15)]),
        12
    );
    assert_eq!(partition.agreed_end(&[start(1, 0), start(4, 22)]), 15);
    assert_eq!(partition.agreed_end(&[start(3, 15), start(5, 28)]), 28);
    assert_eq!(partition.agreed_end(&[start(9, 17)]), 17);
}

#[test]
fn a_root_with_one_bit_changed_is_refused() {
    let bytes = root().encode();
    for bit in 0..bytes.len() * 8 {
        let mut bent = bytes.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        // Bytes 10 and 11 of the head are reserved and mean nothing yet.
        assert!(
            Root::decode(&bent).is_err() || (80..96).contains(&bit),
            "bit {bit}"
        );
    }
    assert!(Root::decode(&bytes[..bytes.len() - 1]).is_err());
}

/// Puts a right CRC over a wrong body.
fn forged(change: impl FnOnce(&mut Root)) -> Vec<u8> {
    let mut root = root();
    change(&mut root);
    root.encode()
}

#[test]
fn a_forged_root_is_refused() {
    let partition =
        |change: fn(&mut Partition)| forged(|root| change(root.partitions.get_mut(&at()).unwrap()));
    for bytes in [
        partition(|p| p.entries[1].base += 1),
        partition(|p| p.entries[2].end = i64::MAX),
        partition(|p| p.end = 31),
        partition(|p| p.lineage.reverse()),
        partition(|p| p.entries[0].data_bytes = u64::MAX),
        partition(|p| p.entries[0].object_end = 5),
    ] {
        assert!(Root::decode(&bytes).is_err());
    }
    // A key that leaves the bucket, put in where a good one stood.
    let good = forged(|root| {
        root.pending.push(Unlinked {
            key: Key::parse("aaaaaaaa").unwrap(),
            unlinked_ms: 0,
        })
    });
    let at = good.windows(8).position(|w| w == b"aaaaaaaa").unwrap();
    let mut bad = good.clone();
    bad[at..at + 8].copy_from_slice(b"../../xx");
    let crc = crc32c::crc32c(&bad[20..]).to_be_bytes();
    bad[16..20].copy_from_slice(&crc);
    assert!(Root::decode(&good).is_ok() && Root::decode(&bad).is_err());
    // A count of 2^32 - 1 partitions.
    let mut bad = Root::empty(stamp(1, 1, 1), "east", 0, 16, 5).encode();
    let at = bad.len() - 12;
    bad[at..at + 4].copy_from_slice(&[0xff; 4]);
    let crc = crc32c::crc32c(&bad[20..]).to_be_bytes();
    bad[16..20].copy_from_slice(&crc);
    assert!(Root::decode(&bad).is_err());
}

/// Nothing can be held against what a run says that it has.
#[test]
fn runs_of_more_bytes_than_there_can_be_are_counted_all_the_same() {
    let golden = include_bytes!("../../tests/it/golden/root-v2.bin");
    let mut root = Root::decode(golden).unwrap();
    let mut runs = 0;
    for partition in root.partitions.values_mut() {
        for run in &mut partition.runs {
            run.data_bytes = u64::MAX;
            runs += 1;
        }
    }
    assert!(runs > 0);
    let root = Root::decode(&root.encode()).unwrap();
    let most = root.partitions.values().map(Partition::bytes).max();
    assert_eq!(most, Some(u64::MAX));
}

proptest! {
    #[test]
    fn random_bytes_are_never_a_root(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Root::decode(&bytes).is_err());
    }

    #[test]
    fn edits_keep_the_invariants(steps in proptest::collection::vec((0_u8..3, 1_i64..50), 1..40)) {
        let mut root = Root::empty(stamp(1, 1, 1), "east", 0, 16, 5);
        let mut epoch = 1;
        for (what, n) in steps {
            let end = root.partitions.get(&at()).map_or(0, |p| p.end);
            match what {
                0 => {
                    root.commit(&keys(), &commit(end, end + n, &[(epoch, end)]), 0).unwrap();
                }
                1 => {
                    let to = (end - n).max(0);
                    let owner = root.partitions.get(&at()).and_then(|p| p.epoch_of(to - 1)).unwrap_or(-1);
                    let tail = root.partitions.get(&at()).and_then(|p| p.epoch_of(to.max(p.start())));
                    root.truncate(&keys(), at(), owner, to, tail.unwrap_or(-1)).unwrap();
                    epoch += 1;
                }
                _ => {
                    root.raise_log_start(&keys(), at(), (end - n).max(0), 0);
                }
            }
            prop_assert_eq!(Root::decode(&root.encode()).unwrap(), root.clone());
            prop_assert!(root.pending.iter().all(|p| !root.holds(&keys(), &p.key)));
        }
    }
}
