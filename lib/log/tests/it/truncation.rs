//! Truncation by (epoch, offset), reset, and crashes in the middle of them.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use whimbrel_log::calls::{Call, Watcher, watch};
use whimbrel_log::{Health, LogConfig, LogError};

use crate::support::{Fixture, append, bases, produced, read_all, small_segments};

fn three_epochs() -> Fixture {
    let f = Fixture::new();
    for n in 0..60 {
        if n == 20 || n == 40 {
            f.log.begin_epoch(n).unwrap();
        }
        append(&f.log, produced(3, 0, n * 3, 3));
    }
    f
}

#[test]
fn everything_behind_the_offset_goes_with_its_traces() {
    for offset in [180, 179, 150, 121, 120, 100, 61, 60, 33, 3, 1, 0] {
        let f = three_epochs();
        f.sync();
        let epoch = if offset > 120 {
            40
        } else if offset > 60 {
            20
        } else {
            0
        };
        let whole = offset / 3 * 3;
        let cut = f.log.truncate(epoch, offset).unwrap();
        assert_eq!((cut.from, cut.to), (180, whole), "{offset}");
        let check = |log: &whimbrel_log::Log| {
            let offsets = log.offsets();
            assert_eq!((offsets.log_end, offsets.durable_end), (whole, whole));
            assert_eq!(
                bases(log, 0),
                (0..whole / 3).map(|n| n * 3).collect::<Vec<_>>()
            );
            assert!(log.lineage().iter().all(|e| e.start_offset < whole.max(1)));
            let last = log.producer(3).map(|p| p.last_sequence());
            assert_eq!(last, (whole > 0).then_some(whole as i32 - 1));
            assert_eq!(log.bytes_appended(), read_all(log, 0).len() as u64);
            assert_eq!(log.health(), Health::Good);
        };
        check(&f.log);
        check(&f.crash().open().1);
        // And it goes on from there.
        f.log.begin_epoch(50).unwrap();
        append(&f.log, produced(3, 0, whole as i32, 3));
        f.sync();
        assert_eq!(f.crash().open().1.offsets().log_end, whole + 3);
        assert_eq!(
            f.log.end_for_epoch(49).end_offset,
            if whole == 0 { 0 } else { whole }
        );
    }
}

#[test]
fn an_offset_the_lineage_does_not_hold_is_refused() {
    let f = three_epochs();
    assert!(matches!(
        f.log.truncate(0, 100),
        Err(LogError::NotInLineage { found: 20, .. })
    ));
    assert!(matches!(
        f.log.truncate(40, 181),
        Err(LogError::OutOfRange { .. })
    ));
    assert!(matches!(
        f.log.begin_epoch(39),
        Err(LogError::StaleLeaderEpoch {
            current: 40,
            found: 39
        })
    ));
    assert_eq!(f.log.offsets().log_end, 180);
}

#[test]
fn a_new_lineage_over_an_old_one_survives_a_crash_before_and_after_its_sync() {
    let f = three_epochs();
    f.sync();
    f.disk.checkpoint().unwrap();
    f.log.truncate(20, 90).unwrap();
    f.log.begin_epoch(77).unwrap();
    for n in 0..10 {
        append(&f.log, produced(3, 0, 90 + n * 3, 3));
    }
    // The recovery point lies above the cut: what was written since must be looked at all the same.
    let crashed = f.crash();
    let active = f.log.segments().last().unwrap().clone();
    let path = crashed.file(active.base_offset, "log");
    let length = fs::metadata(&path).unwrap().len();
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(length - 5)
        .unwrap();
    let (_disk, log) = crashed.open();
    assert_eq!((log.health(), log.offsets().log_end), (Health::Good, 117));
    assert_eq!(log.lineage().last().unwrap().epoch, 77);
}

#[test]
fn a_truncation_that_only_lowered_the_point_leaves_a_good_log() {
    let f = three_epochs();
    f.sync();
    let before = f.crash();
    f.log.truncate(20, 90).unwrap();
    // The point of after, the files of before.
    fs::copy(
        f.root.join("durable-points"),
        before.root.join("durable-points"),
    )
    .unwrap();
    let (_disk, log) = before.open();
    assert_eq!((log.health(), log.offsets().log_end), (Health::Good, 180));
    log.truncate(20, 90).unwrap();
    assert_eq!(log.offsets().log_end, 90);
}

#[test]
fn a_reset_starts_empty_elsewhere() {
    let f = three_epochs();
    f.sync();
    let source = Bytes::from(read_all(&f.log, 150));
    let follower = Fixture::new();
    follower.append(0, 2);
    follower.sync();
    let reset = follower.log.reset(150).unwrap();
    assert_eq!((reset.from, reset.to), (2, 150));
    let offsets = follower.log.offsets();
    assert_eq!(
        (offsets.log_start, offsets.local_log_start, offsets.log_end),
        (150, 150, 150)
    );
    assert_eq!(follower.crash().open().1.offsets().log_start, 150);
    follower.log.append_replica(source.clone(), 1).unwrap();
    follower.sync();
    assert_eq!(read_all(&follower.log, 150), source);
    let (_disk, crashed) = follower.crash().open();
    assert_eq!(
        (crashed.offsets().log_start, crashed.offsets().log_end),
        (150, 180)
    );
    assert_eq!(crashed.lineage()[0].epoch, 40);
}

