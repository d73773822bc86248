//! What a crash, a power cut or a bad sector leaves, and what is made of it.

use std::fs::{self, OpenOptions};
use std::path::Path;

use whimbrel_log::{AppendContext, AppendError, Health};
use whimbrel_wire::BatchBuilder;
use whimbrel_wire::control::{ControlType, Marker, MarkerBatch};

use crate::support::{Crashed, Fixture, append, bases, batch, fill, flip, read_all};

fn cut(path: &Path, length: u64) {
    OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(length)
        .unwrap();
}

fn damaged(health: &Health) -> bool {
    matches!(health, Health::Damaged { .. })
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_off_and_nothing_before_it() {
    let f = Fixture::new();
    for n in 0..5 {
        f.append(n, 2);
    }
    f.sync();
    let durable = f.log.bytes_appended();
    f.append(5, 1);
    f.append(6, 1);
    let total = f.log.bytes_appended();
    let one = (total - durable) / 2;
    let crashed = f.crash();
    let whole = fs::read(crashed.file(0, "log")).unwrap();
    for length in durable..=total {
        let end = 10 + ((length - durable) / one) as i64;
        fs::write(crashed.file(0, "log"), &whole[..length as usize]).unwrap();
        let (disk, log) = crashed.open();
        assert_eq!(
            (log.health(), log.offsets().log_end),
            (Health::Good, end),
            "{length}"
        );
        assert_eq!(log.offsets().durable_end, end);
        assert_eq!(
            fs::metadata(crashed.file(0, "log")).unwrap().len(),
            durable + (end as u64 - 10) * one
        );
        drop((disk, log));
        // The points now say more is durable: start again from the crash.
        fs::copy(
            f.root.join("durable-points"),
            crashed.root.join("durable-points"),
        )
        .unwrap();
    }
}

#[test]
fn a_tail_of_zeros_or_noise_is_cut_off() {
    let f = Fixture::new();
    f.append(0, 2);
    f.sync();
    for tail in [vec![0; 5000], vec![0xff; 100], vec![2; 300]] {
        let crashed = f.crash();
        let mut bytes = fs::read(crashed.file(0, "log")).unwrap();
        bytes.extend(tail);
        fs::write(crashed.file(0, "log"), bytes).unwrap();
        let (_disk, log) = crashed.open();
        assert_eq!((log.health(), log.offsets().log_end), (Health::Good, 2));
        append(&log, batch(1, 2));
        assert_eq!(bases(&log, 0), [0, 2]);
    }
}

#[test]
fn a_bit_flipped_below_the_durable_point_is_damage_and_the_file_is_kept() {
    let f = Fixture::new();
    for n in 0..4 {
        f.append(n, 2);
    }
    f.sync();
    f.disk.flush_durable_points().unwrap();
    let size = f.log.bytes_appended() as usize;
    let good = read_all(&f.log, 0);
    for byte in (0..size).step_by(7) {
        let crashed = f.crash();
        flip(&crashed.file(0, "log"), byte);
        let kept = fs::read(crashed.file(0, "log")).unwrap();
        let (disk, log) = crashed.open();
        // Base offset and leader epoch are outside the CRC.
        let in_batch = byte % (size / 4);
        if (0..8).contains(&in_batch) || (12..16).contains(&in_batch) {
            continue;
        }
        assert!(damaged(&log.health()), "byte {byte}");
        assert_eq!(fs::read(crashed.file(0, "log")).unwrap(), kept);
        let refused = log.append(batch(0, 1), AppendContext::new(9, 1));
        assert!(matches!(refused, Err(AppendError::Damaged { .. })));
        assert!(log.begin_epoch(9).is_err());
        // What lies before is readable.
        let before = byte / (size / 4);
        assert_eq!(log.offsets().log_end, 2 * before as i64);
        assert_eq!(read_all(&log, 0), good[..before * (size / 4)]);
        // It is not forgotten, neither by a crash nor by a clean stop.
        disk.close().unwrap();
        drop((disk, log));
        assert!(damaged(&crashed.open().1.health()));
    }
}

#[test]
fn damage_above_the_durable_point_with_sound_batches_behind_it_is_not_a_torn_tail() {
    let f = Fixture::new();
    for n in 0..4 {
        f.append(n, 2);
    }
    // Nothing was synced since the log was created.
    let size = f.log.bytes_appended() as usize / 4;
    for byte in [8, 16, 17, 30, 100] {
        let crashed = f.crash();
        flip(&crashed.file(0, "log"), size + byte);
        let (_disk, log) = crashed.open();
        assert!(damaged(&log.health()), "byte {byte}");
        assert_eq!(log.offsets().log_end, 2);
    }
    let crashed = f.crash();
    flip(&crashed.file(0, "log"), 3 * size + 100);
    let (_disk, log) = crashed.open();
    assert_eq!((log.health(), log.offsets().log_end), (Health::Good, 6));
}

#[test]
fn missing_durable_bytes_are_damage() {
    let f = Fixture::new();
    for n in 0..60 {
        f.append(n, 2);
    }
    f.sync();
    f.disk.flush_durable_points().unwrap();
    let segments = f.log.segments();
    let active = segments.last().unwrap();
    let crashed = f.crash();
    cut(&crashed.file(active.base_offset, "log"), active.bytes - 1);
    assert!(damaged(&crashed.open().1.health()));
    let crashed = f.crash();
    fs::remove_file(crashed.file(active.base_offset, "log")).unwrap();
    assert!(damaged(&crashed.open().1.health()));
    // In a closed segment, with others behind it.
    let crashed = f.crash();
    flip(&crashed.file(segments[1].base_offset, "log"), 100);
    let (_disk, log) = crashed.open();
    assert!(damaged(&log.health()));
    assert_eq!(log.offsets().log_end, segments[1].base_offset);
    assert!(crashed.file(active.base_offset, "log").exists());
}

#[test]
fn damage_is_set_aside_and_the_log_filled_again() {
    let f = Fixture::new();
    for n in 0..40 {
        f.append(n, 2);
    }
    f.sync();
    f.disk.flush_durable_points().unwrap();
    let crashed = f.crash();
    let second = f.log.segments()[1].base_offset;
    flip(&crashed.file(second, "log"), 400);
    let bad = fs::read(crashed.file(second, "log")).unwrap();
    let (disk, log) = crashed.open();
    let cut = log.set_aside_damage().unwrap();
    assert_eq!(
        (log.health(), cut.from, log.offsets().log_end),
        (Health::Good, 80, cut.to)
    );
    let aside = crashed
        .root
        .join("quarantine/t-0")
        .join(format!("{second:020}.log"));
    assert_eq!(fs::read(aside).unwrap(), bad);
    log.append_replica(read_all(&f.log, cut.to).into(), 1)
        .unwrap();
    disk.sync().unwrap();
    assert_eq!(read_all(&log, 0), read_all(&f.log, 0));
    drop((disk, log));
    let (_disk, log) = crashed.open();
    assert_eq!((log.health(), log.offsets().log_end), (Health::Good, 80));
}

#[test]
fn caches_that_are_missing_or_bad_are_built_again() {
    let f = Fixture::new();
    for n in 0..60 {
        if n % 20 == 0 {
            f.log.begin_epoch(n).unwrap();
        }
        append(&f.log, crate::support::produced(4, 0, n * 2, 2));
    }
    f.sync();
    let expected = read_all(&f.log, 0);
    let lineage = f.log.lineage();
    let state = f.log.producers();
    for suffix in ["index", "timeindex", "snapshot", "recent", "appendtime"] {
        for junk in [None, Some(&b""[..]), Some(&[0x7f; 240][..])] {
            let crashed = f.crash();
            for segment in f.log.segments() {
                let path = crashed.file(segment.base_offset, suffix);
                match junk {
                    Some(junk) if path.exists() => fs::write(path, junk).unwrap(),
                    Some(_) => {}
                    None => drop(fs::remove_file(path)),
                }
            }
            let (_disk, log) = crashed.open();
            assert_eq!(log.health(), Health::Good, "{suffix} {junk:?}");
            assert_eq!(read_all(&log, 0), expected, "{suffix} {junk:?}");
            assert_eq!(log.producers(), state, "{suffix} {junk:?}");
            for offset in 0..120 {
                assert_eq!(
                    log.read(offset, 1, true, 120).unwrap().next_offset,
                    offset / 2 * 2 + 2
                );
            }
        }
    }
    let crashed = f.crash();
    fs::write(crashed.root.join("t-0/leader-epoch-checkpoint"), "0\n7\n").unwrap();
    assert_eq!(crashed.open().1.lineage(), lineage);
    for name in ["recovery-point-offset-checkpoint", "durable-points"] {
        let crashed = f.crash();
        fs::write(crashed.root.join(name), "junk").unwrap();
        let (_disk, log) = crashed.open();
        assert_eq!(
            (log.health(), read_all(&log, 0) == expected),
            (Health::Good, true)
        );
    }
}

#[test]
fn recovery_of_a_recovery_that_was_killed_ends_the_same() {
    let f = Fixture::new();
    for n in 0..30 {
        f.append(n, 2);
    }
    f.sync();
    f.append(30, 2);
    let crashed = f.crash();
    let active = f.log.segments().last().unwrap().clone();
    cut(&crashed.file(active.base_offset, "log"), active.bytes - 3);
    // Recovery runs, is killed before it stored anything at the root, runs again.
    let points = fs::read(crashed.root.join("durable-points")).unwrap();
    for _ in 0..3 {
        let (disk, log) = crashed.open();
        assert_eq!((log.health(), log.offsets().log_end), (Health::Good, 60));
        drop((disk, log));
        fs::write(crashed.root.join("durable-points"), &points).unwrap();
    }
}

#[test]
fn a_clean_shutdown_needs_no_scan_and_a_crash_only_looks_above_the_recovery_point() {
    let f = Fixture::new();
    for n in 0..60 {
        f.append(n, 2);
    }
    f.sync();
    f.disk.checkpoint().unwrap();
    f.disk.flush_durable_points().unwrap();
    f.append(60, 2);
    f.sync();
    // Not looked at: the flip goes unnoticed, which shows that only the end was read.
    let crashed = f.crash();
    flip(&crashed.file(0, "log"), 200);
    let (_disk, log) = crashed.open();
    assert_eq!((log.health(), log.offsets().log_end), (Health::Good, 122));
    f.disk.close().unwrap();
    let closed = Crashed::copy_of(&f.root);
    let last = f.log.segments().last().unwrap().base_offset;
    flip(&closed.file(last, "log"), 200);
    assert_eq!(closed.open().1.health(), Health::Good);
    // The marker is used up: the next start is one after a crash.
    assert!(!closed.root.join(".kafka_cleanshutdown").exists());
}

#[test]
fn points_ride_in_a_later_sync_without_being_asked_to() {
    let f = Fixture::new();
    f.log
        .append(batch(0, 2), AppendContext::new(0, 1000))
        .unwrap();
    f.sync();
    f.log
        .append(batch(1, 2), AppendContext::new(0, 1060))
        .unwrap();
    f.sync();
    f.log
        .append(batch(2, 2), AppendContext::new(0, 1120))
        .unwrap();
    f.sync();
    let one = f.log.bytes_appended() / 3;
    // The end of the round before is known, that of the last not yet.
    for (length, good) in [
        (3 * one - 1, true),
        (2 * one, true),
        (2 * one - 1, false),
        (0, false),
    ] {
        let crashed = f.crash();
        cut(&crashed.file(0, "log"), length);
        assert_eq!(!damaged(&crashed.open().1.health()), good, "{length}");
    }
}

#[test]
fn a_restart_after_a_kill_walks_only_what_came_after_the_checkpoint() {
    let f = Fixture::with(whimbrel_log::LogConfig::default());
    let value = vec![7; 256 << 10];
    let big = |n: i32| {
        let mut builder = BatchBuilder::new(0).producer(5, 0, n);
        builder.add(i64::from(n), None, Some(&value), &[]).unwrap();
        builder.finish().unwrap()
    };
    for n in 0..400 {
        append(&f.log, big(n));
    }
    f.sync();
    f.disk.checkpoint().unwrap();
    f.disk.flush_durable_points().unwrap();
    for n in 400..404 {
        append(&f.log, big(n));
    }
    f.sync();
    let written = f.log.bytes_appended();
    let (disk, log) = f.crash().open();
    assert_eq!((log.health(), log.offsets().log_end), (Health::Good, 404));
    // A hundred MiB in all; batches behind the checkpoint, and those behind the last producer snapshot.
    assert!(written > 100 << 20);
    assert!(
        disk.recovered_bytes() < 4 << 20,
        "{}",
        disk.recovered_bytes()
    );
    for n in 399..404 {
        assert!(append(&log, big(n)).duplicate);
    }
}

#[test]
fn append_times_that_a_kill_took_with_it_are_unknown_or_older_than_the_truth() {
    let f = Fixture::new();
    // Times of a closed segment are stored, the newest ones of the active one are not yet.
    for n in 0..30 {
        let context = AppendContext::new(0, 10_000 * (n + 1));
        f.log.append(batch(n, 2), context).unwrap();
    }
    f.sync();
    let before = f.log.segments().len();
    assert!(before > 1);
    for cut_off in [0, 4] {
        let crashed = f.crash();
        for segment in f.log.segments().iter().take(cut_off) {
            let _ = fs::remove_file(crashed.file(segment.base_offset, "appendtime"));
        }
        let (_disk, log) = crashed.open();
        let context = AppendContext::new(0, 9_000_000);
        let fresh = log.append(batch(99, 2), context).unwrap().base_offset;
        for offset in 0..fresh {
            let truth = 10_000 * (offset / 2 + 1);
            let said = log.append_time_of(offset);
            assert!(
                said.is_none_or(|said| said <= truth),
                "{offset}: {said:?}, {truth}"
            );
            assert!(cut_off > 0 || said.is_some(), "{offset}");
            // The disk was opened at 1.
            assert_eq!(log.appended_by(offset), said.or(Some(1)), "{offset}");
        }
        assert_eq!(log.append_time_of(fresh), Some(9_000_000));
    }
}

#[test]
fn an_abort_whose_marker_a_kill_took_hides_nothing() {
    let marker = |control_type| {
        let marker = MarkerBatch {
            base_offset: 0,
            leader_epoch: 0,
            timestamp_ms: 7,
            producer_id: 8,
            producer_epoch: 0,
            marker: Marker {
                control_type,
                coordinator_epoch: 0,
            },
        };
        marker.build().unwrap()
    };
    // In a segment that holds nothing else, and behind a snapshot of the producers.
    for begins_a_segment in [true, false] {
        let f = Fixture::new();
        let builder = BatchBuilder::new(0).producer(8, 0, 0).transactional(true);
        append(&f.log, fill(builder, 1, 2));
        if begins_a_segment {
            f.log.roll().unwrap();
        }
        let f = f.reopen();
        let active = f.log.segments().last().unwrap().clone();
        append(&f.log, marker(ControlType::Abort));
        assert_eq!(f.log.aborted(0, 9).unwrap().len(), 1);
        let crashed = f.crash();
        // The index is written first.
        cut(&crashed.file(active.base_offset, "log"), active.bytes);
        let (_disk, log) = crashed.open();
        assert_eq!(log.offsets().log_end, 2);
        assert_eq!(log.aborted(0, 9).unwrap(), [], "{begins_a_segment}");
        append(&log, marker(ControlType::Commit));
        assert_eq!(log.aborted(0, 9).unwrap(), [], "{begins_a_segment}");
    }
}

#[test]
fn of_a_log_with_one_segment_a_kill_takes_no_append_time() {
    let f = Fixture::new();
    for n in 0..9 {
        let context = AppendContext::new(0, 10_000 + n);
        f.log.append(batch(n, 1), context).unwrap();
    }
    f.sync();
    assert_eq!(f.log.segments().len(), 1);
    let crashed = f.crash();
    // Long after.
    let (_disk, logs) =
        whimbrel_log::Disk::open(crate::support::options(&crashed.root), 99_000).unwrap();
    for offset in 0..9 {
        assert_eq!(logs[0].append_time_of(offset), Some(10_000), "{offset}");
        assert_eq!(logs[0].appended_by(offset), Some(10_000), "{offset}");
    }
}

#[test]
fn the_work_of_a_restart_after_a_kill_does_not_grow_with_the_log() {
    let recovered = |batches: i64| {
        let f = Fixture::new();
        for n in 0..batches {
            f.append(n, 3);
        }
        f.sync();
        f.disk.checkpoint().unwrap();
        f.disk.flush_durable_points().unwrap();
        for n in 0..3 {
            f.append(n, 3);
        }
        f.sync();
        let (disk, log) = f.crash().open();
        assert_eq!(log.offsets().log_end, 3 * (batches + 3));
        (disk.recovered_bytes(), log.segments().len())
    };
    let (few, many) = (recovered(20), recovered(600));
    assert!(many.1 > 20 * few.1, "{few:?} {many:?}");
    // Where the newest segment and its producer snapshot happen to begin.
    assert!(many.0 <= few.0 + 2 * 4096, "{few:?} {many:?}");
}

#[test]
fn a_producers_memory_comes_back_from_a_log_of_high_offsets_too() {
    for start in [0, i64::from(i32::MAX) + 7, 1 << 40] {
        let f = Fixture::new();
        f.log.reset(start).unwrap();
        for n in 0..4 {
            append(&f.log, crate::support::produced(4, 0, n * 2, 2));
        }
        let state = f.log.producers();
        let (_disk, log) = f.crash().open();
        assert_eq!(log.producers(), state, "{start}");
    }
}
