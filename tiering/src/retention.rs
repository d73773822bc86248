//! What leaves the bucket, and when.
//!
//! Partitions of topics that the fleet says were deleted leave their root; that a topic is not known is no
//! such word. Retention is proposed to the broker; only the home leader moves a log start, and what it says is
//! what counts: a number that is not its word, or that of an older epoch than the bucket's records, moves
//! nothing. Objects wholly below it are unlinked by one swap, stay for the grace on our own monotonic clock
//! (begun again after a restart), and are deleted only while the fleet's registration and the root in the
//! bucket both still say that this daemon is the owner. On doubt nothing is deleted.

mod sweep;
#[cfg(test)]
mod tests;
mod unfinished;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

pub use sweep::{Spared, Swept};
use tokio::sync::watch;
use uuid::Uuid;
use whimbrel_fleet::{TopicPartition, View};
use whimbrel_runtime::{Clock, Shutdown, Tasks};

use crate::{
    broker::BrokerLink,
    committer::{CommitError, Committer, Edit},
    format::{Key, Keys},
    metrics as names,
    quarantine::Quarantine,
    root::{Entry, MAX_BYTES, Partition, Root, Standing},
    runs::RunError,
    skew::Skew,
    store::{Store, StoreError},
};

/// Kafka's default of retention.ms.
const DEFAULT_RETENTION_MS: i64 = 7 * 86_400_000;

/// Objects that one edit unlinks at most, and that wait on a root's pending list before others join them: the
/// list stands in the root, which is bounded.
const AT_ONCE: usize = 1_000;
const MOST_WAITING: usize = 2_000;

#[derive(Clone, Debug)]
pub struct Retention {
    pub broker: BrokerLink,
    pub committer: Committer,
    pub store: Arc<dyn Store>,
    pub keys: Keys,
    pub quarantine: Quarantine,
    pub skew: Skew,
    pub incarnation: Uuid,
    pub view: Option<watch::Receiver<Arc<View>>>,
    pub clock: Clock,
    pub tasks: Tasks,
    pub interval: Duration,
    pub grace: Duration,
}

/// Where a partition's log may begin by its topic's configs; `None` when nothing has to go. Internal topics
/// are compacted and lose nothing by age or size: they are not asked about. Without a clock that can be believed
/// nothing goes by its age. `oldest` are the first entries that the bucket has of it; what lies behind them has
/// its turn later.
pub fn proposal(
    partition: &Partition,
    oldest: &[Entry],
    configs: &BTreeMap<String, String>,
    now_ms: Option<i64>,
) -> Option<i64> {
    let config = |name: &str, default: i64| {
        configs
            .get(name)
            .and_then(|v| v.parse::<i64>().ok())
            .unwrap_or(default)
    };
    if configs
        .get("cleanup.policy")
        .is_some_and(|policy| !policy.split(',').any(|p| p.trim() == "delete"))
    {
        return None;
    }
    let (keep_ms, keep_bytes) = (
        config("retention.ms", DEFAULT_RETENTION_MS),
        config("retention.bytes", -1),
    );
    let mut bytes = partition.bytes();
    let mut start = None;
    for entry in oldest {
        // Records without a time count from their upload.
        let newest = if entry.max_timestamp_ms < 0 {
            entry.created_ms
        } else {
            entry.max_timestamp_ms
        };
        let too_old =
            now_ms.is_some_and(|now_ms| keep_ms >= 0 && now_ms.saturating_sub(newest) > keep_ms);
        let too_much = u64::try_from(keep_bytes)
            .is_ok_and(|keep| bytes.saturating_sub(entry.data_bytes) >= keep);
        if !too_old && !too_much {
            break;
        }
        bytes = bytes.saturating_sub(entry.data_bytes);
        start = Some(entry.end);
    }
    start.filter(|start| *start > partition.log_start)
}

