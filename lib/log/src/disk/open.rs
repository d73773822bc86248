//! Opening a data directory: lock, owner, checkpoints, then all logs, several at a time.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
use uuid::Uuid;

use crate::calls;
use crate::checkpoint::{Offsets, read_offsets, read_text};
use crate::config::LogConfig;
use crate::disk::checkpoints::Checkpoints;
use crate::disk::parallel;
use crate::disk::shared::Shared;
use crate::disk::{Disk, DiskOptions};
use crate::durable_points::{self, DurablePoints, Key, Point, name_check};
use crate::error::OpenError;
use crate::log::recover::{Stored, recover, refuse};
use crate::log::{Identity, Log};
use crate::naming::{
    CLEAN_BY_US, CLEAN_SHUTDOWN, CLEANER_POINTS, DELETED_DIR, HIGH_WATERMARKS, LOCK, LOG,
    LOG_STARTS, RECOVERY_POINTS, parse_directory_name, parse_file_name,
};
use crate::replace::{Durability, sync_dir};
use crate::types::MayBeLost;
use crate::{clean_points, early_acks, meta_properties, partition_metadata};

/// What the root's files say.
struct Known {
    clean: bool,
    clean_by_us: bool,
    recovery_points: Offsets,
    log_starts: Offsets,
    high_watermarks: Offsets,
    clean_ends: Offsets,
    our_clean_ends: HashMap<Key, i64>,
    early: early_acks::Noted,
    points: Option<HashMap<Key, Point>>,
}

impl Known {
    fn read(root: &Path) -> io::Result<Known> {
        let marker = root.join(CLEAN_SHUTDOWN);
        let text = read_text(&marker)?;
        let clean = text.is_some();
        if clean {
            // Before anything else: a crash from here on is one.
            calls::remove_file(&marker)?;
            sync_dir(root)?;
        }
        Ok(Known {
            clean,
            clean_by_us: text.as_deref() == Some(CLEAN_BY_US),
            recovery_points: read_offsets(&root.join(RECOVERY_POINTS))?,
            log_starts: read_offsets(&root.join(LOG_STARTS))?,
            high_watermarks: read_offsets(&root.join(HIGH_WATERMARKS))?,
            clean_ends: read_offsets(&root.join(CLEANER_POINTS))?,
            our_clean_ends: clean_points::read(root)?,
            early: early_acks::Noted::read(root)?,
            points: durable_points::read(root)?,
        })
    }

    /// `partition.metadata` has no checksum: a log whose topic id has no point, while another id has one
    /// under its name, keeps the id it had. A log of an unknown id would be taken for a deleted topic's.
    fn correct(&self, identity: &mut Identity) -> io::Result<()> {
        let Some(points) = &self.points else {
            return Ok(());
        };
        if points.contains_key(&(identity.topic_id, identity.partition)) {
            return Ok(());
        }
        if let Some(topic_id) = self.topic_id(&identity.topic, identity.partition) {
            identity.topic_id = topic_id;
            partition_metadata::write(&identity.dir, topic_id, Durability::NextSync)?;
        }
        Ok(())
    }

    /// Which topic id the log of this name had: for one whose `partition.metadata` cannot be read.
    fn topic_id(&self, topic: &str, partition: i32) -> Option<Uuid> {
        let name = name_check(topic);
        let points = self.points.iter().flatten();
        let mut same = points.filter(|((_, at), point)| *at == partition && point.name == name);
        match (same.next(), same.next()) {
            (Some(((topic_id, _), _)), None) => Some(*topic_id),
            _ => None,
        }
    }

    /// What Kafka's checkpoint says counts only as far as ours does, see [`clean_points`].
    fn clean_end(&self, name: &(String, i32), key: &Key) -> Option<i64> {
        let kafkas = self.clean_ends.get(name).copied();
        match (&self.points, self.our_clean_ends.get(key).copied()) {
            (None, _) => kafkas,
            (Some(_), ours) => Some(ours?.min(kafkas.unwrap_or(i64::MAX))),
        }
    }

    fn of(&self, identity: &Identity) -> Stored {
        let name = (identity.topic.clone(), identity.partition);
        let key = (identity.topic_id, identity.partition);
        Stored {
            recovery_point: self.recovery_points.get(&name).copied(),
            log_start: self.log_starts.get(&name).copied(),
            high_watermark: self.high_watermarks.get(&name).copied(),
            clean_end: self.clean_end(&name, &key),
            point: self
                .points
                .as_ref()
                .and_then(|points| points.get(&key).copied()),
            ours: self.points.is_some(),
            clean: self.clean,
            clean_by_us: self.clean_by_us,
            early: self.early.of(&key),
            power_cut: self.early.power_cut(),
        }
    }

