//! Freeing local segments, log start, retention, pins.

use std::fs;

use whimbrel_log::{AppendContext, AppendError, LogConfig, ReadError};

use crate::support::{Fixture, batch, file_of};

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
