//! Logs of topics that are acknowledged before the sync: what a power cut leaves of them, and how it goes on.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;
use whimbrel_log::{AppendContext, Disk, Health, Log, MayBeLost};
use whimbrel_wire::{BatchBuilder, ErrorCode};

use crate::power::{Camera, Studio, passed_over};
use crate::support::{
    Crashed, Fixture, TOPIC, append, bases, batch, fill, flip, open, produced, small_segments,
};

/// As if the kernel had been started since.
fn power_comes_back(root: &Path) {
    let path = root.join("early-acks");
    let text = fs::read_to_string(&path).unwrap();
    let (body, _) = text.rsplit_once("crc32c ").unwrap();
    let lines = body.lines().map(|line| match line.strip_prefix("boot ") {
        Some(_) => "boot 00000000-0000-0000-0000-000000000000\n".to_owned(),
        None => format!("{line}\n"),
    });
    let body: String = lines.collect();
    let check = crc32c::crc32c(body.as_bytes());
    fs::write(path, format!("{body}crc32c {check:08x}\n")).unwrap();
}

fn allow(disk: &Disk, log: &Arc<Log>, bound: u64) {
    disk.allow_early_acks(&[(Arc::clone(log), bound)]).unwrap();
}

/// Two records that are durable, and six that are not.
fn begun() -> Fixture {
    let f = Fixture::new();
    allow(&f.disk, &f.log, 10);
    f.append(0, 2);
    f.sync();
    f.disk.flush_durable_points().unwrap();
    for n in 1..4 {
        f.append(n, 2);
    }
    f
}

fn lost(recovered_end: i64, set_aside: bool) -> MayBeLost {
    MayBeLost {
        topic: TOPIC.to_owned(),
        partition: 0,
        recovered_end,
        records_at_most: 9,
        set_aside,
    }
}

#[test]
fn a_hole_above_the_durable_point_is_cut_at_after_a_power_cut_and_the_rest_is_kept() {
    let f = begun();
    let one = f.log.bytes_appended() as usize / 4;
    let whole = fs::read(f.crash().file(0, "log")).unwrap();
    for byte in [8, 16, 17, 30, 100] {
        let crashed = f.crash();
        power_comes_back(&crashed.root);
        flip(&crashed.file(0, "log"), 2 * one + byte);
        let damaged = fs::read(crashed.file(0, "log")).unwrap();
        let (disk, log) = crashed.open();
        assert_eq!(log.health(), Health::Good, "byte {byte}");
        let offsets = log.offsets();
        assert_eq!((offsets.log_end, offsets.durable_end), (4, 4));
        assert_eq!(disk.may_be_lost(), [lost(4, true)]);
        let aside = crashed.root.join(format!("quarantine/{TOPIC}-0"));
        let aside = aside.join(format!("behind-{:020}/{:020}.tail", 4, 4));
        assert_eq!(fs::read(aside).unwrap(), damaged[2 * one..]);
        // It goes on.
        log.begin_epoch(3).unwrap();
        append(&log, batch(9, 2));
        disk.sync().unwrap();
        assert_eq!(bases(&log, 0), [0, 2, 4]);
    }
    // The kernel did not end: what it was given is there, or damaged.
    let crashed = f.crash();
    flip(&crashed.file(0, "log"), 2 * one + 30);
    let (disk, log) = crashed.open();
    assert!(matches!(log.health(), Health::Damaged { .. }));
    assert_eq!(disk.may_be_lost(), []);
    // What was durable is none of this.
    let crashed = f.crash();
    power_comes_back(&crashed.root);
    flip(&crashed.file(0, "log"), 30);
    assert!(matches!(crashed.open().1.health(), Health::Damaged { .. }));
    // Nor is a log that acknowledges nothing early.
    let crashed = f.crash();
    fs::remove_file(crashed.root.join("early-acks")).unwrap();
    fs::write(crashed.file(0, "log"), whole).unwrap();
    flip(&crashed.file(0, "log"), 2 * one + 30);
    assert!(matches!(crashed.open().1.health(), Health::Damaged { .. }));
}

