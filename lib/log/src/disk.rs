//! One data directory: who owns it, which logs are in it, and when what was written is durable.
//!
//! Nothing else writes under its root. Appends of all logs become durable together: one `fdatasync`
//! if one file is dirty, one `syncfs` if there are more or files were created (group commit).

mod checkpoints;
mod open;
mod parallel;
pub(crate) mod room;
pub(crate) mod shared;
mod sync;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use parking_lot::Mutex;
use uuid::Uuid;

use crate::calls;
use crate::config::LogConfig;
use crate::disk::checkpoints::Checkpoints;
use crate::disk::shared::Shared;
use crate::error::{DiskFailed, LogError};
use crate::log::recover::{Stored, recover};
use crate::log::{Identity, Log};
use crate::naming::{CLEAN_BY_US, CLEAN_SHUTDOWN, DELETED_DIR, directory_name, is_topic_name};
use crate::partition_metadata;
use crate::replace::{Durability, replace, sync_dir};
use crate::types::{Health, MayBeLost};

/// Which directory, and whose.
#[derive(Debug, Clone)]
pub struct DiskOptions {
    pub root: PathBuf,
    pub cluster_id: String,
    pub node_id: i32,
}

/// An open data directory. Locked against other processes until dropped.
#[derive(Debug)]
pub struct Disk {
    shared: Arc<Shared>,
    logs: Mutex<HashMap<(String, i32), Arc<Log>>>,
    /// One sync at a time.
    round: Mutex<()>,
    rounds: AtomicU64,
    points_written_ms: AtomicI64,
    unchecked_bytes: AtomicU64,
    checkpoints: Checkpoints,
    may_be_lost: Vec<MayBeLost>,
    _lock: File,
}