    /// What a power cut may have taken of acknowledged records.
    fn may_be_lost(&self, logs: &[Arc<Log>]) -> Vec<MayBeLost> {
        let cut = !self.clean && self.early.power_cut();
        let of = |log: &Arc<Log>| {
            let bound = self.early.of(&log.key()).bound;
            (bound > 1).then(|| MayBeLost {
                topic: log.topic().to_owned(),
                partition: log.partition(),
                recovered_end: log.offsets().log_end,
                records_at_most: bound - 1,
                set_aside: log.was_cut_at_a_hole(),
            })
        };
        logs.iter().filter(|_| cut).filter_map(of).collect()
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
        calls::create_dir_all(&root).map_err(io)?;
        let lock = lock(&root)?;
        meta_properties::claim(&root, &options.cluster_id, options.node_id)?;
        let root_dir = File::open(&root).map_err(io)?;
        let known = Known::read(&root).map_err(io)?;
        let shared = Arc::new(Shared::new(root.clone(), root_dir, now_ms));
        let logs = open_all(&root, &shared, &known)?;
        // What recovery found may be in the page cache only.
        calls::sync_disk(&shared.root_dir, &root).map_err(io)?;
        drop(shared.take_dirty());
        let points = logs
            .iter()
            .filter_map(|log| Some((log.key(), log.state.read().stored_point()?)))
            .collect::<Vec<_>>();
        shared.put_points(DurablePoints::create(&root, points).map_err(io)?);
        let left = logs
            .iter()
            .map(|log| (log.key(), log.early_left(known.early.of(&log.key()))));
        shared.early_acks.settle(left).map_err(io)?;
        let may_be_lost = known.may_be_lost(&logs);
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
            checkpoints: Checkpoints::default(),
            may_be_lost,
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
    let found = find(root, known).map_err(|source| OpenError::io(root, source))?;
    let opened = parallel::each(&found, |(identity, unread)| {
        let (stored, config) = (known.of(identity), LogConfig::default());
        let opened = match unread {
            Some(error) => Err(error_again(error)),
            None => recover(identity.clone(), Arc::clone(shared), config.clone(), stored),
        };
        match opened {
            // Whose promises are not known is not opened at all.
            Err(error) if calls::is_unreadable(&error) && stored.ours => {
                let shared = Arc::clone(shared);
                Ok(refuse(identity.clone(), shared, config, stored, &error))
            }
            other => other.map_err(|source| OpenError::io(&identity.dir, source)),
        }
    });
    let mut logs = opened.into_iter().collect::<Result<Vec<_>, _>>()?;
    logs.sort_unstable_by(|a, b| (a.topic(), a.partition()).cmp(&(b.topic(), b.partition())));
    Ok(logs)
}

/// An `io::Error` cannot be copied.
fn error_again(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// A partition directory, and why it cannot be told whose it is, if it could not be read.
type Found = (Identity, Option<io::Error>);

/// The partition directories. Those on their way out are removed, foreign ones left alone.
fn find(root: &Path, known: &Known) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in calls::read_dir(root)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let dir: PathBuf = entry.path();
        if name.ends_with(DELETED_DIR) {
            calls::remove_dir_all(&dir)?;
            continue;
        }
        let Some((topic, partition)) = parse_directory_name(name) else {
            continue;
        };
        let (topic_id, unread) = match partition_metadata::read(&dir) {
            Ok(Some(id)) => (id, None),
            // Its creation did not get to its end.
            Ok(None) if is_unborn(&dir)? => {
                calls::remove_dir_all(&dir)?;
                continue;
            }
            Ok(None) => (Uuid::nil(), None),
            // A log of an unknown id would be taken for a deleted topic's.
            Err(error) => match known.topic_id(topic, partition) {
                Some(id) if calls::is_unreadable(&error) => (id, Some(error)),
                _ => return Err(error),
            },
        };
        let mut identity = Identity {
            topic: topic.to_owned(),
            topic_id,
            partition,
            dir,
        };
        if unread.is_none() {
            known.correct(&mut identity)?;
        }
        found.push((identity, unread));
    }
    Ok(found)
}

/// No log file with a byte in it, and no file that is not ours.
fn is_unborn(dir: &Path) -> io::Result<bool> {
    for entry in calls::read_dir(dir)? {
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
