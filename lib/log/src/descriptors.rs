//! A bounded number of open files for any number of segments.
//!
//! A [`Slot`] stands for one file; [`Descriptors::open`] hands out the file, opening it if it is
//! closed, and closes others once too many are open (second chance: one that was used since the last
//! look stays). A file handed out stays usable: it is closed when its last user drops it.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::calls;

#[derive(Debug)]
pub(crate) struct Slot {
    path: PathBuf,
    file: Mutex<Option<Arc<File>>>,
    used: AtomicBool,
}

impl Slot {
    pub(crate) fn new(path: PathBuf) -> Arc<Slot> {
        Arc::new(Slot {
            path,
            file: Mutex::new(None),
            used: AtomicBool::new(false),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Forgets the open file, for a path that now names another one.
    pub(crate) fn close(&self) {
        *self.file.lock() = None;
    }
}

#[derive(Debug)]
pub(crate) struct Descriptors {
    capacity: usize,
    open: Mutex<VecDeque<Weak<Slot>>>,
}

impl Descriptors {
    pub(crate) fn new(capacity: usize) -> Self {
        Descriptors {
            capacity: capacity.max(1),
            open: Mutex::new(VecDeque::new()),
        }
    }

    /// Half of what the process may open; the rest is for sockets.
    pub(crate) fn for_this_process() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        Descriptors::new(usize::try_from(limit.unwrap_or(1 << 20) / 2).unwrap_or(1 << 19))
    }

    /// The file, opened for reading and writing.
    pub(crate) fn open(&self, slot: &Arc<Slot>) -> io::Result<Arc<File>> {
        self.get(slot, false)
    }

    /// As `open`; a file that is not there is created.
    pub(crate) fn create(&self, slot: &Arc<Slot>) -> io::Result<Arc<File>> {
        self.get(slot, true)
    }

    fn get(&self, slot: &Arc<Slot>, create: bool) -> io::Result<Arc<File>> {
        slot.used.store(true, Ordering::Relaxed);
        let file = {
            let mut held = slot.file.lock();
            if let Some(file) = held.as_ref() {
                return Ok(Arc::clone(file));
            }
            let mut options = OpenOptions::new();
            let opened = options.read(true).write(true).open(&slot.path);
            let file = match opened {
                Err(error) if create && error.kind() == io::ErrorKind::NotFound => {
                    calls::open_or_create(&slot.path)?
                }
                other => other?,
            };
            let file = Arc::new(file);
            *held = Some(Arc::clone(&file));
            file
        };
        self.admit(slot);
        Ok(file)
    }

    fn admit(&self, slot: &Arc<Slot>) {
        let mut open = self.open.lock();
        open.push_back(Arc::downgrade(slot));
        // Everyone gets one second chance; after that the oldest goes whatever its use.
        let mut chances = open.len();
        while open.len() > self.capacity {
            let Some(weak) = open.pop_front() else { break };
            let Some(oldest) = weak.upgrade() else {
                continue;
            };
            if chances > 0 && oldest.used.swap(false, Ordering::Relaxed) {
                chances -= 1;
                open.push_back(weak);
                continue;
            }
            // Never waits: a slot that is being opened right now stays open.
            if let Some(mut file) = oldest.file.try_lock() {
                *file = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn more_files_than_descriptors_all_work() {
        let dir = tempfile::tempdir().unwrap();
        let descriptors = Descriptors::new(4);
        let slots: Vec<_> = (0..50)
            .map(|n| Slot::new(dir.path().join(n.to_string())))
            .collect();
        for slot in &slots {
            assert!(descriptors.open(slot).is_err());
            descriptors.create(slot).unwrap().write_all(b"x").unwrap();
        }
        let held = slots
            .iter()
            .filter(|slot| slot.file.lock().is_some())
            .count();
        assert!(held <= 4, "{held} open");
        for slot in &slots {
            assert_eq!(descriptors.open(slot).unwrap().metadata().unwrap().len(), 1);
        }
    }
}
