//! Calls to the disk that fail: a sync with EIO, anything that needs room with ENOSPC, each at every
//! place of a workload.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use whimbrel_log::calls::{Call, Watcher, watch};
use whimbrel_log::{AppendContext, AppendError, Disk, Health, Log, LogError};
use whimbrel_wire::ErrorCode;
use whimbrel_wire::control::{ControlType, Marker, MarkerBatch};

use crate::support::{
    Crashed, ID, TOPIC, batch, fill, open, produced, quick_dir, read_all, small_segments,
};

/// Fails calls of a kind from the `first` on, until it is told to stop.
#[derive(Debug)]
pub struct Failing {
    hits: fn(Call) -> bool,
    errno: i32,
    first: usize,
    /// How many.
    count: usize,
    seen: AtomicUsize,
    on: AtomicBool,
}

impl Failing {
    fn new(hits: fn(Call) -> bool, errno: i32, first: usize) -> Arc<Failing> {
        Failing::some(hits, errno, first, usize::MAX)
    }

    pub fn some(hits: fn(Call) -> bool, errno: i32, first: usize, count: usize) -> Arc<Failing> {
        Arc::new(Failing {
            hits,
            errno,
            first,
            count,
            seen: AtomicUsize::new(0),
            on: AtomicBool::new(true),
        })
    }

    pub fn stop(&self) {
        self.on.store(false, Ordering::SeqCst);
    }

    pub fn has_failed(&self) -> bool {
        self.seen.load(Ordering::SeqCst) > self.first
    }
}

impl Watcher for Failing {
    fn before(&self, call: Call, _path: &Path) -> io::Result<()> {
        if !(self.hits)(call) || !self.on.load(Ordering::SeqCst) {
            return Ok(());
        }
        let seen = self.seen.fetch_add(1, Ordering::SeqCst);
        if seen >= self.first && seen - self.first < self.count {
            return Err(io::Error::from_raw_os_error(self.errno));
        }
        Ok(())
    }
}

pub const EIO: i32 = 5;
pub const ENOSPC: i32 = 28;

/// What the log has taken, and how much of it is acknowledged.
#[derive(Default)]
struct Taken {
    bytes: Vec<u8>,
    acked: usize,
    acked_end: i64,
}

pub fn abort(at: i64) -> bytes::Bytes {
    let marker = MarkerBatch {
        base_offset: at,
        leader_epoch: 1,
        timestamp_ms: 7,
        producer_id: 8,
        producer_epoch: 0,
        marker: Marker {
            control_type: ControlType::Abort,
            coordinator_epoch: 0,
        },
    };
    marker.build().unwrap()
}

/// Appends, rolls, epochs, markers, checkpoints and retention; each step's failure is handed to `failed`.
fn work(
    disk: &Disk,
    log: &Log,
    taken: &mut Taken,
    mut failed: impl FnMut(&dyn std::error::Error, Option<ErrorCode>),
) {
    let mut epoch = 0;
    for n in 0..24_i64 {
        if n % 8 == 1 {
            match log.begin_epoch(epoch + 1) {
                Ok(()) => epoch += 1,
                Err(error) => failed(&error, None),
            }
        }
        let bytes = match n % 6 {
            4 => fill(
                whimbrel_wire::BatchBuilder::new(0)
                    .producer(8, 0, i32::try_from(n / 6).unwrap() * 2)
                    .transactional(true),
                n,
                2,
            ),
            5 => abort(0),
            3 => produced(4, 0, i32::try_from(n / 6).unwrap() * 3, 3),
            _ => batch(n, 3),
        };
        match log.append(bytes, AppendContext::new(epoch, 1000 * n)) {
            Ok(done) if !done.duplicate => {
                let slice = log.read(done.base_offset, 1 << 20, true, done.last_offset + 1);
                taken.bytes.extend_from_slice(&slice.unwrap().records);
            }
            Ok(_) => {}
            Err(error) => failed(&error, Some(error.error_code())),
        }
        match disk.sync() {
            Ok(_) => {
                (taken.acked, taken.acked_end) = (taken.bytes.len(), log.offsets().durable_end)
            }
            Err(error) => failed(&error, None),
        }
        if n % 5 == 4
            && let Err(error) = disk.checkpoint()
        {
            failed(&error, None);
        }
        if n % 7 == 6
            && let Err(error) = disk.flush_durable_points()
        {
            failed(&error, None);
        }
        if n == 17
            && let Err(error) = log.set_log_start(log.offsets().durable_end / 2)
        {
            failed(&error, None);
        }
    }
}

