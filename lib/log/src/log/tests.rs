use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use uuid::Uuid;
use whimbrel_wire::BatchBuilder;

use crate::calls::{Call, Watch, Watcher, watch};
use crate::durable_points::{self, Point};
use crate::error::AppendError;
use crate::{AppendContext, Disk, DiskOptions, Log, LogConfig};

fn batch() -> bytes::Bytes {
    let mut builder = BatchBuilder::new(0);
    builder.add(1, None, Some(b"value"), &[]).unwrap();
    builder.finish().unwrap()
}

fn disk(root: &Path) -> (Arc<Disk>, Arc<Log>) {
    let options = DiskOptions {
        root: root.to_owned(),
        cluster_id: "fleet".to_owned(),
        node_id: 1,
    };
    let (disk, _) = Disk::open(options, 1).unwrap();
    let log = disk
        .create("t", Uuid::from_u128(1), 0, LogConfig::default())
        .unwrap();
    (disk, log)
}

#[test]
fn a_full_disk_refuses_cleanly_and_appends_work_again_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, log) = disk(dir.path());
    let context = AppendContext::new(0, 1);
    log.append(batch(), context).unwrap();
    disk.sync().unwrap();
    // Writes to /dev/full fail as those to a full disk do.
    let active = log.active();
    let (path, aside) = (active.path().to_owned(), dir.path().join("aside"));
    fs::rename(&path, &aside).unwrap();
    symlink("/dev/full", &path).unwrap();
    active.close_file();
    let before = log.offsets();
    for _ in 0..3 {
        let error = log.append(batch(), context).unwrap_err();
        assert!(matches!(error, AppendError::DiskFull { .. }), "{error}");
        assert!(error.is_retryable());
        assert_eq!(log.offsets(), before);
    }
    fs::rename(&aside, &path).unwrap();
    active.close_file();
    assert_eq!(log.append(batch(), context).unwrap().base_offset, 1);
    disk.sync().unwrap();
    assert_eq!(log.read(0, 1000, true, 2).unwrap().next_offset, 2);
}

#[test]
fn after_a_failed_write_nothing_is_promised_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, log) = disk(dir.path());
    let context = AppendContext::new(0, 1);
    log.append(batch(), context).unwrap();
    let active = log.active();
    fs::rename(active.path(), dir.path().join("aside")).unwrap();
    fs::create_dir(active.path()).unwrap();
    active.close_file();
    assert!(matches!(
        log.append(batch(), context),
        Err(AppendError::DiskFailed(_))
    ));
    assert!(disk.sync().is_err());
    assert!(disk.failed().is_some());
    assert_eq!(log.offsets().durable_end, 0);
    assert!(matches!(
        log.append(batch(), context),
        Err(AppendError::DiskFailed(_))
    ));
    assert!(
        disk.create("u", Uuid::nil(), 0, LogConfig::default())
            .is_err()
    );
}

/// Looks on when a file is removed.
struct Removals<F>(F);

impl<F> std::fmt::Debug for Removals<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Removals")
    }
}

impl<F: Fn() + Send + Sync> Watcher for Removals<F> {
    fn before(&self, call: Call, path: &Path) -> io::Result<()> {
        if call == Call::Remove && path.extension().is_some_and(|suffix| suffix == "log") {
            (self.0)();
        }
        Ok(())
    }
}

fn on_removal(root: &Path, act: impl Fn() + Send + Sync + 'static) -> Watch {
    watch(root, Arc::new(Removals(act)))
}

/// A log of three segments, nine records, of which the last three are not synced yet.
fn three_segments(root: &Path) -> (Arc<Disk>, Arc<Log>) {
    let (disk, log) = disk(root);
    let context = AppendContext::new(0, 1);
    for segment in 0..3 {
        for _ in 0..3 {
            log.append(batch(), context).unwrap();
        }
        if segment < 2 {
            log.roll().unwrap();
            disk.sync().unwrap();
        }
    }
    disk.flush_durable_points().unwrap();
    (disk, log)
}

/// What the sidecar says once it is written.
fn stored(disk: &Disk, log: &Log) -> Point {
    disk.flush_durable_points().unwrap();
    durable_points::read(&log.shared.root).unwrap().unwrap()[&log.key()]
}

fn meanwhile(log: &Log, act: impl FnOnce() + Send + 'static) {
    log.shared.before_points.set(act);
}

#[test]
fn a_log_start_that_moves_while_a_sync_ends_stays_stored() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, log) = three_segments(dir.path());
    // The sync's first look at the points is to write them, the second to note what it made durable.
    let (within, other) = (Arc::clone(&log), Arc::clone(&log));
    meanwhile(&log, move || {
        meanwhile(&within, move || {
            other.set_log_start(4).unwrap();
        });
    });
    log.shared.note_time(1_000);
    disk.sync().unwrap();
    assert_eq!(log.offsets().log_start, 4);
    let stored = stored(&disk, &log);
    assert_eq!((stored.log_start, stored.durable_end), (Some(4), 9));
}

#[test]
fn a_sync_that_ends_while_the_log_start_moves_stays_stored() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, log) = three_segments(dir.path());
    let syncing = Arc::clone(&disk);
    meanwhile(&log, move || {
        syncing.sync().unwrap();
    });
    log.set_log_start(4).unwrap();
    assert_eq!(log.offsets().durable_end, 9);
    let stored = stored(&disk, &log);
    assert_eq!((stored.log_start, stored.durable_end), (Some(4), 9));
}

#[test]
fn a_sync_while_a_log_is_emptied_promises_nothing_of_before() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, log) = three_segments(dir.path());
    let promised = Arc::new(Mutex::new(Vec::new()));
    let (seen, syncing, emptied) = (Arc::clone(&promised), Arc::clone(&disk), Arc::clone(&log));
    let watching = on_removal(dir.path(), move || {
        syncing.sync().unwrap();
        seen.lock().push(stored(&syncing, &emptied).durable_end);
    });
    log.reset(20).unwrap();
    drop(watching);
    assert_eq!(*promised.lock(), [0, 0, 0]);
    disk.sync().unwrap();
    assert_eq!(stored(&disk, &log).durable_end, 20);
}

#[test]
fn a_sync_that_ends_while_its_log_is_deleted_promises_nothing_to_the_next_of_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, log) = three_segments(dir.path());
    let (within, deleting, gone) = (Arc::clone(&log), Arc::clone(&disk), Arc::clone(&log));
    meanwhile(&log, move || {
        meanwhile(&within, move || deleting.delete(&gone).unwrap());
    });
    log.shared.note_time(1_000);
    disk.sync().unwrap();
    disk.flush_durable_points().unwrap();
    let points = durable_points::read(dir.path()).unwrap().unwrap();
    assert!(!points.contains_key(&log.key()));
}

/// Who may see little of what was read, below an open transaction for example, is not to hold the rest.
#[test]
fn a_read_keeps_no_more_than_it_gives() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, log) = disk(dir.path());
    let context = AppendContext::new(0, 1);
    for _ in 0..1_000 {
        log.append(batch(), context).unwrap();
    }
    disk.sync().unwrap();
    let records = log.read(0, 1 << 20, true, 1).unwrap().records;
    assert_eq!(records.len(), batch().len());
    let held = records.try_into_mut().unwrap().capacity();
    assert!(held <= 2 * batch().len() + 1, "{held} bytes");
}
