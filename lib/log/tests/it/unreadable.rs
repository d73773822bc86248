//! Reads that the disk does not give (EIO), each at every place: of records, of indexes, of a recovery, of a cleaning.
//! Nothing is concluded from them, and the next read is served.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use uuid::Uuid;
use whimbrel_log::calls::{Call, Watch, Watcher, watch};
use whimbrel_log::{
    AppendContext, CleanError, Disk, Health, Log, LogError, OpenError, ProducerState, ReadError,
};
use whimbrel_wire::control::{ControlType, Marker, MarkerBatch};
use whimbrel_wire::{BatchBuilder, ErrorCode};

use crate::compaction::{self, Free};
use crate::support::{
    Crashed, ID, TOPIC, batch, fill, open, produced, quick_dir, read_all, small_segments,
};

const OTHER: &str = "other";

/// Fails `count` reads from the `first` on.
#[derive(Debug)]
struct Unreadable {
    first: usize,
    count: usize,
    seen: AtomicUsize,
    on: AtomicBool,
    failed: Mutex<Vec<PathBuf>>,
}

impl Unreadable {
    fn under(root: &Path, first: usize, count: usize) -> (Arc<Unreadable>, Watch) {
        let unreadable = Arc::new(Unreadable {
            first,
            count,
            seen: AtomicUsize::new(0),
            on: AtomicBool::new(true),
            failed: Mutex::default(),
        });
        (unreadable.clone(), watch(root, unreadable))
    }

    fn off(&self) -> Vec<PathBuf> {
        self.on.store(false, Ordering::SeqCst);
        self.failed.lock().clone()
    }
}

impl Watcher for Unreadable {
    fn before(&self, _call: Call, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn before_read(&self, path: &Path) -> io::Result<()> {
        if !self.on.load(Ordering::SeqCst) {
            return Ok(());
        }
        let seen = self.seen.fetch_add(1, Ordering::SeqCst);
        if seen >= self.first && seen - self.first < self.count {
            self.failed.lock().push(path.to_owned());
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(())
    }
}

fn abort(producer_id: i64) -> bytes::Bytes {
    let marker = Marker {
        control_type: ControlType::Abort,
        coordinator_epoch: 0,
    };
    let marker = MarkerBatch {
        base_offset: 0,
        leader_epoch: 0,
        timestamp_ms: 7,
        producer_id,
        producer_epoch: 0,
        marker,
    };
    marker.build().unwrap()
}

/// Two logs with epochs, producers, aborted transactions, checkpoints and points. The end of one is not synced.
fn written(root: &Path) -> (Arc<Disk>, Arc<Log>) {
    let (disk, _) = open(root).unwrap();
    let other = disk
        .create(OTHER, Uuid::from_u128(9), 0, small_segments())
        .unwrap();
    let log = disk.create(TOPIC, ID, 0, small_segments()).unwrap();
    for log in [&log, &other] {
        log.begin_epoch(0).unwrap();
    }
    let mut epoch = 0;
    for n in 0..28_i64 {
        let sequence = i32::try_from(n / 4).unwrap();
        if n % 12 == 7 {
            epoch += 1;
            log.begin_epoch(epoch).unwrap();
        }
        let bytes = match n % 4 {
            0 => batch(n, 3),
            1 => produced(4, 0, 3 * sequence, 3),
            2 => {
                let builder = BatchBuilder::new(0).producer(8, 0, 2 * sequence);
                fill(builder.transactional(true), n, 2)
            }
            _ => abort(8),
        };
        log.append(bytes, AppendContext::new(epoch, 1000 * n))
            .unwrap();
        if n % 3 == 0 {
            let bytes = produced(5, 0, i32::try_from(n / 3).unwrap(), 1);
            other.append(bytes, AppendContext::new(0, n)).unwrap();
        }
        if n < 26 {
            disk.sync().unwrap();
        }
        match n {
            9 | 19 => disk.checkpoint().unwrap(),
            12 | 23 => disk.flush_durable_points().unwrap(),
            _ => {}
        }
    }
    (disk, log)
}

/// All that a log says.
#[derive(Debug, PartialEq)]
struct Told {
    log_start: i64,
    end: i64,
    /// Length and checksum.
    records: (usize, u32),
    lineage: Vec<(i32, i64)>,
    producers: Vec<ProducerState>,
    aborted: Vec<whimbrel_log::AbortedTxn>,
}

fn told(log: &Log) -> Told {
    let offsets = log.offsets();
    let lineage = log.lineage();
    let records = read_all(log, offsets.local_log_start);
    Told {
        log_start: offsets.log_start,
        end: offsets.log_end,
        records: (records.len(), crc32c::crc32c(&records)),
        lineage: lineage.iter().map(|e| (e.epoch, e.start_offset)).collect(),
        producers: log.producers(),
        aborted: log.aborted(0, i64::MAX).unwrap(),
    }
}

fn named<'a>(logs: &'a [Arc<Log>], topic: &str) -> &'a Arc<Log> {
    logs.iter().find(|log| log.topic() == topic).unwrap()
}