fn begun(root: &Path) -> (Arc<Disk>, Arc<Log>) {
    let (disk, _) = open(root).unwrap();
    let log = disk.create(TOPIC, ID, 0, small_segments()).unwrap();
    log.begin_epoch(0).unwrap();
    disk.sync().unwrap();
    (disk, log)
}

/// All that was acknowledged is in the log, or the log says that it is damaged.
fn check_acked(root: &Path, taken: &Taken, context: &str) {
    let crashed = Crashed::copy_of(root);
    let (_disk, log) = crashed.open();
    let offsets = log.offsets();
    assert_eq!(log.health(), Health::Good, "{context}");
    assert!(offsets.log_end >= taken.acked_end, "{context}: {offsets:?}");
    let local = log.segments()[0].base_offset;
    let kept = read_all(&log, local.max(offsets.log_start));
    let acked = &taken.bytes[..taken.acked];
    let upto = taken.bytes.len().min(acked.len());
    // What is there begins somewhere in what was taken and reaches over all that was acknowledged.
    let found = (0..=upto).rev().any(|from| {
        let rest = &taken.bytes[from..upto];
        kept.len() >= rest.len() && kept.starts_with(rest) && (from == 0 || offsets.log_start > 0)
    });
    assert!(found, "{context}: acknowledged records are missing");
}

#[test]
fn a_sync_that_fails_ends_all_acknowledgements_at_every_place() {
    for first in 0.. {
        let dir = quick_dir();
        let root = dir.path().join("data");
        let (disk, log) = begun(&root);
        let failing = Failing::new(|call| call == Call::Sync, EIO, first);
        let watch = watch(&root, failing.clone());
        let mut taken = Taken::default();
        let mut after = None;
        let (mut acked, mut failures) = (0, 0);
        work(&disk, &log, &mut taken, |error, _| {
            failures += 1;
            // The first failure is the disk's, and so is every one after it.
            assert!(disk.failed().is_some(), "{error}");
            after.get_or_insert_with(|| log.offsets().durable_end);
        });
        if !failing.has_failed() {
            assert!(first > 40 && failures == 0, "{first} {failures}");
            break;
        }
        // The disk is well again, but what it forgot stays forgotten.
        failing.stop();
        assert!(disk.failed().unwrap().reason.contains("sync"), "{first}");
        assert_eq!(log.offsets().durable_end, after.unwrap(), "{first}");
        assert!(disk.sync().is_err() && disk.checkpoint().is_err());
        let refused = log.append(batch(99, 1), AppendContext::new(9, 1));
        assert!(
            matches!(refused, Err(AppendError::DiskFailed(_))),
            "{first}"
        );
        assert!(matches!(log.begin_epoch(99), Err(LogError::DiskFailed(_))));
        acked += taken.acked;
        assert!(acked <= taken.bytes.len());
        drop(watch);
        drop((disk, log));
        check_acked(&root, &taken, &format!("sync {first}"));
    }
}

