//! Reads runs of older entries from the parts of roots. What was read is kept, up to a bound.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use whimbrel_runtime::{Backoff, Clock};

use crate::{
    format::{Key, Keys, ObjectName, PartName},
    kept::Kept,
    ops::{Cause, Ops},
    root::{Entry, Root, Run},
    store::{Store, StoreError},
};

/// Entries kept in memory, about 10 MiB.
const KEPT: u64 = 64 << 10;
const ATTEMPTS: u32 = 5;

#[derive(Clone, Debug)]
pub struct Runs {
    store: Arc<dyn Store>,
    keys: Keys,
    clock: Clock,
    ops: Ops,
    kept: Arc<Mutex<Kept<Place, Vec<Entry>>>>,
}

type Place = (PartName, u32);

/// A part that a root names cannot be had, or is not what the root says.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RunError {
    #[error("{0}")]
    Store(Arc<StoreError>),
    #[error("{key}: {reason}")]
    Damaged { key: Key, reason: String },
}

impl Cause for RunError {
    fn cause(&self) -> String {
        match self {
            Self::Store(reason) => reason.cause(),
            Self::Damaged { reason, .. } => reason.clone(),
        }
    }
}

impl Runs {
    pub fn new(store: Arc<dyn Store>, keys: Keys, clock: Clock, ops: Ops) -> Self {
        Self {
            store,
            keys,
            clock,
            ops,
            kept: Arc::new(Mutex::new(Kept::new(KEPT, |run| run.len() as u64))),
        }
    }

    /// True when readers or orphans need the object. What stands in a run is looked up there, since another object
    /// may have taken its place before the run was written.
    pub async fn names(&self, root: &Root, key: &Key) -> Result<bool, RunError> {
        let keys = &self.keys;
        if !root.holds(keys, key) {
            return Ok(false);
        }
        let Some(ObjectName::Own(name)) = keys.parse_object(key) else {
            return Ok(true);
        };
        let partition = root.partitions.get(&name.at);
        let run = partition.and_then(|p| p.run_at(name.base));
        let Some(run) = run.filter(|_| !root.orphaned.iter().any(|o| o.key == *key)) else {
            return Ok(true);
        };
        let entries = self.read(run).await?;
        let n = entries.partition_point(|e| e.base < name.base);
        let entry = entries.get(n).filter(|e| e.merged.is_none());
        Ok(entry.is_some_and(|e| e.name(root.shard, name.at) == name))
    }

    /// The entries that the run still has.
    pub async fn read(&self, run: &Run) -> Result<Arc<Vec<Entry>>, RunError> {
        let place = (run.part, run.position);
        let kept = self.kept.lock().get(&place);
        // One that was trimmed since begins later.
        if let Some(kept) = kept {
            let from = kept.partition_point(|e| e.base < run.base);
            return Ok(match from {
                0 => kept,
                from => Arc::new(kept[from..].to_vec()),
            });
        }
        let key = self.keys.root_part(&run.part);
        let span = u64::from(run.position)..u64::from(run.position) + u64::from(run.length);
        let op = self.ops.begin("read root part", &key);
        let mut pause = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let read = match self.store.get_range(&key, span.clone()).await {
                Ok(bytes) => run.decode(&bytes).map_err(|reason| RunError::Damaged {
                    key: key.clone(),
                    reason: reason.to_string(),
                }),
                Err(e) if e.is_not_found() => {
                    return Err(RunError::Damaged {
                        key,
                        reason: "it is not in the bucket".to_owned(),
                    });
                }
                Err(e) => Err(RunError::Store(Arc::new(e))),
            };
            match read {
                Ok(entries) => {
                    let entries = Arc::new(entries);
                    self.kept.lock().add(&place, Arc::clone(&entries));
                    return Ok(entries);
                }
                Err(e) => {
                    op.failed(&e);
                    last = Some(e);
                }
            }
            self.clock.sleep(pause.next()).await;
        }
        if let Some(RunError::Store(reason)) = &last
            && matches!(**reason, StoreError::Short { .. })
            && let Ok(meta) = self.store.head(&key).await
            && meta.size < span.end
        {
            // Not the network: there is no more of it.
            let reason = format!("{} bytes, its root names {}", meta.size, span.end);
            return Err(RunError::Damaged { key, reason });
        }
        Err(last.unwrap_or_else(|| RunError::Damaged {
            key,
            reason: "no attempt was made".to_owned(),
        }))
    }
}
