//! Opening a data directory: lock, owner, checkpoints, then all logs, several at a time.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};

use crate::checkpoint::{Offsets, read_offsets};
use crate::config::LogConfig;
use crate::disk::shared::Shared;
use crate::disk::{Disk, DiskOptions};
use crate::durable_points::{self, DurablePoints, Key, Point};
use crate::error::OpenError;
use crate::log::recover::{Stored, recover};
use crate::log::{Identity, Log};
use crate::naming::{
    CLEAN_SHUTDOWN, DELETED_DIR, HIGH_WATERMARKS, LOCK, LOG, LOG_STARTS, RECOVERY_POINTS,
    parse_directory_name, parse_file_name,
};
use crate::replace::sync_dir;
use crate::{meta_properties, partition_metadata};

/// Logs opened at once: mostly waiting for the disk.
const OPENERS: usize = 8;

/// What the root's files say.
struct Known {
    clean: bool,
    recovery_points: Offsets,
    log_starts: Offsets,
    high_watermarks: Offsets,
    points: Option<HashMap<Key, Point>>,
}

impl Known {
    fn read(root: &Path) -> io::Result<Known> {
        let marker = root.join(CLEAN_SHUTDOWN);
        let clean = marker.exists();
        if clean {
            // Before anything else: a crash from here on is one.
            fs::remove_file(&marker)?;
            sync_dir(root)?;
        }
        Ok(Known {
            clean,
            recovery_points: read_offsets(&root.join(RECOVERY_POINTS))?,
            log_starts: read_offsets(&root.join(LOG_STARTS))?,
            high_watermarks: read_offsets(&root.join(HIGH_WATERMARKS))?,
            points: durable_points::read(root)?,
        })
    }

    fn of(&self, identity: &Identity) -> Stored {
        let name = (identity.topic.clone(), identity.partition);
        let key = (identity.topic_id, identity.partition);
        Stored {
            recovery_point: self.recovery_points.get(&name).copied(),
            log_start: self.log_starts.get(&name).copied(),
            high_watermark: self.high_watermarks.get(&name).copied(),
            point: self
                .points
                .as_ref()
                .and_then(|points| points.get(&key).copied()),
            ours: self.points.is_some(),
            clean: self.clean,
        }
    }
}

impl Disk {
    /// Opens the directory, creating it if it is not there, and recovers all its logs. They have Kafka's
    /// default configuration until [`Log::set_config`]. When this returns, everything in them is durable.
    pub fn open(
        options: DiskOptions,
        now_ms: i64,
    ) -> Result<(Arc<Disk>, Vec<Arc<Log>>), OpenError> {
        let root = options.root;
        let io = |source| OpenError::io(&root, source);
        fs::create_dir_all(&root).map_err(io)?;
        let lock = lock(&root)?;
        meta_properties::claim(&root, &options.cluster_id, options.node_id)?;
        let root_dir = File::open(&root).map_err(io)?;
        let known = Known::read(&root).map_err(io)?;
        let shared = Arc::new(Shared::new(root.clone(), root_dir));
        shared.note_time(now_ms);
        let logs = open_all(&root, &shared, &known)?;
        // What recovery found may be in the page cache only.
        rustix::fs::syncfs(&shared.root_dir).map_err(|error| io(error.into()))?;
        drop(shared.take_dirty());
        let points = logs
            .iter()
            .map(|log| (log.key(), log.state.read().point()))
            .collect::<Vec<_>>();
        shared.put_points(DurablePoints::create(&root, points).map_err(io)?);
        let by_name = logs
            .iter()
            .map(|log| ((log.topic().to_owned(), log.partition()), Arc::clone(log)));
        let disk = Arc::new(Disk {
            shared,
            logs: Mutex::new(by_name.collect()),
            round: Mutex::new(()),
            rounds: AtomicU64::new(0),
            points_written_ms: AtomicI64::new(now_ms),
            unchecked_bytes: AtomicU64::new(0),
            _lock: lock,
        });
        Ok((disk, logs))
    }
}

fn lock(root: &Path) -> Result<File, OpenError> {
    let path = root.join(LOCK);
    let io = |source| OpenError::io(&path, source);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(io)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Locked {
            path: root.to_owned(),
        }),
        Err(error) => Err(io(error.into())),
    }
}

fn open_all(root: &Path, shared: &Arc<Shared>, known: &Known) -> Result<Vec<Arc<Log>>, OpenError> {
    let identities = find(root).map_err(|source| OpenError::io(root, source))?;
    let next = AtomicUsize::new(0);
    let opened = Mutex::new(Vec::with_capacity(identities.len()));
    std::thread::scope(|scope| {
        for _ in 0..OPENERS.min(identities.len()) {
            scope.spawn(|| {
                while let Some(identity) = identities.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let stored = known.of(identity);
                    let log = recover(
                        identity.clone(),
                        Arc::clone(shared),
                        LogConfig::default(),
                        stored,
                    )
                    .map_err(|source| OpenError::io(&identity.dir, source));
                    opened.lock().push(log);
                }
            });
        }
    });
    let mut logs = opened
        .into_inner()
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?;
    logs.sort_unstable_by(|a, b| (a.topic(), a.partition()).cmp(&(b.topic(), b.partition())));
    Ok(logs)
}

/// The partition directories. Those on their way out are removed, foreign ones left alone.
fn find(root: &Path) -> io::Result<Vec<Identity>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let dir: PathBuf = entry.path();
        if name.ends_with(DELETED_DIR) {
            fs::remove_dir_all(&dir)?;
            continue;
        }
        let Some((topic, partition)) = parse_directory_name(name) else {
            continue;
        };
        let topic_id = match partition_metadata::read(&dir)? {
            Some(id) => id,
            // Its creation did not get to its end.
            None if is_unborn(&dir)? => {
                fs::remove_dir_all(&dir)?;
                continue;
            }
            None => uuid::Uuid::nil(),
        };
        found.push(Identity {
            topic: topic.to_owned(),
            topic_id,
            partition,
            dir,
        });
    }
    Ok(found)
}

/// No log file with a byte in it, and no file that is not ours.
fn is_unborn(dir: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|name| {
            name.starts_with(crate::naming::PARTITION_METADATA)
                || name.starts_with(crate::naming::EPOCHS)
                || parse_file_name(name).is_some_and(|(_, suffix)| suffix != LOG)
        });
        if entry.metadata()?.len() > 0 && !ours {
            return Ok(false);
        }
    }
    Ok(true)
}
