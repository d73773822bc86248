//! Damage above the durable point that takes more than one batch, and what stands behind it.

use std::fs;

use whimbrel_log::{AppendContext, Health, LogConfig};
use whimbrel_wire::BatchBuilder;

use crate::support::{Crashed, Fixture, append, bases, batch, file_of, small_segments};

const BATCHES: usize = 8;

/// One segment of batches of one size, none of them synced since the log was made.
fn unsynced() -> (Fixture, usize) {
    let f = Fixture::with(LogConfig {
        segment_bytes: 1 << 20,
        ..small_segments()
    });
    for n in 0..BATCHES as i64 {
        f.append(n, 2);
    }
    let one = f.log.bytes_appended() as usize / BATCHES;
    (f, one)
}

/// The log with `change` made to its file.
fn changed(f: &Fixture, change: impl FnOnce(&mut Vec<u8>)) -> Crashed {
    let crashed = f.crash();
    let path = crashed.file(0, "log");
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
    crashed
}

fn is_damaged(crashed: &Crashed, end: i64, context: &str) {
    let kept = fs::read(crashed.file(0, "log")).unwrap();
    for _ in 0..2 {
        let (_disk, log) = crashed.open();
        let health = log.health();
        assert!(matches!(health, Health::Damaged { .. }), "{context}");
        assert_eq!(log.offsets().log_end, end, "{context}");
        assert_eq!(fs::read(crashed.file(0, "log")).unwrap(), kept, "{context}");
    }
}

#[test]
fn damage_that_takes_the_header_behind_it_too_is_no_torn_tail() {
    let (f, one) = unsynced();
    // From inside the third batch into the fourth or further, and the ends of the fourth's header.
    for (from, to) in [(2 * one + 100, 3 * one + 1), (2 * one + 100, 3 * one + 61)] {
        for torn in [0, 1, 70, one] {
            let crashed = changed(&f, |bytes| {
                bytes[from..to].iter_mut().for_each(|byte| *byte ^= 0x5a);
                bytes.truncate(BATCHES * one - torn);
            });
            is_damaged(&crashed, 4, &format!("{from}..{to} torn {torn}"));
        }
    }
    for from in [2 * one, 2 * one + 20] {
        let crashed = changed(&f, |bytes| {
            bytes[from..from + 2 * one].fill(0xee);
            bytes.truncate(BATCHES * one - 9);
        });
        is_damaged(&crashed, 4, &format!("{from}, two batches"));
    }
}

#[test]
fn damage_at_the_end_is_a_torn_tail_whatever_it_takes() {
    let (f, one) = unsynced();
    for from in [5 * one, 5 * one + 30, 5 * one + 100, 6 * one] {
        let crashed = changed(&f, |bytes| {
            let end = bytes.len();
            bytes[from..end].iter_mut().for_each(|byte| *byte ^= 0x5a);
        });
        let (_disk, log) = crashed.open();
        let end = 2 * (from / one) as i64;
        assert_eq!((log.health(), log.offsets().log_end), (Health::Good, end));
        append(&log, batch(9, 1));
    }
}

#[test]
fn whole_batches_in_the_records_of_a_torn_one_are_none_of_the_log() {
    let f = Fixture::new();
    f.append(0, 2);
    f.sync();
    let mut inner = BatchBuilder::new(1000);
    inner.add(1, None, Some(&[3; 70]), &[]).unwrap();
    let inner = inner.finish().unwrap();
    let mut outer = BatchBuilder::new(0);
    for _ in 0..5 {
        outer.add(2, None, Some(&inner), &[]).unwrap();
    }
    f.log
        .append(outer.finish().unwrap(), AppendContext::new(0, 1))
        .unwrap();
    let size = f.log.bytes_appended() as usize;
    for torn in [1, 10, 200] {
        let crashed = changed(&f, |bytes| bytes.truncate(size - torn));
        let (_disk, log) = crashed.open();
        assert_eq!((log.health(), log.offsets().log_end), (Health::Good, 2));
    }
}

#[test]
fn a_header_of_which_a_page_is_missing_was_never_written() {
    // No byte of an offset is 0.
    let start = 0x0102_0304_0506_0708;
    for missing in 1..30_usize {
        let f = Fixture::new();
        f.log.reset(start).unwrap();
        let mut first = BatchBuilder::new(0);
        first.add(1, None, Some(&[7; 200]), &[]).unwrap();
        let short = first.finish().unwrap().len() - 200;
        let mut first = BatchBuilder::new(0);
        let value = vec![7; 1024 - missing - short];
        first.add(1, None, Some(&value), &[]).unwrap();
        let first = first.finish().unwrap();
        let synced = first.len();
        append(&f.log, first);
        f.sync();
        f.disk.flush_durable_points().unwrap();
        let border = synced.next_multiple_of(512);
        for batches in [1, 4] {
            append(&f.log, batch(1, batches));
            let crashed = f.crash();
            let path = file_of(&crashed.root, start, "log");
            let mut bytes = fs::read(&path).unwrap();
            bytes[synced..border].fill(0);
            fs::write(&path, bytes).unwrap();
            let (disk, log) = crashed.open();
            let found = (log.health(), log.offsets().log_end);
            assert_eq!(found, (Health::Good, start + 1), "{missing} {batches}");
            append(&log, batch(9, 1));
            disk.sync().unwrap();
            assert_eq!(bases(&log, start), [start, start + 1]);
        }
    }
}

#[test]
fn a_torn_tail_beside_a_damaged_index_of_aborts_is_cut_off_and_the_index_built_again() {
    let f = Fixture::new();
    let builder = BatchBuilder::new(0).producer(8, 0, 0).transactional(true);
    append(&f.log, crate::support::fill(builder, 1, 2));
    append(&f.log, crate::faults::abort(0));
    f.append(2, 2);
    let aborted = f.log.aborted(0, 9).unwrap();
    assert_eq!(aborted.len(), 1);
    let size = f.log.bytes_appended() as usize;
    let crashed = changed(&f, |bytes| bytes.truncate(size - 1));
    crate::support::flip(&crashed.file(0, "txnindex"), 9);
    let (_disk, log) = crashed.open();
    assert_eq!((log.health(), log.offsets().log_end), (Health::Good, 3));
    assert_eq!(log.aborted(0, 9).unwrap(), aborted);
}
