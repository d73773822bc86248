//! Compacted logs in the bucket: what compaction has left of a log takes the place of what it was.
//!
//! Each partition's log is uploaded as it is first. Once the broker has cleaned it, and what the bucket has of
//! it is far larger than what is left, all that was cleaned goes up again, from the first entry on, out of one
//! state of one log, and one edit of the root names it instead of all old entries that it covers. Never a part of
//! it: beside older forms of other ranges it could lack a tombstone of what those still have.
//!
//! [`plan`](plan::plan) is pure. A crash leaves objects that nothing names; they are swept after the next claim.

mod held;
pub mod plan;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use uuid::Uuid;
use whimbrel_fleet::TopicPartition;
use whimbrel_rpc::proto::node;
use whimbrel_runtime::{Clock, Tasks, random};

pub use self::held::Held;
use self::plan::{AT_ONCE, Limits, Plan, plan};
use crate::{
    broker::{BadSlice, BrokerLink, partition_from, slice_from},
    committer::{CommitError, Committer, Edit},
    format::{Key, Keys},
    metrics as names,
    ops::Ops,
    prepare::{PrepareError, Slice, Writer, prepare},
    quarantine::Quarantine,
    reader::Objects,
    root::{Entry, Partition},
    runs::RunError,
    transfer::{Transfer, TransferError},
};

/// Partitions asked for at once.
const PAGE: usize = 10_000;
/// Objects that one edit unlinks at most: they wait on the root's pending list, which is bounded.
pub const MOST_UNLINKED: usize = 3_000;

#[derive(Clone, Debug)]
pub struct Compaction {
    pub broker: BrokerLink,
    pub committer: Committer,
    pub transfer: Transfer,
    pub keys: Keys,
    pub region: String,
    pub incarnation: Uuid,
    pub data_dir: PathBuf,
    pub clock: Clock,
    pub tasks: Tasks,
    pub ops: Ops,
    pub objects: Objects,
    pub quarantine: Quarantine,
    pub interval: Duration,
    pub limits: Limits,
    /// [`MOST_UNLINKED`].
    pub most_unlinked: usize,
    pub held: Held,
}