#[test]
fn a_hole_before_later_segments_is_cut_at_and_they_are_kept() {
    let f = Fixture::new();
    allow(&f.disk, &f.log, 1_000);
    for n in 0..60 {
        f.append(n, 2);
    }
    let segments = f.log.segments();
    assert!(segments.len() > 2);
    let crashed = f.crash();
    power_comes_back(&crashed.root);
    // The first segment lacks its end, which was never written.
    let first = OpenOptions::new().write(true).open(crashed.file(0, "log"));
    first.unwrap().set_len(segments[0].bytes - 50).unwrap();
    let (disk, log) = crashed.open();
    assert_eq!(log.health(), Health::Good);
    let end = log.offsets().log_end;
    assert_eq!(end, segments[0].end_offset - 2);
    let kept = crashed
        .root
        .join(format!("quarantine/{TOPIC}-0/behind-{end:020}"));
    for segment in &segments[1..] {
        let name = segment.path.file_name().unwrap();
        let (kept, was) = (kept.join(name), fs::read(&segment.path).unwrap());
        assert_eq!(fs::read(kept).unwrap(), was);
        assert!(!crashed.file(segment.base_offset, "log").exists());
    }
    assert!(disk.may_be_lost()[0].set_aside);
    drop((disk, log));
    // Only once: the next start has nothing to say.
    let (disk, log) = crashed.open();
    assert_eq!((log.health(), log.offsets().log_end), (Health::Good, end));
    assert_eq!(disk.may_be_lost(), []);
}

fn code(log: &Log, epoch: i32, bytes: bytes::Bytes) -> ErrorCode {
    log.append(bytes, AppendContext::new(epoch, 9))
        .map_or_else(|error| error.error_code(), |_| ErrorCode::NONE)
}

/// The producer 7 has written 20 records, and 10 of them are left.
fn holed() -> Crashed {
    let f = Fixture::new();
    allow(&f.disk, &f.log, 100);
    for sequence in 0..10 {
        append(&f.log, produced(7, 0, 2 * sequence, 2));
    }
    let crashed = f.crash();
    power_comes_back(&crashed.root);
    let half = f.log.bytes_appended() / 2;
    let log = OpenOptions::new().write(true).open(crashed.file(0, "log"));
    log.unwrap().set_len(half).unwrap();
    crashed
}

#[test]
fn a_producer_goes_on_over_what_a_power_cut_took_however_often_the_broker_starts() {
    let crashed = holed();
    let (disk, log) = crashed.open();
    assert_eq!(disk.may_be_lost()[0].recovered_end, 10);
    log.begin_epoch(1).unwrap();
    append(&log, batch(50, 3));
    disk.sync().unwrap();
    assert_eq!(log.hole(), Some(10));
    // Nobody has come yet.
    drop((disk, log));
    let (disk, log) = crashed.open();
    assert_eq!(log.hole(), Some(10));
    disk.close().unwrap();
    drop((disk, log));
    let (disk, log) = crashed.open();
    assert_eq!(disk.may_be_lost(), []);
    log.begin_epoch(2).unwrap();
    let refused = ErrorCode::NOT_ENOUGH_REPLICAS;
    assert_eq!(code(&log, 2, produced(7, 0, 20, 2)), refused);
    assert_eq!(code(&log, 2, produced(7, 0, 22, 2)), refused);
    assert_eq!(code(&log, 2, produced(7, 0, 20, 2)), ErrorCode::NONE);
    assert_eq!(code(&log, 2, produced(7, 0, 22, 2)), ErrorCode::NONE);
    // Once.
    let out_of_order = ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER;
    assert_eq!(code(&log, 2, produced(7, 0, 30, 2)), out_of_order);
    // And the records from before the hole are still known.
    let again = log.append(produced(7, 0, 8, 2), AppendContext::new(2, 9));
    assert!(again.is_ok_and(|appended| appended.duplicate));
}

#[test]
fn no_transaction_jumps_over_a_hole() {
    let crashed = holed();
    let (_disk, log) = crashed.open();
    log.begin_epoch(1).unwrap();
    let transactional = |sequence| {
        let builder = BatchBuilder::new(0).producer(7, 0, sequence);
        fill(builder.transactional(true), 1, 1)
    };
    for _ in 0..3 {
        assert_eq!(
            code(&log, 1, transactional(20)),
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
        );
    }
}

#[test]
fn the_hole_sinks_with_a_truncation_and_goes_with_the_log() {
    let crashed = holed();
    let (disk, log) = crashed.open();
    log.begin_epoch(1).unwrap();
    log.truncate(0, 6).unwrap();
    assert_eq!(log.hole(), Some(6));
    drop((disk, log));
    let (disk, log) = crashed.open();
    append(&log, batch(50, 8));
    assert_eq!(log.hole(), Some(6));
    disk.delete(&log).unwrap();
    assert!(!crashed.root.join("early-acks").exists());
}

