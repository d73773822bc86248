//! Making everything appended so far durable in one round.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::calls;
use crate::disk::{Disk, parallel};
use crate::error::{LogError, SyncError};
use crate::log::Log;
use crate::replace::Durability;
use crate::types::SyncRound;

/// The sidecar rides in a sync at most this often.
const POINTS_EVERY_MS: i64 = 50;
/// Recovery points are written after this much was synced, so that recovery never reads more.
const CHECKPOINT_EVERY_BYTES: u64 = 1 << 30;

impl Disk {
    /// Makes everything appended before the call durable, then raises each log's durable end. An error is
    /// sticky: every later append and sync fails.
    pub fn sync(&self) -> Result<SyncRound, SyncError> {
        let _one = self.round.lock();
        self.shared.check()?;
        let mut dirty = self.shared.take_dirty();
        let listed = dirty.logs.len();
        let covered: Vec<_> = dirty
            .logs
            .drain(..)
            .filter_map(|log| log.upgrade())
            .map(|log| (log.take_progress(), log))
            .collect();
        if listed == 0 && !dirty.names {
            return Ok(SyncRound {
                rounds: self.rounds.load(Ordering::Relaxed),
                files: 0,
            });
        }
        let points = self.points_are_due() && self.write_points()?;
        // A segment may have been rolled between taking the list and looking at the log: then the log's
        // end lies in a file that is not on the list.
        let names = dirty.names || self.shared.has_names();
        let result = match (&dirty.file, listed) {
            (Some(file), 1) if !names && !points => calls::sync_written(file),
            _ => calls::sync_disk(&self.shared.root_dir, &self.shared.root),
        };
        result.map_err(|error| self.shared.fail(&error.to_string()))?;
        let mut bytes = 0;
        for (progress, log) in &covered {
            let before = log.durable_bytes();
            // Among the points all the while: who stores one of this log comes before or after.
            self.shared.with_points(|points| {
                if let Some(point) = log.made_durable(*progress)
                    && !log.is_deleted()
                {
                    points.set(log.key(), point);
                }
            });
            bytes += log.durable_bytes().saturating_sub(before);
        }
        // Only a number that is not as new as it could be if it fails.
        let _ = self.free_bytes();
        let rounds = self.rounds.fetch_add(1, Ordering::Relaxed) + 1;
        if self.unchecked_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes
            >= CHECKPOINT_EVERY_BYTES
        {
            // Only a longer recovery if it fails; a disk that is full stays usable for reading.
            self.unchecked_bytes.store(0, Ordering::Relaxed);
            let _ = self.checkpoint();
        }
        Ok(SyncRound {
            rounds,
            files: covered.len(),
        })
    }

    fn points_are_due(&self) -> bool {
        let since = self
            .shared
            .now_ms()
            .saturating_sub(self.points_written_ms.load(Ordering::Relaxed));
        // A clock that went back must not stop the sidecar.
        !(0..POINTS_EVERY_MS).contains(&since)
    }

    /// True if something was handed to the kernel and needs a sync. A full disk only leaves the points
    /// older than they could be.
    fn write_points(&self) -> Result<bool, SyncError> {
        let written = self.shared.with_points(|points| {
            let changed = points.has_changes();
            points.write().map(|()| changed)
        });
        self.points_written_ms
            .store(self.shared.now_ms(), Ordering::Relaxed);
        match written {
            Some(Err(error)) if error.kind() != std::io::ErrorKind::StorageFull => {
                Err(self.shared.fail(&format!("durable-points: {error}")).into())
            }
            Some(Ok(changed)) => Ok(changed),
            _ => Ok(false),
        }
    }

    /// Makes the stored durable points as new as the last sync. Call when idle, at most 100 ms after a sync.
    pub fn flush_durable_points(&self) -> Result<(), SyncError> {
        let _one = self.round.lock();
        self.shared.check()?;
        if self.write_points()? {
            let synced = self.shared.with_points(|points| points.sync());
            if let Some(Err(error)) = synced {
                return Err(self.shared.fail(&format!("durable-points: {error}")).into());
            }
        }
        Ok(())
    }

    /// Begins `epoch` in each log at its end, as [`Log::begin_epoch`] does, with one sync for all.
    pub fn begin_epochs(&self, epochs: &[(Arc<Log>, i32)]) -> Result<(), LogError> {
        let begun = parallel::each(epochs, |(log, epoch)| {
            log.begin(*epoch, Durability::NextSync)
        });
        begun.into_iter().collect::<Result<(), _>>()?;
        self.sync().map_err(|error| LogError::DiskFailed(error.0))?;
        Ok(())
    }
}