/// Why a log was not replaced now. It is looked at again.
#[derive(Debug, thiserror::Error)]
pub enum CompactionError {
    #[error("broker: {0}")]
    Broker(#[from] Box<tonic::Status>),
    #[error(transparent)]
    Slice(#[from] BadSlice),
    #[error("it has {objects} objects in the bucket, and one edit can unlink {most} of them")]
    TooMany { objects: usize, most: usize },
    #[error("the broker's slices do not cover {base}..{end}")]
    NotCovered { base: i64, end: i64 },
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    #[error(transparent)]
    Transfer(#[from] TransferError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error("older entries: {0}")]
    Run(#[from] RunError),
}

impl From<tonic::Status> for CompactionError {
    fn from(status: tonic::Status) -> Self {
        Self::Broker(Box::new(status))
    }
}

impl Compaction {
    pub async fn run(self) {
        let shutdown = self.tasks.shutdown();
        while shutdown
            .unless(self.clock.sleep(self.interval))
            .await
            .is_some()
        {
            if let Some(Err(error)) = shutdown.unless(self.round()).await {
                tracing::warn!(%error, "compacted logs are looked at later");
            }
        }
    }

    /// Looks at all partitions once; the number of those that were replaced.
    pub async fn round(&self) -> Result<usize, CompactionError> {
        let mut tiered: BTreeMap<TopicPartition, Partition> = BTreeMap::new();
        for root in self.committer.roots() {
            if self.committer.open_root(root.shard).is_ok() {
                tiered.extend(root.partitions.clone());
            }
        }
        let all: Vec<node::PartitionId> = tiered.keys().map(|at| (*at).into()).collect();
        let mut done = 0;
        for page in all.chunks(PAGE) {
            for log in self.broker.logs(page.to_vec(), true).await? {
                let Some(at) = partition_from(log.at.as_ref()) else {
                    continue;
                };
                let Some(partition) = tiered.get(&at).filter(|_| !log.cleaned.is_empty()) else {
                    continue;
                };
                let replaced = self.replace(at, partition, &log).await;
                done += usize::from(matches!(replaced, Ok(true)));
                self.tell(at, replaced.err());
            }
        }
        self.held.keep(|at| tiered.contains_key(&at));
        Ok(done)
    }

    /// Once when it begins and once when it is over: it may last for ever.
    fn tell(&self, at: TopicPartition, error: Option<CompactionError>) {
        let Some(error) = error else {
            if self.held.let_go(at) {
                tracing::info!(%at, "nothing holds a compacted log up any more");
            }
            return;
        };
        let what = "a compacted log was not replaced in the bucket, which keeps it as it was";
        if self.held.hold(at, error.to_string()) {
            tracing::warn!(code = "WB-327", %at, %error, "{what}");
        } else {
            tracing::debug!(%at, %error, "{what}");
        }
    }

    async fn replace(
        &self,
        at: TopicPartition,
        partition: &Partition,
        log: &node::LogState,
    ) -> Result<bool, CompactionError> {
        let mut entries = Vec::new();
        for run in &partition.runs {
            entries.extend(self.committer.runs().read(run).await?.iter().copied());
        }
        entries.extend_from_slice(&partition.entries);
        let start = partition.start().max(log.log_start);
        if log.local_log_start > start {
            return Ok(false);
        }
        let shard = self.committer.shard_of(at);
        let now_ms = self.clock.wall_ms();
        let key = |entry: &Entry| entry.key(&self.keys, shard, at);
        // What is damaged is made whole by what the log still has.
        let mending = plan(&entries, &log.cleaned, now_ms, &AT_ONCE);
        let mending = mending.filter(|p| p.old.iter().any(|e| self.quarantine.holds(&key(e))));
        let due = || plan(&entries, &log.cleaned, now_ms, &self.limits);
        let Some(plan) = mending.or_else(due) else {
            return Ok(false);
        };
        let (objects, most) = (plan.old.len(), self.most_unlinked);
        if objects > most {
            return Err(CompactionError::TooMany { objects, most });
        }
        let waiting = self.committer.root(shard).map_or(0, |r| r.pending.len());
        if waiting + objects > most {
            // What was unlinked before goes with the grace.
            return Ok(false);
        }
        let request = node::CleanedRequest {
            at: Some(at.into()),
            base_offset: plan.base,
            end_offset: plan.end,
        };
        let offered = self.broker.cleaned(request).await?;
        let tokens: Vec<u64> = offered.iter().map(|s| s.token).take(1).collect();
        let done = self.upload(at, &plan, &offered).await;
        self.broker.release(tokens).await?;
        done?;
        for key in plan.old.iter().map(key) {
            self.quarantine.release(&key).await;
        }
        Ok(true)
    }

    /// Uploads all slices, and then names them; what is not named in the end is unlinked.
    async fn upload(
        &self,
        at: TopicPartition,
        plan: &Plan,
        offered: &[node::Slice],
    ) -> Result<(), CompactionError> {
        let slices = self.taken(at, plan, offered)?;
        let mut uploaded = Vec::new();
        let done = self.put_and_name(at, plan, slices, &mut uploaded).await;
        if done.is_err() && !uploaded.is_empty() {
            let unlink = Edit::Unlink(uploaded);
            let shard = self.committer.shard_of(at);
            if let Err(error) = self.committer.edit(shard, unlink).await {
                tracing::debug!(%at, %error, "objects that nothing names wait for the next sweep");
            }
        }
        done
    }

    /// The slices, if they are about the partition and follow one another from end to end.
    fn taken(
        &self,
        at: TopicPartition,
        plan: &Plan,
        offered: &[node::Slice],
    ) -> Result<Vec<Slice>, CompactionError> {
        let slices = offered.iter().map(|s| slice_from(s, &self.data_dir));
        let slices = slices.collect::<Result<Vec<_>, _>>()?;
        let mut next = plan.base;
        for slice in &slices {
            if slice.at == at && slice.base == next && slice.inline.is_empty() {
                next = slice.end;
            }
        }
        let count = offered
            .iter()
            .filter(|s| s.token == offered[0].token)
            .count();
        if next != plan.end || count != slices.len() {
            return Err(CompactionError::NotCovered {
                base: plan.base,
                end: plan.end,
            });
        }
        Ok(slices)
    }

    async fn put_and_name(
        &self,
        at: TopicPartition,
        plan: &Plan,
        slices: Vec<Slice>,
        uploaded: &mut Vec<Key>,
    ) -> Result<(), CompactionError> {
        let shard = self.committer.shard_of(at);
        let what = format!("{at} {}..{}", plan.base, plan.end);
        let op = self.ops.begin("read compacted log", &what);
        let (mut new, mut bytes): (Vec<Entry>, u64) = (Vec::new(), 0);
        for slice in slices {
            let root = self.committer.root(shard).ok_or(CommitError::Stopping)?;
            let writer = Writer {
                region: self.region.clone(),
                incarnation: self.incarnation,
                epoch: root.stamp.epoch,
                random: random::u64(),
                now_ms: self.clock.wall_ms(),
            };
            op.step("read compacted log");
            let prepared = self.tasks.blocking(move || prepare(&slice, &writer));
            let prepared = prepared.await?;
            let entry = prepared.commit.entry;
            let key = entry.key(&self.keys, shard, at);
            uploaded.push(key.clone());
            self.transfer.put(&key, &prepared.source, &op).await?;
            self.objects.written(&key, &entry, prepared.source).await;
            bytes += entry.data_bytes;
            new.push(entry);
        }
        op.step("commit");
        let old = plan.old.clone();
        let edit = Edit::Rewrite { at, old, new };
        self.committer.edit(shard, edit).await?;
        let meter = self.ops.meter();
        meter.count(names::UPLOADED_BYTES, bytes);
        meter.count(names::UPLOADED_OBJECTS, uploaded.len() as u64);
        tracing::info!(%at, from = plan.base, to = plan.end, old = plan.old.len(), new = uploaded.len(), bytes, "a compacted log was replaced in the bucket");
        Ok(())
    }
}