/// A crash that left half a batch behind, and a stop in order.
fn stopped() -> [Crashed; 2] {
    let dir = quick_dir();
    let root = dir.path().join("data");
    let (disk, log) = written(&root);
    let torn = Crashed::copy_of(&root);
    let active = torn.file(log.segments().last().unwrap().base_offset, "log");
    let mut bytes = std::fs::read(&active).unwrap();
    bytes.truncate(bytes.len() - 10);
    std::fs::write(&active, bytes).unwrap();
    disk.close().unwrap();
    drop((disk, log));
    [torn, Crashed::copy_of(&root)]
}

#[test]
fn a_recovery_that_cannot_read_refuses_the_log_and_changes_nothing_of_it() {
    for (stop, place) in stopped().iter().enumerate() {
        let whole = Crashed::copy_of(&place.root);
        let (disk, logs) = open(&whole.root).unwrap();
        assert!(logs.iter().all(|log| log.health() == Health::Good));
        let want = [TOPIC, OTHER].map(|topic| told(named(&logs, topic)));
        drop((disk, logs));
        for count in [1, usize::MAX].into_iter().skip(stop) {
            let mut refused = 0;
            for first in 0.. {
                let place = Crashed::copy_of(&place.root);
                let context = format!("stop {stop}, {count} from {first}");
                let (unreadable, watch) = Unreadable::under(&place.root, first, count);
                let opened = open(&place.root);
                let failed = unreadable.off();
                let Some(first_failed) = failed.first() else {
                    assert!(first > 30 && refused > 20, "{context}: {refused}");
                    break;
                };
                refused += usize::from(opened.is_ok());
                match opened {
                    Ok((disk, logs)) => refuses(&disk, &logs, &failed, first, &context),
                    // What the disk's own files say is about all logs.
                    Err(OpenError::Io { .. }) => {
                        let within = first_failed.strip_prefix(&place.root).unwrap();
                        assert!(within.components().count() <= 1, "{context}: {within:?}");
                    }
                    Err(error) => panic!("{context}: {error}"),
                }
                drop(watch);
                let (_disk, logs) = open(&place.root).unwrap();
                for (topic, want) in [TOPIC, OTHER].iter().zip(&want) {
                    let log = named(&logs, topic);
                    assert_eq!(log.health(), Health::Good, "{context} {topic}: {failed:?}");
                    assert_eq!(&told(log), want, "{context} {topic}: {failed:?}");
                }
            }
        }
    }
}

/// The logs that could not be read are the ones that are refused, and the disk goes on with the others.
fn refuses(disk: &Disk, logs: &[Arc<Log>], failed: &[PathBuf], first: usize, context: &str) {
    assert_eq!(logs.len(), 2, "{context}");
    for log in logs {
        let dir = log.name();
        let of_it = |path: &PathBuf| path.components().any(|part| part.as_os_str() == &*dir);
        if !failed.iter().any(of_it) {
            assert_eq!(log.health(), Health::Good, "{context} {dir}: {failed:?}");
            continue;
        }
        let Health::Damaged { reason } = log.health() else {
            panic!("{context}: {dir} is taken for whole although {failed:?} could not be read");
        };
        assert!(
            reason.contains("cannot be read") && log.is_unread(),
            "{reason}"
        );
        let refusal = log.append(batch(1, 1), AppendContext::new(9, 1));
        assert_eq!(
            refusal.unwrap_err().error_code(),
            ErrorCode::KAFKA_STORAGE_ERROR
        );
        assert!(matches!(log.begin_epoch(9), Err(LogError::Damaged { .. })));
        assert!(matches!(log.reset(1000), Err(LogError::Damaged { .. })));
    }
    disk.sync().unwrap();
    disk.checkpoint().unwrap();
    disk.flush_durable_points().unwrap();
    if first.is_multiple_of(2) {
        disk.close().unwrap();
    }
}

#[test]
fn an_unread_log_can_be_set_aside_and_filled_again() {
    let [torn, _] = stopped();
    let first = torn.file(0, "log");
    let bytes = std::fs::read(&first).unwrap();
    let (unreadable, watch) = Unreadable::under(&torn.root.join("t-0"), 0, usize::MAX);
    let (disk, logs) = open(&torn.root).unwrap();
    let log = named(&logs, TOPIC);
    // The names cannot be read either.
    assert!(log.set_aside_damage().is_err());
    assert!(log.is_unread() && disk.failed().is_none());
    unreadable.off();
    drop(watch);
    let done = log.set_aside_damage().unwrap();
    assert!(done.from > 0 && done.to == 0, "{done:?}");
    assert_eq!(log.health(), Health::Good);
    let kept = torn.root.join("quarantine/t-0/00000000000000000000.log");
    assert_eq!(std::fs::read(kept).unwrap(), bytes);
    let again = bytes::Bytes::from(bytes);
    log.append_replica(again.clone(), 1).unwrap();
    disk.sync().unwrap();
    assert_eq!(read_all(log, 0), again);
}

