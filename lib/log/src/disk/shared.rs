//! What a disk's logs share: open files, the list of what is not durable yet, the sidecar, and the
//! one failure after which nothing more is promised.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

use crate::calls;
use crate::clean_points::CleanPoints;
use crate::descriptors::Descriptors;
use crate::disk::room::Room;
use crate::durable_points::{DurablePoints, Key, Point};
use crate::early_acks::EarlyAcks;
use crate::error::DiskFailed;
use crate::log::Log;

/// What the next sync has to cover.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    pub(crate) logs: Vec<Weak<Log>>,
    /// The file the first log wrote to, for the case that it is the only one.
    pub(crate) file: Option<Arc<File>>,
    /// Files were created, renamed or removed: fdatasync of one file is not enough.
    pub(crate) names: bool,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) root: PathBuf,
    /// Open since the start: syncfs reports errors that happened since then.
    pub(crate) root_dir: File,
    pub(crate) descriptors: Descriptors,
    failed: OnceLock<DiskFailed>,
    dirty: Mutex<Dirty>,
    points: Mutex<Option<DurablePoints>>,
    #[cfg(test)]
    pub(crate) before_points: BeforePoints,
    pub(crate) clean_points: CleanPoints,
    pub(crate) early_acks: EarlyAcks,
    pub(crate) room: Room,
    /// Newest time an append carried; this crate has no clock.
    now_ms: AtomicI64,
    opened_ms: i64,
    /// Bytes of batches that opening looked at.
    scanned: AtomicU64,
}

impl Shared {
    pub(crate) fn new(root: PathBuf, root_dir: File, opened_ms: i64) -> Self {
        Shared {
            clean_points: CleanPoints::new(root.clone()),
            early_acks: EarlyAcks::new(&root),
            root,
            root_dir,
            descriptors: Descriptors::for_this_process(),
            failed: OnceLock::new(),
            dirty: Mutex::new(Dirty::default()),
            points: Mutex::new(None),
            #[cfg(test)]
            before_points: BeforePoints::default(),
            room: Room::default(),
            now_ms: AtomicI64::new(opened_ms),
            opened_ms,
            scanned: AtomicU64::new(0),
        }
    }

    pub(crate) fn check(&self) -> Result<(), DiskFailed> {
        match self.failed.get() {
            Some(failed) => Err(failed.clone()),
            None => Ok(()),
        }
    }

    pub(crate) fn failed(&self) -> Option<DiskFailed> {
        self.failed.get().cloned()
    }

    /// A sync that failed ends the disk, wherever it was: see [`crate::calls`].
    pub(crate) fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && calls::is_failed_sync(error)
        {
            self.fail(&error.to_string());
        }
        result
    }

    /// The first failure stays.
    pub(crate) fn fail(&self, reason: &str) -> DiskFailed {
        self.failed
            .get_or_init(|| DiskFailed {
                root: self.root.clone(),
                reason: reason.into(),
            })
            .clone()
    }

    pub(crate) fn opened_ms(&self) -> i64 {
        self.opened_ms
    }

    pub(crate) fn note_time(&self, now_ms: i64) {
        self.now_ms.store(now_ms, Ordering::Relaxed);
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn note_scanned(&self, bytes: u64) {
        self.scanned.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn scanned(&self) -> u64 {
        self.scanned.load(Ordering::Relaxed)
    }

    pub(crate) fn add_dirty(&self, log: Weak<Log>, file: Option<&Arc<File>>) {
        let mut dirty = self.dirty.lock();
        if dirty.logs.is_empty() {
            dirty.file = file.map(Arc::clone);
        }
        dirty.logs.push(log);
    }

    pub(crate) fn note_names(&self) {
        self.dirty.lock().names = true;
    }

    pub(crate) fn has_names(&self) -> bool {
        self.dirty.lock().names
    }

    pub(crate) fn take_dirty(&self) -> Dirty {
        std::mem::take(&mut *self.dirty.lock())
    }

    pub(crate) fn is_dirty(&self) -> bool {
        let dirty = self.dirty.lock();
        dirty.names || !dirty.logs.is_empty()
    }

    pub(crate) fn put_points(&self, points: DurablePoints) {
        *self.points.lock() = Some(points);
    }

    /// Locks come in this order: the points, then a log's state.
    pub(crate) fn with_points<T>(&self, act: impl FnOnce(&mut DurablePoints) -> T) -> Option<T> {
        #[cfg(test)]
        self.before_points.run();
        self.points.lock().as_mut().map(act)
    }

    /// Removes a point; durable on return.
    pub(crate) fn forget_point(&self, key: Key) -> io::Result<()> {
        let stored = self.with_points(|points| {
            points.remove(key);
            points.write()?;
            points.sync()
        });
        self.note(stored.unwrap_or(Ok(())))
    }

    /// Stores a point as it is going to be, which may be lower than the one before; durable on return.
    pub(crate) fn store_point(&self, key: Key, point: Point) -> io::Result<()> {
        self.store_point_of(key, || point)
    }

    /// Stores what `point` says when it is this one's turn among the points, so that no older word comes after a newer
    /// one; durable on return.
    pub(crate) fn store_point_of(&self, key: Key, point: impl FnOnce() -> Point) -> io::Result<()> {
        let stored = self.with_points(|points| {
            points.set(key, point());
            points.write()?;
            points.sync()
        });
        self.note(stored.unwrap_or(Ok(())))
    }
}

/// What another thread does just before this one has the points: for tests, once.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct BeforePoints(Mutex<Option<Box<dyn FnOnce() + Send>>>);

#[cfg(test)]
impl BeforePoints {
    pub(crate) fn set(&self, act: impl FnOnce() + Send + 'static) {
        *self.0.lock() = Some(Box::new(act));
    }

    fn run(&self) {
        let act = self.0.lock().take();
        if let Some(act) = act {
            act();
        }
    }
}

#[cfg(test)]
impl std::fmt::Debug for BeforePoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BeforePoints")
    }
}