impl Retention {
    pub async fn run(self) -> Result<(), CommitError> {
        let shutdown = self.tasks.shutdown();
        let (mut seen, mut swept) = (BTreeMap::new(), BTreeMap::new());
        let mut spared = Vec::new();
        self.sweep_new(&mut swept, &mut spared, &shutdown).await;
        let mut looked_ms = self.clock.boot_ms();
        while shutdown
            .unless(self.clock.sleep(self.interval))
            .await
            .is_some()
        {
            self.sweep_new(&mut swept, &mut spared, &shutdown).await;
            if let Some(Err(error)) = shutdown.unless(self.look_again(&mut spared)).await {
                tracing::warn!(%error, "objects that were spared wait for the next owner's sweep");
            }
            if self.clock.boot_ms().saturating_sub(looked_ms) >= unfinished::DAY_MS {
                looked_ms = self.clock.boot_ms();
                shutdown.unless(self.drop_unfinished()).await;
            }
            if let Some(Err(error)) = shutdown.unless(self.forget_deleted()).await {
                tracing::warn!(%error, "deleted topics go later");
            }
            shutdown.unless(self.follow_log_starts()).await;
            if let Some(Err(error)) = shutdown.unless(self.delete_pending(&mut seen)).await {
                tracing::warn!(%error, "deletion goes on later");
            }
        }
        Ok(())
    }