#[derive(Debug, PartialEq)]
enum Answer {
    Records(Vec<u8>),
    Said(String),
}

impl Answer {
    /// Fewer batches are an answer too, as long as there are some.
    fn agrees(&self, want: &Answer) -> bool {
        match (self, want) {
            (Answer::Records(got), Answer::Records(want)) => {
                want.starts_with(got) && got.is_empty() == want.is_empty()
            }
            (got, want) => got == want,
        }
    }
}

fn said<T: std::fmt::Debug>(found: T) -> Answer {
    Answer::Said(format!("{found:?}"))
}

/// Every question a reader may have.
fn answers(log: &Log) -> Vec<Result<Answer, ReadError>> {
    let offsets = log.offsets();
    let mut all = Vec::new();
    for from in offsets.local_log_start..offsets.log_end {
        let slice = log.read(from, 700, true, offsets.log_end);
        all.push(slice.map(|slice| Answer::Records(slice.records.to_vec())));
        if from % 5 == 0 {
            all.push(log.aborted(from, from + 5).map(said));
            all.push(log.offset_for_timestamp(1000 * from).map(said));
        }
    }
    all.push(log.max_timestamp().map(said));
    all
}

#[test]
fn a_read_that_fails_is_an_error_and_no_damaged_answer_and_the_next_is_served() {
    let [_, closed] = stopped();
    let want: Vec<_> = {
        let whole = Crashed::copy_of(&closed.root);
        let (_disk, logs) = open(&whole.root).unwrap();
        let all = answers(named(&logs, TOPIC)).into_iter();
        all.map(Result::unwrap).collect()
    };
    let (disk, logs) = open(&closed.root).unwrap();
    let log = named(&logs, TOPIC);
    let mut refused = 0;
    for first in 0.. {
        let (unreadable, watch) = Unreadable::under(&closed.root, first, 1 + first % 3);
        let got = answers(log);
        if unreadable.off().is_empty() {
            break;
        }
        drop(watch);
        for (answer, want) in got.into_iter().zip(&want) {
            match answer {
                Ok(answer) => assert!(answer.agrees(want), "{first}: {answer:?} {want:?}"),
                Err(error) => {
                    refused += 1;
                    assert!(error.is_retryable(), "{first}: {error}");
                    assert_eq!(error.error_code(), ErrorCode::KAFKA_STORAGE_ERROR);
                }
            }
        }
        assert_eq!(
            (log.health(), disk.failed().is_none()),
            (Health::Good, true)
        );
    }
    assert!(refused > 100, "{refused}");
    let after: Vec<_> = answers(log).into_iter().map(Result::unwrap).collect();
    assert_eq!(after, want);
}

#[test]
fn what_is_appended_while_nothing_can_be_read_is_there_afterwards() {
    let [_, closed] = stopped();
    let (disk, logs) = open(&closed.root).unwrap();
    let log = named(&logs, TOPIC);
    log.set_config(small_segments());
    let from = log.offsets().log_end;
    let (unreadable, watch) = Unreadable::under(&closed.root, 0, usize::MAX);
    let epoch = log.lineage().last().unwrap().epoch;
    // Over the edge of several segments.
    for n in 0..60 {
        log.append(batch(n, 3), AppendContext::new(epoch, n))
            .unwrap();
        disk.sync().unwrap();
    }
    disk.checkpoint().unwrap();
    assert!(log.read(from, 1 << 20, true, i64::MAX).is_err());
    unreadable.off();
    drop(watch);
    let acked = read_all(log, from);
    let crashed = Crashed::copy_of(&closed.root);
    let (_disk, logs) = open(&crashed.root).unwrap();
    assert_eq!(named(&logs, TOPIC).offsets().log_end, from + 180);
    assert_eq!(read_all(named(&logs, TOPIC), from), acked);
}

#[test]
fn a_cleaning_that_cannot_read_leaves_the_log_whole_and_is_done_later() {
    let mut refused = 0;
    for first in 0.. {
        let model = compaction::dirty();
        let (unreadable, watch) = Unreadable::under(&model.place.root, first, 1);
        let done = model.log.clean(compaction::ALL, 10, &mut Free);
        if unreadable.off().is_empty() {
            assert!(done.is_ok() && refused > 20, "{first} {refused}");
            break;
        }
        drop(watch);
        let context = format!("read {first}: {done:?}");
        match done {
            Ok(_) => {}
            // The names had changed already; the next start ends it.
            Err(CleanError::DiskFailed(_)) => {
                let crashed = Crashed::copy_of(&model.place.root);
                let (_disk, log) = crashed.open();
                assert_eq!(log.health(), Health::Good, "{context}");
                model.holds(&log, &context);
                continue;
            }
            Err(error) => {
                refused += 1;
                assert!(error.is_unreadable() && error.is_retryable(), "{context}");
                model.holds(&model.log, &context);
            }
        }
        model.log.clean(compaction::ALL, 10, &mut Free).unwrap();
        model.holds(&model.log, &context);
    }
}