#[test]
fn a_clean_stop_leaves_nothing_to_be_lost() {
    let f = begun();
    let root = f.root.clone();
    let f = f.reopen();
    assert_eq!((f.log.offsets().log_end, f.log.hole()), (8, None));
    assert_eq!(f.disk.may_be_lost(), []);
    assert!(!root.join("early-acks").exists());
}

#[test]
fn a_kill_loses_nothing_and_reports_nothing() {
    let f = begun();
    let (disk, log) = f.crash().open();
    assert_eq!(log.offsets().log_end, 8);
    assert_eq!(disk.may_be_lost(), []);
}

const BOUND: i64 = 7;
const PRODUCER: i64 = 5;

/// What was acknowledged when power was cut, of the log that is early, and of the other one.
#[derive(Debug, Clone, Default)]
struct Told {
    early: i64,
    synced: i64,
}

/// Acknowledges as a broker does: fewer records than the bound before they are synced.
fn film(camera: &Camera<Told>, disk: &Disk, early: &Log, other: &Log) {
    for n in 0..40 {
        let sequence = i32::try_from(early.offsets().log_end).unwrap();
        let bytes = produced(PRODUCER, 0, sequence, 2);
        early.append(bytes, AppendContext::new(0, n)).unwrap();
        let offsets = early.offsets();
        if offsets.log_end - offsets.durable_end < BOUND {
            camera.promise(|told| told.early = offsets.log_end);
        }
        other.append(batch(n, 1), AppendContext::new(0, n)).unwrap();
        if n % 3 == 2 || offsets.log_end - offsets.durable_end >= BOUND {
            disk.sync().unwrap();
            camera.promise(|told| {
                told.early = early.offsets().durable_end;
                told.synced = other.offsets().durable_end;
            });
        }
        match n {
            9 | 30 => disk.flush_durable_points().unwrap(),
            20 => disk.checkpoint().unwrap(),
            _ => {}
        }
    }
}

/// Returns how many acknowledged records are gone.
fn check(root: &Path, told: &Told, number: usize) -> i64 {
    power_comes_back(root);
    let (disk, logs) = open(root).unwrap();
    for log in &logs {
        assert_eq!(log.health(), Health::Good, "cut {number}: {}", log.name());
        log.begin_epoch(1).unwrap();
    }
    let of = |topic: &str| logs.iter().find(|log| log.topic() == topic).unwrap();
    let (early, other) = (of(TOPIC), of("other"));
    assert!(other.offsets().log_end >= told.synced, "cut {number}");
    let end = early.offsets().log_end;
    let gone = (told.early - end).max(0);
    let reported = disk.may_be_lost();
    assert_eq!((reported.len(), reported[0].recovered_end), (1, end));
    assert!(gone <= reported[0].records_at_most as i64, "cut {number}");
    assert!(gone < BOUND, "cut {number}: {gone}");
    // The producer holds to be acknowledged what it was told, and goes on above.
    let next = i32::try_from(told.early.max(end)).unwrap();
    let mut tries = 0;
    loop {
        let bytes = produced(PRODUCER, 0, next, 2);
        match early.append(bytes, AppendContext::new(1, 9)) {
            Ok(appended) => {
                assert_eq!(appended.base_offset, end, "cut {number}");
                break;
            }
            Err(error) => assert_eq!(error.error_code(), ErrorCode::NOT_ENOUGH_REPLICAS),
        }
        tries += 1;
        assert!(tries < 2, "cut {number}");
    }
    disk.sync().unwrap();
    gone
}

#[test]
fn a_power_cut_takes_fewer_acknowledged_records_than_the_bound_and_none_of_another_log() {
    let studio = match Studio::new() {
        Ok(studio) => studio,
        Err(why) => return eprintln!("{}", passed_over(why)),
    };
    let (disk, _) = open(&studio.root()).unwrap();
    let made = [(TOPIC, 1), ("other", 2)].map(|(topic, id)| {
        let log = disk.create(topic, Uuid::from_u128(id), 0, small_segments());
        let log = log.unwrap();
        log.begin_epoch(0).unwrap();
        log
    });
    let [early, other] = &made;
    allow(&disk, early, BOUND.unsigned_abs());
    disk.sync().unwrap();
    let (camera, watch) = studio.camera();
    film(&camera, &disk, early, other);
    drop(watch);
    drop((disk, made));
    let gone = parking_lot::Mutex::new(0);
    let shots = studio.develop(&camera, |root, told, number| {
        *gone.lock() += check(root, told, number);
    });
    let gone = gone.into_inner();
    assert!(shots > 25 && gone > 0, "{shots} cuts took {gone}");
}