impl Disk {
    /// Creates an empty log; durable with the next sync.
    pub fn create(
        &self,
        topic: &str,
        topic_id: Uuid,
        partition: i32,
        config: LogConfig,
    ) -> Result<Arc<Log>, LogError> {
        if !is_topic_name(topic) || partition < 0 {
            return Err(LogError::InvalidName {
                topic: topic.to_owned(),
                partition,
            });
        }
        self.shared.check()?;
        let name = directory_name(topic, partition);
        let dir = self.shared.root.join(&name);
        // Of two that want the same name the directory tells which one has it.
        match calls::create_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(LogError::Exists { log: name });
            }
            other => other.map_err(|source| LogError::io(&dir, source))?,
        }
        let identity = Identity {
            topic: topic.to_owned(),
            topic_id,
            partition,
            dir: dir.clone(),
        };
        let stored = Stored {
            ours: true,
            clean: true,
            ..Stored::default()
        };
        let log = partition_metadata::write(&dir, topic_id, Durability::NextSync)
            .and_then(|()| recover(identity, Arc::clone(&self.shared), config, stored))
            .map_err(|source| {
                // As if it had never been asked for; the next start removes what is left.
                let _ = calls::remove_dir_all(&dir);
                LogError::io(&dir, source)
            })?;
        self.shared.note_names();
        self.logs
            .lock()
            .insert((topic.to_owned(), partition), Arc::clone(&log));
        Ok(log)
    }

    /// As [`Self::create`], of several partitions of one topic at once; the answers stand in their order.
    pub fn create_all(
        &self,
        topic: &str,
        topic_id: Uuid,
        partitions: &[i32],
        config: &LogConfig,
    ) -> Vec<Result<Arc<Log>, LogError>> {
        parallel::each(partitions, |partition| {
            self.create(topic, topic_id, *partition, config.clone())
        })
    }

    /// Deletes a log and its files. Pins stay.
    pub fn delete(&self, log: &Log) -> Result<(), LogError> {
        self.shared.check()?;
        // Nobody writes while the directory goes.
        let _writer = log.writer.lock();
        if log.is_deleted() {
            return Ok(());
        }
        log.mark_deleted();
        self.logs
            .lock()
            .remove(&(log.topic().to_owned(), log.partition()));
        let gone = format!(
            "{}.{}{DELETED_DIR}",
            Uuid::new_v4().simple(),
            log.partition()
        );
        let gone = self.shared.root.join(gone);
        let io = |source| LogError::io(log.dir(), source);
        // First the point: a log of this name and id that is created later has promised nothing yet.
        self.shared.forget_point(log.key()).map_err(io)?;
        let forgotten = self.shared.early_acks.forget(log.key());
        self.shared.note(forgotten).map_err(io)?;
        calls::rename(log.dir(), &gone).map_err(io)?;
        self.shared.note(sync_dir(&self.shared.root)).map_err(io)?;
        calls::remove_dir_all(&gone).map_err(io)
    }

    /// From when this returns, fewer records of each log than its bound may be acknowledged before they are synced;
    /// the bounds are not lowered before the next start. See [`crate::early_acks`].
    pub fn allow_early_acks(&self, bounds: &[(Arc<Log>, u64)]) -> Result<(), LogError> {
        self.shared.check()?;
        let bounds = bounds.iter().map(|(log, bound)| (log.key(), *bound));
        let noted = self.shared.early_acks.allow(bounds);
        self.shared
            .note(noted)
            .map_err(|source| LogError::io(&self.shared.root, source))
    }

    /// What a power cut before this start may have taken, although it was acknowledged.
    pub fn may_be_lost(&self) -> &[MayBeLost] {
        &self.may_be_lost
    }

    /// The logs, in no order.
    pub fn logs(&self) -> Vec<Arc<Log>> {
        self.logs.lock().values().map(Arc::clone).collect()
    }

    /// Whether a sync would have something to do.
    pub fn dirty(&self) -> bool {
        self.shared.is_dirty()
    }

    /// The failure after which nothing more is promised, if there was one.
    pub fn failed(&self) -> Option<DiskFailed> {
        self.shared.failed()
    }

    /// Bytes that may still be written to the filesystem.
    pub fn free_bytes(&self) -> io::Result<u64> {
        self.shared.room.measure(&self.shared.root_dir)
    }

    /// Size of the filesystem.
    pub fn total_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.shared.root_dir)?;
        Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
    }

    /// Keeps `bytes` of the filesystem back from what clients write, see [`Self::is_short`].
    pub fn set_reserve(&self, bytes: u64) {
        self.shared.room.set_reserve(bytes);
    }

    /// Whether the filesystem has less room than the reserve: what clients send is then to be refused, so
    /// that offsets, checkpoints and epochs can still be written. As of the last sync or
    /// [`Self::free_bytes`].
    pub fn is_short(&self) -> bool {
        self.shared.room.is_short()
    }

    /// Bytes of batches that [`Disk::open`] walked over: what a restart took.
    pub fn recovered_bytes(&self) -> u64 {
        self.shared.scanned()
    }

    /// Syncs, writes checkpoints and the clean-shutdown marker. Appends and syncs fail from then on. A disk
    /// with a damaged log is not marked clean, so that the next start finds the damage again.
    pub fn close(&self) -> Result<(), LogError> {
        self.shared.check()?;
        let mut damaged = false;
        for log in self.logs() {
            if log.health() != Health::Good {
                // Its files stay what they are.
                damaged = true;
                continue;
            }
            log.settle()
                .map_err(|source| LogError::io(log.dir(), source))?;
        }
        self.sync().map_err(|error| LogError::DiskFailed(error.0))?;
        self.flush_durable_points()
            .map_err(|error| LogError::DiskFailed(error.0))?;
        self.checkpoint()?;
        let logs = self.logs();
        let early = &self.shared.early_acks;
        let left = |log: &Arc<Log>| (log.key(), log.early_left(early.of(&log.key())));
        let left: Vec<_> = logs.iter().map(left).collect();
        self.shared
            .note(early.settle(left.into_iter()))
            .map_err(|source| LogError::io(&self.shared.root, source))?;
        self.shared.fail("closed");
        if !damaged {
            let path = self.shared.root.join(CLEAN_SHUTDOWN);
            replace(&path, CLEAN_BY_US.as_bytes(), Durability::Now)
                .map_err(|source| LogError::io(&path, source))?;
        }
        Ok(())
    }
}
