//! Batches, disks, and crashes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tempfile::TempDir;
use uuid::Uuid;
use whimbrel_log::calls::{Call, Watcher, watch};
use whimbrel_log::{AppendContext, Appended, Disk, DiskOptions, Log, LogConfig, OpenError};
use whimbrel_wire::{BatchBuilder, Batches};

pub const TOPIC: &str = "t";
pub const ID: Uuid = Uuid::from_u128(0x1234);

/// Records of about 100 bytes, timestamps `1000 * first + n`.
pub fn batch(first: i64, count: usize) -> Bytes {
    fill(BatchBuilder::new(0), first, count)
}

pub fn produced(pid: i64, epoch: i16, sequence: i32, count: usize) -> Bytes {
    fill(
        BatchBuilder::new(0).producer(pid, epoch, sequence),
        i64::from(sequence),
        count,
    )
}

pub fn fill(mut builder: BatchBuilder, first: i64, count: usize) -> Bytes {
    for n in 0..count {
        let value = format!("{first:020}-{n:079}");
        builder
            .add(1000 * first + n as i64, None, Some(value.as_bytes()), &[])
            .unwrap();
    }
    builder.finish().unwrap()
}

pub fn options(root: &Path) -> DiskOptions {
    DiskOptions {
        root: root.to_owned(),
        cluster_id: "fleet".to_owned(),
        node_id: 1,
    }
}

/// A child that another test forks holds our locks until it runs its own program: that is waited for.
pub fn open(root: &Path) -> Result<(Arc<Disk>, Vec<Arc<Log>>), OpenError> {
    for _ in 0..5_000 {
        match Disk::open(options(root), 1) {
            Err(OpenError::Locked { .. }) => {
                std::thread::park_timeout(std::time::Duration::from_millis(1));
            }
            other => return other,
        }
    }
    panic!("{} stays locked", root.display());
}

pub fn small_segments() -> LogConfig {
    LogConfig {
        segment_bytes: 4096,
        index_interval_bytes: 300,
        ..LogConfig::default()
    }
}

/// A disk with one log of small segments in epoch 0.
pub struct Fixture {
    pub root: PathBuf,
    pub disk: Arc<Disk>,
    pub log: Arc<Log>,
    _dir: TempDir,
}

impl Fixture {
    pub fn new() -> Self {
        Fixture::with(small_segments())
    }

    pub fn with(config: LogConfig) -> Self {
        Fixture::in_dir(tempfile::tempdir().unwrap(), config)
    }

    pub fn in_dir(dir: TempDir, config: LogConfig) -> Self {
        let root = dir.path().join("data");
        let (disk, logs) = open(&root).unwrap();
        assert!(logs.is_empty());
        let log = disk.create(TOPIC, ID, 0, config).unwrap();
        log.begin_epoch(0).unwrap();
        Fixture {
            root,
            disk,
            log,
            _dir: dir,
        }
    }

    pub fn append(&self, first: i64, count: usize) -> Appended {
        append(&self.log, batch(first, count))
    }

    pub fn sync(&self) {
        self.disk.sync().unwrap();
    }

    /// What a `kill -9` at this moment would leave: the files as the kernel has them.
    pub fn crash(&self) -> Crashed {
        Crashed::copy_of(&self.root)
    }

    /// Closes in order and opens again.
    pub fn reopen(self) -> Fixture {
        self.disk.close().unwrap();
        let Fixture {
            root,
            disk,
            log,
            _dir,
        } = self;
        let config = log.config();
        drop((disk, log));
        let (disk, mut logs) = open(&root).unwrap();
        let log = logs.remove(0);
        log.set_config((*config).clone());
        Fixture {
            root,
            disk,
            log,
            _dir,
        }
    }
}

pub fn append(log: &Log, bytes: Bytes) -> Appended {
    let epoch = log.lineage().last().map_or(0, |last| last.epoch);
    log.append(bytes, AppendContext::new(epoch, 5)).unwrap()
}

/// A directory in memory, where that is to be had: for tests that sync thousands of times and cut no power.
pub fn quick_dir() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

/// A copy of a data directory, to be damaged and opened.
#[derive(Debug)]
pub struct Crashed {
    pub root: PathBuf,
    _dir: TempDir,
}

impl Crashed {
    pub fn copy_of(root: &Path) -> Crashed {
        let dir = quick_dir();
        let copy = dir.path().join("data");
        copy_dir(root, &copy);
        Crashed {
            root: copy,
            _dir: dir,
        }
    }

    /// What stands in `data` of the directory.
    pub fn in_dir(dir: TempDir) -> Crashed {
        Crashed {
            root: dir.path().join("data"),
            _dir: dir,
        }
    }

    pub fn open(&self) -> (Arc<Disk>, Arc<Log>) {
        let (disk, mut logs) = open(&self.root).unwrap();
        assert_eq!(logs.len(), 1);
        logs[0].set_config(small_segments());
        (disk, logs.remove(0))
    }

    /// File of the log's directory.
    pub fn file(&self, base: i64, suffix: &str) -> PathBuf {
        file_of(&self.root, base, suffix)
    }
}

/// What a kill before any call that changes the disk would leave.
#[derive(Debug)]
struct Copies {
    root: PathBuf,
    taken: Mutex<Vec<Crashed>>,
}

impl Watcher for Copies {
    fn before(&self, _call: Call, _path: &Path) -> io::Result<()> {
        self.taken.lock().push(Crashed::copy_of(&self.root));
        Ok(())
    }
}

pub fn copies_of(root: &Path, act: impl FnOnce()) -> Vec<Crashed> {
    let copies = Arc::new(Copies {
        root: root.to_owned(),
        taken: Mutex::default(),
    });
    let watching = watch(root, copies.clone());
    act();
    drop(watching);
    let taken = std::mem::take(&mut *copies.taken.lock());
    assert!(taken.len() > 4, "{}", taken.len());
    taken
}

pub fn file_of(root: &Path, base: i64, suffix: &str) -> PathBuf {
    root.join(format!("{TOPIC}-0/{base:020}.{suffix}"))
}

pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub fn flip(path: &Path, byte: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[byte] ^= 0x40;
    fs::write(path, bytes).unwrap();
}

/// All bytes from `from` to the log end.
pub fn read_all(log: &Log, from: i64) -> Vec<u8> {
    let end = log.offsets().log_end;
    let (mut at, mut all) = (from, Vec::new());
    while at < end {
        let slice = log.read(at, 700, true, end).unwrap();
        if slice.records.is_empty() {
            break;
        }
        all.extend_from_slice(&slice.records);
        at = slice.next_offset;
    }
    all
}

/// Base offsets of the batches from `from` on, each checked.
pub fn bases(log: &Log, from: i64) -> Vec<i64> {
    Batches::new(Bytes::from(read_all(log, from)))
        .map(|batch| {
            let batch = batch.unwrap();
            batch.verify_crc().unwrap();
            batch.header.base_offset
        })
        .collect()
}