/// EIO of any call, once or from then on: what was acknowledged before and after it is there at the next start,
/// whether the disk went on or ended.
fn an_io_error_at_every_place(count: usize) {
    for first in 0.. {
        let dir = quick_dir();
        let root = dir.path().join("data");
        let (disk, log) = begun(&root);
        let failing = Failing::some(|_| true, EIO, first, count);
        let watch = watch(&root, failing.clone());
        let mut taken = Taken::default();
        let mut failures = 0;
        work(&disk, &log, &mut taken, |_, _| failures += 1);
        if !failing.has_failed() {
            assert!(first > 100 && failures == 0, "{first} {failures}");
            break;
        }
        failing.stop();
        let context = format!("call {first}, {count} fail, {:?}", disk.failed());
        // As the kernel has it, in case there is no orderly end; and after one.
        check_acked(&root, &taken, &context);
        let ended = disk.close();
        assert!(ended.is_ok() || disk.failed().is_some(), "{context}");
        drop(watch);
        drop((disk, log));
        check_acked(&root, &taken, &context);
    }
}

#[test]
fn an_io_error_of_any_one_call_loses_nothing_acknowledged() {
    an_io_error_at_every_place(1);
}

#[test]
fn io_errors_from_any_call_on_lose_nothing_acknowledged() {
    an_io_error_at_every_place(usize::MAX);
}

#[test]
fn a_full_disk_refuses_and_recovers_at_every_place() {
    for first in 0.. {
        let dir = quick_dir();
        let root = dir.path().join("data");
        let (disk, log) = begun(&root);
        let failing = Failing::new(Call::takes_space, ENOSPC, first);
        let watch = watch(&root, failing.clone());
        let mut taken = Taken::default();
        work(&disk, &log, &mut taken, |error, code| {
            assert!(
                disk.failed().is_none(),
                "{first}: {error} {:?}",
                disk.failed()
            );
            if let Some(code) = code {
                // The sequences and epochs of what was refused before are missing afterwards.
                let refused = [
                    ErrorCode::KAFKA_STORAGE_ERROR,
                    ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
                ];
                assert!(refused.contains(&code), "{first}: {error}");
            }
            // Reads go on.
            let offsets = log.offsets();
            let all = read_all(&log, offsets.log_start);
            assert!(all.len() >= 61 || offsets.log_end == offsets.log_start);
        });
        if !failing.has_failed() {
            assert!(first > 40, "{first}");
            break;
        }
        // Room again: nothing has to be started anew.
        failing.stop();
        let epoch = log.lineage().last().unwrap().epoch + 1;
        log.begin_epoch(epoch).unwrap();
        let done = log
            .append(batch(500, 2), AppendContext::new(epoch, 99))
            .unwrap();
        let slice = log.read(done.base_offset, 1 << 20, true, done.last_offset + 1);
        taken.bytes.extend_from_slice(&slice.unwrap().records);
        disk.sync().unwrap();
        disk.checkpoint().unwrap();
        (taken.acked, taken.acked_end) = (taken.bytes.len(), log.offsets().durable_end);
        assert_eq!(taken.acked_end, done.last_offset + 1);
        let aborted = log.aborted(0, i64::MAX).unwrap();
        drop(watch);
        check_acked(&root, &taken, &format!("write {first}"));
        let crashed = Crashed::copy_of(&root);
        let (_disk, back) = crashed.open();
        assert_eq!(back.aborted(0, i64::MAX).unwrap(), aborted, "{first}");
        assert_eq!(back.producers(), log.producers(), "{first}");
        disk.close().unwrap();
    }
}

#[test]
fn a_disk_with_less_room_than_its_reserve_says_so_until_there_is_more() {
    let dir = quick_dir();
    let (disk, log) = begun(&dir.path().join("data"));
    assert!(!disk.is_short());
    disk.set_reserve(u64::MAX);
    assert!(disk.is_short());
    // What the house itself writes goes on.
    log.append(batch(0, 1), AppendContext::new(0, 1)).unwrap();
    disk.sync().unwrap();
    assert!(disk.is_short());
    disk.set_reserve(disk.free_bytes().unwrap() / 4);
    assert!(!disk.is_short());
}
