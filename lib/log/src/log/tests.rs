use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use uuid::Uuid;
use whimbrel_wire::BatchBuilder;

use crate::error::AppendError;
use crate::{AppendContext, Disk, DiskOptions, Log, LogConfig};

fn batch() -> bytes::Bytes {
    let mut builder = BatchBuilder::new(0);
    builder.add(1, None, Some(b"value"), &[]).unwrap();
    builder.finish().unwrap()
}

fn disk(root: &std::path::Path) -> (Arc<Disk>, Arc<Log>) {
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
