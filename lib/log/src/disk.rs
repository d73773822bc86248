//! One data directory.
use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

use crate::*;

#[derive(Debug, Clone)]
pub struct DiskOptions {
    pub root: PathBuf,
    pub cluster_id: String,
    pub node_id: i32,
}

#[derive(Debug)]
pub struct Disk {}

impl Disk {
    pub fn open(options: DiskOptions, now_ms: i64) -> Result<(Arc<Disk>, Vec<Arc<Log>>), OpenError> { todo!() }
    pub fn create(&self, topic: &str, topic_id: Uuid, partition: i32, config: LogConfig) -> Result<Arc<Log>, LogError> { todo!() }
    pub fn delete(&self, log: &Log) -> Result<(), LogError> { todo!() }
    /// One caller at a time.
    pub fn sync(&self) -> Result<SyncRound, SyncError> { todo!() }
    /// Begins `epoch` in each log, one sync for all.
    pub fn begin_epochs(&self, epochs: &[(Arc<Log>, i32)]) -> Result<(), LogError> { todo!() }
    /// Call when idle, at most 100 ms after a sync.
    pub fn flush_durable_points(&self) -> Result<(), SyncError> { todo!() }
    /// Writes recovery points, log starts and high watermarks; call about once a minute.
    pub fn checkpoint(&self) -> Result<(), LogError> { todo!() }
    pub fn dirty(&self) -> bool { todo!() }
    /// The sticky failure, if any.
    pub fn failed(&self) -> Option<DiskFailed> { todo!() }
    pub fn free_bytes(&self) -> std::io::Result<u64> { todo!() }
    pub fn logs(&self) -> Vec<Arc<Log>> { todo!() }
    /// Syncs, writes checkpoints and the clean-shutdown marker. No append may follow.
    pub fn close(&self) -> Result<(), LogError> { todo!() }
}
