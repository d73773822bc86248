//! The one flusher of the disk: group commit.
//!
//! Partitions that were appended to stand on a list; a round takes the list, syncs the disk once and
//! moves all of them on. What comes in meanwhile is the next round's. A failed sync ends the process:
//! nothing on that disk can be promised any more.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use whimbrel_log::{Disk, SyncError};
use whimbrel_rpc::controller::LeaseHolder;
use whimbrel_runtime::{Clock, Tasks};

use crate::partition::{Advanced, Partition};

/// After a quiet moment of this length the durable points of the last round are written too.
const IDLE: Duration = Duration::from_millis(100);

/// The end of this process: nothing on the disk can be promised any more.
#[derive(Debug, thiserror::Error)]
#[error("WB-109: {0}")]
pub struct Failed(#[from] SyncError);

#[derive(Debug)]
pub struct Flusher {
    disk: Arc<Disk>,
    lease: LeaseHolder,
    listed: Mutex<Vec<Arc<Partition>>>,
    at_ceiling: Mutex<Vec<Arc<Partition>>>,
    work: Notify,
    rounds: watch::Sender<u64>,
}

impl Flusher {
    pub fn new(disk: Arc<Disk>, lease: LeaseHolder) -> Arc<Self> {
        Arc::new(Self {
            disk,
            lease,
            listed: Mutex::default(),
            at_ceiling: Mutex::default(),
            work: Notify::new(),
            rounds: watch::Sender::new(0),
        })
    }

    /// The partition was appended to: the next round makes that durable.
    pub fn list(&self, partition: &Arc<Partition>) {
        if !partition.listed.swap(true, Ordering::AcqRel) {
            self.listed.lock().push(Arc::clone(partition));
            self.work.notify_one();
        }
    }

    /// The partition waits for the ceiling: it is looked at when the lease changes.
    pub fn wait_for_ceiling(&self, partition: Arc<Partition>) {
        if !partition.at_ceiling.swap(true, Ordering::AcqRel) {
            self.at_ceiling.lock().push(partition);
        }
    }

    /// Has the next round begin, with nothing to do: it fails if the disk has.
    pub fn nudge(&self) {
        self.work.notify_one();
    }

    /// Ticks after every round, and when ends moved otherwise.
    pub fn rounds(&self) -> watch::Receiver<u64> {
        self.rounds.subscribe()
    }

    /// Looks at a partition again: its acks may have become possible.
    pub fn advance(&self, partition: &Arc<Partition>) {
        if partition.advance(&self.lease) == Advanced::AtCeiling {
            self.wait_for_ceiling(Arc::clone(partition));
        }
        self.tick();
    }

    fn tick(&self) {
        self.rounds.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Runs until shutdown; the last round is the disk's own at close.
    pub async fn run(self: Arc<Self>, tasks: Tasks, clock: Clock) -> Result<(), Failed> {
        let shutdown = tasks.shutdown();
        let mut points_due = false;
        loop {
            tokio::select! {
                biased;
                () = shutdown.wait() => return Ok(()),
                () = self.work.notified() => self.round(&tasks).await?,
                () = clock.sleep(IDLE), if points_due => {
                    let disk = Arc::clone(&self.disk);
                    tasks.blocking(move || disk.flush_durable_points()).await?;
                    points_due = false;
                    continue;
                }
            }
            points_due = true;
        }
    }

    async fn round(&self, tasks: &Tasks) -> Result<(), Failed> {
        let listed = std::mem::take(&mut *self.listed.lock());
        for partition in &listed {
            // From here on an append lists it again, for the next round.
            partition.listed.store(false, Ordering::Release);
        }
        let disk = Arc::clone(&self.disk);
        tasks.blocking(move || disk.sync()).await?;
        for partition in listed {
            if partition.advance(&self.lease) == Advanced::AtCeiling {
                self.wait_for_ceiling(partition);
            }
        }
        self.tick();
        Ok(())
    }

    /// Looks at the partitions that wait for the ceiling whenever the lease changes.
    pub async fn follow_lease(self: Arc<Self>, tasks: Tasks) {
        let (shutdown, mut changed) = (tasks.shutdown(), self.lease.changed());
        while let Some(Ok(())) = shutdown.unless(changed.changed()).await {
            let waiting = std::mem::take(&mut *self.at_ceiling.lock());
            if waiting.is_empty() {
                continue;
            }
            for partition in waiting {
                partition.at_ceiling.store(false, Ordering::Release);
                if partition.advance(&self.lease) == Advanced::AtCeiling {
                    partition.fail_unleased(&self.lease);
                    self.wait_for_ceiling(partition);
                }
            }
            self.tick();
        }
    }
}