#[test]
fn a_reset_below_the_local_log_keeps_where_it_begins_and_its_lineage() {
    let f = three_epochs();
    f.sync();
    f.log.set_log_start(9).unwrap();
    f.log.free_local_before(150).unwrap();
    assert!(f.log.offsets().local_log_start > 100);
    let reset = f.log.reset_local(100).unwrap();
    assert_eq!((reset.from, reset.to), (180, 100));
    let check = |log: &whimbrel_log::Log| {
        let offsets = log.offsets();
        assert_eq!(
            (offsets.log_start, offsets.local_log_start, offsets.log_end),
            (9, 100, 100)
        );
        assert_eq!(offsets.known_log_start, Some(9));
        let lineage: Vec<_> = log
            .lineage()
            .iter()
            .map(|e| (e.epoch, e.start_offset))
            .collect();
        assert_eq!(lineage, [(0, 9), (20, 60)]);
        assert_eq!(log.health(), Health::Good);
    };
    check(&f.log);
    check(&f.crash().open().1);
    // Once more, at the end that it has.
    f.log.reset_local(100).unwrap();
    check(&f.log);
    f.log.begin_epoch(50).unwrap();
    append(&f.log, produced(3, 0, 0, 3));
    f.sync();
    let (_disk, log) = f.crash().open();
    assert_eq!((log.offsets().log_start, log.offsets().log_end), (9, 103));
}

#[test]
fn a_reset_below_a_lost_log_start_finds_none() {
    let f = three_epochs();
    f.sync();
    f.log.free_local_before(150).unwrap();
    let crashed = f.crash();
    fs::write(crashed.root.join("durable-points"), "junk").unwrap();
    let (disk, log) = crashed.open();
    log.reset_local(100).unwrap();
    assert_eq!(log.offsets().known_log_start, None);
    drop((disk, log));
    let offsets = crashed.open().1.offsets();
    assert_eq!((offsets.known_log_start, offsets.log_end), (None, 100));
}

/// A disk without room for new files and longer ones, from the `first` such call on.
#[derive(Debug)]
struct Full {
    first: usize,
    seen: AtomicUsize,
}

impl Watcher for Full {
    fn before(&self, call: Call, path: &Path) -> io::Result<()> {
        // The slots of durable points are there already.
        let needs_room =
            matches!(call, Call::Create | Call::Write) && !path.ends_with("durable-points");
        if needs_room && self.seen.fetch_add(1, Ordering::SeqCst) >= self.first {
            return Err(io::Error::from_raw_os_error(28));
        }
        Ok(())
    }
}

#[test]
fn a_full_disk_refuses_a_truncation_whole_and_takes_it_when_there_is_room() {
    for first in 0.. {
        let f = three_epochs();
        f.sync();
        let all = read_all(&f.log, 0);
        // Linked by an upload: the cut needs a copy of each file.
        let pins = f.root.join("pins");
        fs::create_dir(&pins).unwrap();
        for segment in f.log.segments() {
            f.log.pin(segment.base_offset, &pins).unwrap();
        }
        let full = Arc::new(Full {
            first,
            seen: AtomicUsize::new(0),
        });
        let watched = watch(&f.root, full.clone());
        let cut = f.log.truncate(20, 91);
        drop(watched);
        assert!(f.disk.failed().is_none(), "{first}: {:?}", f.disk.failed());
        if full.seen.load(Ordering::SeqCst) <= first {
            assert!(cut.is_ok() && first > 3, "{first}: {cut:?}");
            break;
        }
        if cut.is_err() {
            assert_eq!(f.log.offsets().log_end, 180, "{first}");
            assert_eq!(read_all(&f.log, 0), all, "{first}");
            let (_disk, log) = f.crash().open();
            assert_eq!(
                (log.health(), log.offsets().log_end),
                (Health::Good, 180),
                "{first}"
            );
            f.log.truncate(20, 91).unwrap();
        }
        assert_eq!(f.log.offsets().log_end, 90, "{first}");
        f.sync();
        let (_disk, log) = f.crash().open();
        assert_eq!(
            (log.health(), log.offsets().log_end),
            (Health::Good, 90),
            "{first}"
        );
    }
}

#[test]
fn the_newest_time_of_what_a_cut_leaves_is_known() {
    let f = Fixture::with(LogConfig {
        segment_bytes: 1 << 20,
        index_interval_bytes: 4096,
        ..small_segments()
    });
    for n in 0..9 {
        f.append(n, 2);
    }
    f.log.truncate(0, 6).unwrap();
    let newest = f.log.max_timestamp().unwrap().unwrap();
    assert_eq!((newest.offset, newest.timestamp_ms), (5, 2001));
    let found = f.log.offset_for_timestamp(2000).unwrap().unwrap();
    assert_eq!(found.offset, 4);
}
