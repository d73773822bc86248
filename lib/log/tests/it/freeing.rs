//! Freeing local segments, log start, retention, pins.

use std::fs;

use whimbrel_log::{AppendContext, AppendError, LogConfig, ReadError};

use crate::compaction;
use crate::support::{Crashed, Fixture, batch, copies_of, file_of};

fn counted_once(copies: &[Crashed], bytes: u64) {
    for (n, crashed) in copies.iter().enumerate() {
        // What the first start finds the second one finds, too.
        for _ in 0..2 {
            let (_disk, log) = crashed.open();
            assert_eq!(log.health(), whimbrel_log::Health::Good, "{n}");
            assert_eq!(
                (log.bytes_appended(), log.durable_bytes()),
                (bytes, bytes),
                "{n}"
            );
        }
    }
}

#[test]
fn a_kill_while_segments_go_counts_no_byte_twice() {
    let f = Fixture::new();
    for n in 0..60 {
        f.append(n, 3);
    }
    f.sync();
    f.disk.checkpoint().unwrap();
    f.disk.flush_durable_points().unwrap();
    let segments = f.log.segments();
    let copies = copies_of(&f.root, || {
        f.log.free_local_before(segments[1].base_offset).unwrap();
        f.log.set_log_start(segments[3].base_offset + 1).unwrap();
    });
    counted_once(&copies, f.log.bytes_appended());
    // And where the newest of it is not noted as durable.
    f.append(60, 3);
    f.sync();
    f.append(61, 3);
    counted_once(&[f.crash()], f.log.bytes_appended());
}

#[test]
fn a_kill_while_a_log_is_cleaned_leaves_no_byte_out() {
    let f = Fixture::with(compaction::config());
    for n in 0..3_u8 {
        for k in 0..12_u8 {
            let records = [(k % 4, Some(n)), (n, Some(k))];
            let bytes = compaction::Model::build(whimbrel_wire::BatchBuilder::new(0), &records);
            f.log.append(bytes, AppendContext::new(0, 5)).unwrap();
        }
        f.sync();
        f.log.roll().unwrap();
    }
    f.sync();
    f.disk.flush_durable_points().unwrap();
    let bytes = f.log.bytes_appended();
    let copies = copies_of(&f.root, || {
        let done = f
            .log
            .clean(compaction::ALL, 10, &mut compaction::Free)
            .unwrap();
        assert!(done.bytes_after < done.bytes_before);
    });
    assert_eq!(f.log.bytes_appended(), bytes);
    counted_once(&copies, bytes);
}

#[test]
fn freeing_and_log_start_move_the_bounds_and_survive() {
    let f = Fixture::new();
    for n in 0..60 {
        f.append(n, 3);
    }
    let appended = f.log.bytes_appended();
    // Not durable: not given up.
    assert_eq!(f.log.free_local_before(180).unwrap().segments, 0);
    f.sync();
    let third = f.log.segments()[2].clone();
    let freed = f.log.free_local_before(third.base_offset + 1).unwrap();
    assert_eq!(
        (freed.segments, freed.local_log_start),
        (2, third.base_offset)
    );
    assert!(!file_of(&f.root, 0, "log").exists());
    let check = |log: &whimbrel_log::Log| {
        let offsets = log.offsets();
        assert_eq!(
            (offsets.log_start, offsets.local_log_start, offsets.log_end),
            (0, third.base_offset, 180)
        );
        let below = log.read(third.base_offset - 1, 100, true, 180);
        assert!(
            matches!(below, Err(ReadError::BelowLocal { local_start, .. }) if local_start == third.base_offset)
        );
        assert_eq!(log.bytes_appended(), appended);
        assert_eq!(log.lineage()[0].start_offset, 0);
    };
    check(&f.log);
    check(&f.crash().open().1);
    let f = f.reopen();
    check(&f.log);
    let start = third.base_offset + 4;
    f.log.set_log_start(start).unwrap();
    assert!(f.log.set_log_start(start - 1).is_err());
    assert!(matches!(
        f.log.read(start - 1, 100, true, 180),
        Err(ReadError::OutOfRange { .. })
    ));
    let (_disk, crashed) = f.crash().open();
    assert_eq!(
        (
            crashed.offsets().log_start,
            crashed.lineage()[0].start_offset
        ),
        (start, start)
    );
}

#[test]
fn retention_names_whole_closed_segments() {
    let f = Fixture::with(LogConfig {
        retention_ms: Some(10_000),
        retention_bytes: None,
        ..crate::support::small_segments()
    });
    for n in 0..60 {
        f.append(n, 3);
    }
    assert_eq!(f.log.retention_start(60_000), None);
    f.sync();
    let segments = f.log.segments();
    let expired = segments
        .iter()
        .rfind(|s| s.closed && 60_000 - s.max_timestamp_ms > 10_000)
        .unwrap();
    assert_eq!(f.log.retention_start(60_000), Some(expired.end_offset));
    f.log.set_config(LogConfig {
        retention_ms: None,
        retention_bytes: Some(segments.last().unwrap().bytes + 1),
        ..crate::support::small_segments()
    });
    let keep_one_more = segments[segments.len() - 2].base_offset;
    assert_eq!(f.log.retention_start(0), Some(keep_one_more));
    assert_eq!(f.log.local_retention_start(0), Some(keep_one_more));
}

#[test]
fn pins_outlive_freeing_truncation_and_deletion() {
    let f = Fixture::new();
    for n in 0..30 {
        f.append(n, 3);
    }
    f.sync();
    let pins = f.root.join("pins");
    fs::create_dir(&pins).unwrap();
    let segments = f.log.segments();
    let (first, last) = (&segments[0], segments.last().unwrap());
    let closed = f.log.pin(first.base_offset, &pins).unwrap();
    let active = f.log.pin(last.base_offset, &pins).unwrap();
    assert!(f.log.pin(1, &pins).is_err());
    assert!(closed.segment.closed && !active.segment.closed);
    assert!(closed.index.is_some() && closed.timeindex.is_some() && closed.txnindex.is_none());
    assert!(active.snapshot.is_some());
    let (closed_bytes, active_bytes) = (
        fs::read(&closed.log).unwrap(),
        fs::read(&active.log).unwrap(),
    );
    f.log.truncate(0, last.base_offset + 3).unwrap();
    f.log.begin_epoch(5).unwrap();
    f.append(99, 2);
    f.sync();
    f.log.free_local_before(first.end_offset).unwrap();
    assert_eq!(fs::read(&active.log).unwrap(), active_bytes);
    f.disk.delete(&f.log).unwrap();
    assert_eq!(fs::read(&closed.log).unwrap(), closed_bytes);
    assert!(!f.root.join("t-0").exists());
    assert!(matches!(
        f.log.append(batch(0, 1), AppendContext::new(9, 1)),
        Err(AppendError::Deleted { .. })
    ));
    assert!(matches!(
        f.log.read(80, 1, true, 90),
        Err(ReadError::Deleted { .. })
    ));
}
