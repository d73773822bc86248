//! The lineage below the local log, of which one file without a checksum tells.

use std::fs;
use std::path::Path;

use whimbrel_log::{EpochStart, Health, Log};

use crate::flips::local_part;
use crate::support::{Fixture, copies_of, flip};

const FILE: &str = "t-0/leader-epoch-checkpoint";

/// Five epochs, of which the log has the last one and a half; the log begins in the first.
fn freed() -> Fixture {
    let f = Fixture::new();
    for epoch in [0, 2, 5, 7, 11] {
        f.log.begin_epoch(epoch).unwrap();
        for n in 0..20 {
            f.append(n, 3);
        }
        f.sync();
    }
    let bases: Vec<i64> = f.log.segments().iter().map(|s| s.base_offset).collect();
    let local = bases.iter().find(|base| **base > 3 * 60 + 10).unwrap();
    f.log.set_log_start(10).unwrap();
    f.log.free_local_before(*local).unwrap();
    f.disk.checkpoint().unwrap();
    f.disk.flush_durable_points().unwrap();
    let lineage = f.log.lineage();
    assert_eq!((lineage.len(), lineage[0].start_offset), (5, 10));
    assert_eq!(local_part(&lineage, *local).len(), 2);
    f
}

/// What is answered is right, or the bucket is to be asked.
fn answers_are_right(log: &Log, truth: &[EpochStart], context: &str) {
    let (lineage, end) = (log.lineage(), log.offsets().log_end);
    assert_eq!(log.health(), Health::Good, "{context}");
    let known_from = lineage.first().map_or(i32::MAX, |first| first.epoch);
    for (at, own) in truth
        .iter()
        .enumerate()
        .filter(|(_, e)| e.epoch >= known_from)
    {
        let ends = truth.get(at + 1).map_or(end, |next| next.start_offset);
        let said = log.end_for_epoch(own.epoch);
        assert_eq!(
            (said.epoch, said.end_offset),
            (own.epoch, ends),
            "{context}"
        );
    }
    let said_by_none = lineage
        .iter()
        .find(|e| !truth.iter().any(|t| t.epoch == e.epoch));
    assert_eq!(said_by_none, None, "{context}");
}

#[test]
fn a_flipped_epoch_below_the_local_log_is_seen_and_never_told() {
    let f = freed();
    let truth = f.log.lineage();
    let local = local_part(&truth, f.log.offsets().local_log_start);
    let length = fs::read(f.root.join(FILE)).unwrap().len();
    let mut seen = 0;
    for (byte, bit) in (0..length).flat_map(|byte| (0..8).map(move |bit| (byte, bit))) {
        let crashed = f.crash();
        let mut bytes = fs::read(crashed.root.join(FILE)).unwrap();
        bytes[byte] ^= 1 << bit;
        fs::write(crashed.root.join(FILE), bytes).unwrap();
        let context = format!("byte {byte} bit {bit}");
        // What the first start could not prove the second one does not take for proven.
        for _ in 0..2 {
            let (_disk, log) = crashed.open();
            answers_are_right(&log, &truth, &context);
            let lineage = log.lineage();
            assert!(
                lineage == truth || lineage == local,
                "{context}: {lineage:?}"
            );
            seen += usize::from(lineage == local);
        }
    }
    assert!(seen > length, "{seen} of {length} bytes");
}

#[test]
fn a_lineage_that_is_newer_than_what_was_noted_of_it_stays_whole() {
    let f = freed();
    let below = local_part(&f.log.lineage(), f.log.offsets().local_log_start)[0].epoch;
    let whole = |root: &Path| {
        let crashed = crate::support::Crashed::copy_of(root);
        let (_disk, log) = crashed.open();
        let (lineage, offsets) = (log.lineage(), log.offsets());
        assert_eq!(log.health(), Health::Good);
        assert_eq!(lineage[0].start_offset, offsets.log_start, "{lineage:?}");
        assert!(lineage.iter().filter(|e| e.epoch <= below).count() > 1);
    };
    let segments = f.log.segments();
    let copies = copies_of(&f.root, || {
        // One without a record after the other, then one with some.
        for epoch in [12, 14, 15, 20] {
            f.log.begin_epoch(epoch).unwrap();
        }
        f.append(1, 3);
        f.log.set_log_start(70).unwrap();
        f.log.begin_epoch(21).unwrap();
        f.append(1, 3);
        f.sync();
        let end = f.log.offsets().log_end;
        f.log.truncate(20, end - 3).unwrap();
        f.log.begin_epoch(22).unwrap();
        f.log.free_local_before(segments[1].base_offset).unwrap();
        f.log.truncate(11, end - 6).unwrap();
    });
    for copy in &copies {
        whole(&copy.root);
    }
    whole(&f.root);
}

#[test]
fn a_lineage_is_told_again_by_the_bucket() {
    let f = freed();
    let truth = f.log.lineage();
    let crashed = f.crash();
    flip(&crashed.root.join(FILE), 6);
    let (disk, log) = crashed.open();
    let first = log.lineage()[0];
    assert_eq!(first.start_offset, log.offsets().local_log_start);
    // Of another history, or not up to the local log.
    let other = |epoch, start_offset| EpochStart {
        epoch,
        start_offset,
    };
    assert!(!log.learn_lineage(&[]).unwrap());
    assert!(!log.learn_lineage(&[other(0, 0), other(9, 30)]).unwrap());
    assert!(!log.learn_lineage(&truth[..2]).unwrap());
    assert_eq!(log.lineage()[0], first);
    // With more of the past than the log has.
    let mut told = truth.clone();
    told[0].start_offset = 0;
    assert!(log.learn_lineage(&told).unwrap());
    assert_eq!(log.lineage(), truth);
    assert!(!log.learn_lineage(&told).unwrap(), "it is known");
    drop((disk, log));
    assert_eq!(crashed.open().1.lineage(), truth);
}