    /// Sweeps once after every claim.
    async fn sweep_new(
        &self,
        swept: &mut BTreeMap<u16, u64>,
        spared: &mut Vec<Spared>,
        shutdown: &Shutdown,
    ) {
        let owned: BTreeMap<u16, u64> = self
            .committer
            .roots()
            .iter()
            .filter(|root| self.owns(root))
            .map(|root| (root.shard, root.stamp.epoch))
            .collect();
        let is_new = owned
            .iter()
            .any(|(shard, epoch)| swept.get(shard) != Some(epoch));
        if !is_new {
            return;
        }
        match shutdown.unless(self.sweep()).await {
            Some(Ok(done)) => {
                *swept = owned;
                *spared = done.spared;
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "objects that nothing refers to were not looked for");
            }
            None => {}
        }
    }

    fn owns(&self, root: &Root) -> bool {
        root.stamp.incarnation == self.incarnation
    }

    /// The fleet says that its topic was deleted, and knows it no more.
    fn is_deleted(&self, at: TopicPartition) -> bool {
        self.view.as_ref().is_some_and(|view| {
            let view = view.borrow();
            view.deleted.contains(&at.topic_id) && view.topic_by_id(at.topic_id).is_none()
        })
    }

    /// Objects of a shard that wait for their deletion.
    fn waiting(&self, shard: u16) -> usize {
        self.committer.root(shard).map_or(0, |r| r.pending.len())
    }

    /// The first entries that the bucket has of a partition.
    async fn oldest(&self, partition: &Partition) -> Result<Vec<Entry>, RunError> {
        Ok(match partition.runs.first() {
            Some(run) => self.committer.runs().read(run).await?.to_vec(),
            None => partition.entries.clone(),
        })
    }

    /// Takes the partitions of deleted topics out of their roots; the number of them. What was being uploaded
    /// meanwhile may bring one back, which then goes with the next look.
    pub async fn forget_deleted(&self) -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
        let Some(view) = self.view.as_ref().map(|view| Arc::clone(&view.borrow())) else {
            return Ok(0);
        };
        let deleted: BTreeSet<_> = view.deleted.iter().copied().collect();
        let mut count = 0;
        for root in self.committer.roots().into_iter().filter(|r| self.owns(r)) {
            let gone = root.partitions.keys().filter(|at| {
                deleted.contains(&at.topic_id) && view.topic_by_id(at.topic_id).is_none()
            });
            for at in gone {
                let Some(partition) = root.partitions.get(at) else {
                    continue;
                };
                if self.waiting(root.shard) >= MOST_WAITING {
                    break;
                }
                let edit = match self.oldest(partition).await?.get(AT_ONCE) {
                    // More than the pending list should take at once: piece by piece.
                    Some(entry) => Edit::RaiseLogStart {
                        at: *at,
                        said: Standing {
                            log_start: entry.base,
                            region_epoch: partition.region_epoch,
                            leader_epoch: partition.lineage.last().map_or(-1, |e| e.epoch),
                        },
                    },
                    None => Edit::Forget { at: *at },
                };
                tracing::info!(%at, "its topic was deleted");
                self.committer.edit(root.shard, edit).await?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Proposes retention and takes over the log starts that stand.
    pub async fn follow_log_starts(&self) {
        let now_ms = self.skew.believed_ms().await;
        let view = self.view.as_ref().map(|view| Arc::clone(&view.borrow()));
        for root in self.committer.roots() {
            for (at, partition) in &root.partitions {
                if let Err(error) = self.follow(*at, partition, view.as_deref(), now_ms).await {
                    tracing::debug!(%at, %error, "its log start is not known now");
                }
            }
        }
    }

    async fn follow(
        &self,
        at: TopicPartition,
        partition: &Partition,
        view: Option<&View>,
        now_ms: Option<i64>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let topic = view.and_then(|view| Some((view, view.topic_by_id(at.topic_id)?)));
        let oldest = self.oldest(partition).await?;
        let wanted = topic
            .filter(|(_, topic)| !topic.internal)
            .and_then(|(view, topic)| {
                proposal(partition, &oldest, &view.configs_of(topic), now_ms)
            });
        let stands = self
            .broker
            .propose_log_start(at, wanted.unwrap_or(partition.log_start), "retention")
            .await?;
        let Some((said, stands)) = stands.and_then(|said| Some((said, partition.taken(said)?)))
        else {
            return Ok(());
        };
        let shard = self.committer.shard_of(at);
        if self.waiting(shard) < MOST_WAITING {
            let most = oldest.get(AT_ONCE).map_or(stands, |entry| entry.base);
            // Whoever owns the shard by then asks again whose word it was.
            let said = Standing {
                log_start: stands.min(most),
                ..said
            };
            let edit = Edit::RaiseLogStart { at, said };
            self.committer.edit(shard, edit).await?;
        }
        Ok(())
    }

    /// Deletes what has been on a pending list for the grace; `seen` holds since when, on our clock.
    pub async fn delete_pending(
        &self,
        seen: &mut BTreeMap<Key, u64>,
    ) -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
        let (now, grace_ms) = (
            self.clock.boot_ms(),
            u64::try_from(self.grace.as_millis()).unwrap_or(u64::MAX),
        );
        let roots = self.committer.roots();
        seen.retain(|key, _| {
            roots
                .iter()
                .any(|root| root.pending.iter().any(|p| p.key == *key))
        });
        let mut count = 0;
        for root in roots {
            for unlinked in &root.pending {
                seen.entry(unlinked.key.clone()).or_insert(now);
            }
            let is_due = |key: &Key| {
                let since = seen.get(key).copied().unwrap_or(now);
                now.saturating_sub(since) >= grace_ms
            };
            let free = root.deletable().iter().map(|u| u.key.clone());
            let due: Vec<_> = free.filter(is_due).collect();
            if due.is_empty() || !self.is_owner(&root).await {
                continue;
            }
            let mut deleted = Vec::new();
            for key in due {
                // What is held was put on the list by mistake; it goes off it and stays.
                if self.quarantine.holds(&key) {
                    // Whoever looks into the damage may want it.
                    continue;
                }
                let Ok(named) = self.committer.runs().names(&root, &key).await else {
                    continue;
                };
                if !named && self.is_ours(&key) {
                    match self.store.delete(&key).await {
                        // It stays on the list; the store is asked again when the lock can be over.
                        Err(StoreError::Locked { .. }) => continue,
                        done => done?,
                    }
                    self.committer.meter().count(names::DELETED_OBJECTS, 1);
                }
                deleted.push(key);
            }
            if deleted.is_empty() {
                continue;
            }
            count += deleted.len();
            self.committer
                .edit(root.shard, Edit::Strike(deleted))
                .await?;
        }
        Ok(count)
    }

    fn is_ours(&self, key: &Key) -> bool {
        self.keys.parse_object(key).is_some() || self.keys.parse_part(key).is_some()
    }

    /// The fleet and the bucket both say that this daemon owns the shard.
    async fn is_owner(&self, root: &Root) -> bool {
        let registered = self.view.as_ref().is_none_or(|view| {
            view.borrow()
                .daemons
                .iter()
                .any(|d| d.incarnation == self.incarnation)
        });
        if !registered {
            return false;
        }
        let there = self.store.get(&self.keys.root(root.shard), MAX_BYTES).await;
        there.is_ok_and(|found| {
            Root::decode(&found.bytes).is_ok_and(|there| {
                there.stamp.epoch == root.stamp.epoch && there.stamp.incarnation == self.incarnation
            })
        })
    }
}
