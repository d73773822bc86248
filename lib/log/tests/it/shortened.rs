//! Closed segments that have lost their end, wholly below the durable point.

use std::fs::{self, OpenOptions};

use bytes::Bytes;
use whimbrel_log::{Health, Log, LogConfig};
use whimbrel_wire::Batches;

use crate::support::{Crashed, Fixture, flip, small_segments};

fn segments_of_some_batches() -> Fixture {
    let f = Fixture::new();
    for n in 0..60 {
        f.append(n, 2);
    }
    f.sync();
    f.disk.checkpoint().unwrap();
    f.disk.flush_durable_points().unwrap();
    assert!(f.log.segments().len() > 3);
    f
}

/// Base offset and place of each batch of a segment.
fn places(f: &Fixture, segment: i64) -> Vec<(i64, u64)> {
    let bytes = fs::read(crate::support::file_of(&f.root, segment, "log")).unwrap();
    let mut at = 0;
    let batches = Batches::new(Bytes::from(bytes)).map(|one| {
        let one = one.unwrap();
        let place = (one.header.base_offset, at);
        at += one.bytes.len() as u64;
        place
    });
    batches.collect()
}

fn ends_at(log: &Log, end: i64, context: &str) {
    let Health::Damaged { reason } = log.health() else {
        panic!("{context}: opens good");
    };
    assert!(reason.contains("segment"), "{context}: {reason}");
    assert_eq!(log.offsets().log_end, end, "{context}");
}

fn each_cut_is_seen(f: &Fixture, stopped: &Crashed) {
    let segments = f.log.segments();
    for segment in &segments[..segments.len() - 1] {
        let base = segment.base_offset;
        for (end, at) in places(f, base) {
            for length in [at, at + 70] {
                let crashed = Crashed::copy_of(&stopped.root);
                let path = crashed.file(base, "log");
                let file = OpenOptions::new().write(true).open(path).unwrap();
                file.set_len(length).unwrap();
                let context = format!("segment {base} cut to {length}");
                let (disk, log) = crashed.open();
                ends_at(&log, end, &context);
                disk.close().unwrap();
                drop((disk, log));
                ends_at(&crashed.open().1, end, &format!("{context}, again"));
            }
        }
    }
}

#[test]
fn a_closed_segment_that_lost_its_end_is_damage_after_a_kill() {
    let f = segments_of_some_batches();
    each_cut_is_seen(&f, &f.crash());
}

#[test]
fn a_closed_segment_that_lost_its_end_is_damage_after_a_clean_stop() {
    let f = segments_of_some_batches();
    f.disk.close().unwrap();
    each_cut_is_seen(&f, &Crashed::copy_of(&f.root));
}

#[test]
fn an_index_that_is_wrong_about_its_segment_is_no_damage() {
    let f = segments_of_some_batches();
    let stopped = f.crash();
    let segments = f.log.segments();
    for segment in &segments[..segments.len() - 1] {
        for suffix in ["index", "timeindex", "appendtime"] {
            let length = fs::metadata(stopped.file(segment.base_offset, suffix)).unwrap();
            for byte in (0..length.len() as usize).rev().take(12) {
                let crashed = Crashed::copy_of(&stopped.root);
                flip(&crashed.file(segment.base_offset, suffix), byte);
                let health = crashed.open().1.health();
                assert_eq!(health, Health::Good, "{suffix} byte {byte}");
            }
        }
    }
}

#[test]
fn a_segment_that_was_made_and_never_begun_ends_no_log() {
    let f = Fixture::with(LogConfig {
        segment_bytes: 1 << 20,
        ..small_segments()
    });
    for n in 0..30 {
        f.append(n, 2);
    }
    f.sync();
    for stores_its_point in [false, true] {
        if stores_its_point {
            f.disk.checkpoint().unwrap();
            f.disk.flush_durable_points().unwrap();
        }
        let crashed = f.crash();
        // There was no room for its indexes, and the log went on without it.
        fs::write(crashed.file(20, "log"), []).unwrap();
        let (_disk, log) = crashed.open();
        assert_eq!((log.health(), log.offsets().log_end), (Health::Good, 60));
        assert_eq!(log.segments().len(), 1);
        crate::support::append(&log, crate::support::batch(9, 1));
    }
}
