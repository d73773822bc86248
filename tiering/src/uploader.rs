//! Moves what the broker offers into the bucket: prove, stream, verify, commit, report, release.
//!
//! It keeps nothing of its own: what is uploaded is what the roots say, so after a crash at any step it
//! begins with the roots again. An object that was uploaded and not committed stays unnamed and is swept
//! by the next owner of its shard.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use parking_lot::Mutex;
use uuid::Uuid;
use whimbrel_fleet::TopicPartition;
use whimbrel_rpc::proto::node;
use whimbrel_runtime::{Backoff, Clock, Tasks, random};

use crate::{
    broker::{BadSlice, BrokerLink, partition_from, slice_from},
    committer::{CommitError, Committer, Edit, Outcome},
    format::{Keys, MergedName},
    metrics as names,
    ops::Ops,
    pending::{Pending, extents},
    prepare::{PrepareError, Slice, Writer, merge, prepare},
    reader::Objects,
    root::Root,
    transfer::{Transfer, TransferError},
};

/// Slices asked for at once, and partitions uploaded side by side.
const SLICES: u32 = 16;
const SIDE_BY_SIDE: usize = 4;
const WAIT_MS: u32 = 5_000;

/// A partition whose slices are refused, and why; gone once one was uploaded.
pub type Refusals = Arc<Mutex<BTreeMap<TopicPartition, String>>>;

#[derive(Clone, Debug)]
pub struct Uploader {
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
    pub pending: Arc<Mutex<Pending>>,
    pub refusals: Refusals,
    pub objects: Objects,
}

/// Why a slice was not uploaded. It is offered again.
#[derive(Debug, thiserror::Error)]
enum UploadError {
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    #[error(transparent)]
    Transfer(#[from] TransferError),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl UploadError {
    fn code(&self) -> Option<&'static str> {
        match self {
            Self::Prepare(PrepareError::Aborted { .. }) => Some("WB-318"),
            Self::Prepare(_) => Some("WB-315"),
            Self::Transfer(_) => Some("WB-317"),
            Self::Commit(e) => e.code(),
        }
    }
}

impl Uploader {
    /// Runs until shutdown, or until a shard is lost.
    pub async fn run(self) -> Result<(), CommitError> {
        let shutdown = self.tasks.shutdown();
        let mut pause = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        while !shutdown.requested() {
            match shutdown.unless(self.round()).await {
                None => return Ok(()),
                Some(Ok(0)) => {}
                Some(Ok(_)) => pause.reset(),
                Some(Err(RoundError::Commit(error)))
                    if !matches!(error, CommitError::Rejected(_))
                        && !error.is_retryable()
                        && !error.is_quarantine() =>
                {
                    return Err(error);
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "uploading goes on later");
                    let _ = shutdown.unless(self.clock.sleep(pause.next())).await;
                }
            }
        }
        Ok(())
    }

    /// One request for slices and what came of it; the number uploaded. Reports before it asks, so that a
    /// broker that has started again learns what it may free.
    async fn round(&self) -> Result<usize, RoundError> {
        let tiered = extents(&self.committer);
        self.broker.tiered(tiered.clone()).await?;
        let request = node::UploadableRequest {
            tiered,
            max_slices: SLICES,
            wait_ms: WAIT_MS,
            pending_only: false,
        };
        let offered = self.broker.uploadable(request).await?;
        self.pending.lock().replace(&offered.pending);
        if offered.slices.is_empty() {
            return Ok(0);
        }
        // Slices of a quarantined shard stay pinned, so that they are not offered again and again in the place
        // of others.
        let rests = |slice: &&node::Slice| {
            partition_from(slice.at.as_ref())
                .and_then(|at| self.committer.sick(self.committer.shard_of(at)))
                .is_some()
        };
        let pinned = offered.slices.iter().filter(|s| s.inline.is_empty());
        let tokens: Vec<_> = pinned.filter(|s| !rests(s)).map(|s| s.token).collect();
        let uploaded = self.upload_all(&offered.slices).await;
        // The root was read back before the commit was answered: what is reported is in the bucket.
        self.broker.tiered(extents(&self.committer)).await?;
        self.broker.release(tokens).await?;
        uploaded
    }

    /// Partitions side by side, the slices of one in order; then what is small, shard by shard.
    async fn upload_all(&self, slices: &[node::Slice]) -> Result<usize, RoundError> {
        let mut chains: BTreeMap<TopicPartition, Vec<Slice>> = BTreeMap::new();
        let mut small: BTreeMap<u16, Vec<Slice>> = BTreeMap::new();
        let (mut refused, mut refused_from) = (None, BTreeMap::new());
        for slice in slices {
            match slice_from(slice, &self.data_dir) {
                Ok(slice) if slice.inline.is_empty() => {
                    chains.entry(slice.at).or_default().push(slice);
                }
                Ok(slice) => {
                    let shard = self.committer.shard_of(slice.at);
                    small.entry(shard).or_default().push(slice);
                }
                Err(error) => {
                    if let Some(at) = partition_from(slice.at.as_ref()) {
                        let from = refused_from.entry(at).or_insert(slice.base_offset);
                        *from = slice.base_offset.min(*from);
                    }
                    refused = Some(error);
                }
            }
        }
        // A first commit may begin anywhere: behind what was refused it would pass for all there is.
        let waits = |slice: &Slice| {
            refused_from
                .get(&slice.at)
                .is_some_and(|from| slice.base >= *from)
        };
        for slices in chains.values_mut().chain(small.values_mut()) {
            slices.retain(|slice| !waits(slice));
        }
        let mut done = stream::iter(chains)
            .map(|(at, chain)| self.upload_chain(at, chain))
            .buffer_unordered(SIDE_BY_SIDE);
        let (mut uploaded, mut failed) = (0, None);
        while let Some(chain) = done.next().await {
            match chain {
                Ok(count) => uploaded += count,
                Err(error) => failed = Some(error),
            }
        }
        let mut done = stream::iter(small)
            .map(|(shard, slices)| self.upload_merged(shard, slices))
            .buffer_unordered(SIDE_BY_SIDE);
        while let Some(shard) = done.next().await {
            match shard {
                Ok(count) => uploaded += count,
                Err(error) => failed = Some(error),
            }
        }
        match (failed, refused) {
            (Some(error), _) => Err(error.into()),
            (None, Some(error)) => Err(error.into()),
            (None, None) => Ok(uploaded),
        }
    }

    async fn upload_chain(
        &self,
        at: TopicPartition,
        mut chain: Vec<Slice>,
    ) -> Result<usize, UploadError> {
        chain.sort_by_key(|slice| slice.base);
        let count = chain.len();
        for slice in chain {
            if let Err(error) = self.upload(slice).await {
                self.refuse(at, &error);
                return Err(error);
            }
        }
        self.refusals.lock().remove(&at);
        Ok(count)
    }

    /// Small slices of one shard: one object, one swap. The number of slices.
    async fn upload_merged(
        &self,
        shard: u16,
        mut slices: Vec<Slice>,
    ) -> Result<usize, UploadError> {
        let root = self.committer.open_root(shard)?;
        let held = |slice: &Slice| root.partitions.get(&slice.at).map(|p| p.end);
        // What follows a slice that was not uploaded would be a gap.
        slices.retain(|slice| held(slice).is_none_or(|end| end < slice.end));
        slices.sort_by_key(|slice| (slice.at, slice.base));
        let (Some(first), count) = (slices.first(), slices.len()) else {
            return Ok(0);
        };
        if count == 1 {
            let at = first.at;
            return self.upload_chain(at, slices).await;
        }
        let what = format!("{count} slices of shard {shard}");
        let op = self.ops.begin("read slices", &what);
        let (writer, epoch) = (self.writer(&root), root.stamp.epoch);
        let name = MergedName {
            shard,
            writer_epoch: epoch,
            random: writer.random,
        };
        let (merged, refused) = self.tasks.blocking(move || merge(&slices, &writer)).await;
        for error in refused {
            self.refuse(error.at(), &error.into());
        }
        let Some(merged) = merged else { return Ok(0) };
        let key = self.keys.merged(&name);
        self.transfer.put(&key, &merged.source, &op).await?;
        op.step("commit");
        let all: Vec<_> = merged.commits.iter().map(|c| c.at).collect();
        let bytes = merged.commits.iter().map(|c| c.entry.data_bytes).sum();
        let edit = Edit::CommitAll(merged.commits);
        let rejects = match self.committer.edit(shard, edit).await {
            Ok(Outcome::Committed(rejects)) => rejects,
            Ok(_) => Vec::new(),
            Err(error) => {
                if matches!(error, CommitError::Full { .. }) {
                    self.committer.edit(shard, Edit::Unlink(vec![key])).await?;
                }
                return Err(error.into());
            }
        };
        for at in &all {
            self.refusals.lock().remove(at);
        }
        if rejects.len() == all.len() {
            // Nothing will ever name it.
            self.committer.edit(shard, Edit::Unlink(vec![key])).await?;
        }
        let committed = all.len() - rejects.len();
        for reject in rejects {
            if let Some(at) = reject.at() {
                self.refuse(at, &CommitError::Rejected(reject).into());
            }
        }
        let meter = self.ops.meter();
        meter.count(names::UPLOADED_BYTES, bytes);
        meter.count(names::UPLOADED_OBJECTS, 1);
        Ok(committed)
    }

    fn refuse(&self, at: TopicPartition, error: &UploadError) {
        tracing::error!(code = error.code(), %at, %error, "a slice was not uploaded");
        let code = error.code().unwrap_or("retrying");
        self.refusals.lock().insert(at, format!("{code}: {error}"));
    }

    fn writer(&self, root: &Root) -> Writer {
        Writer {
            region: self.region.clone(),
            incarnation: self.incarnation,
            epoch: root.stamp.epoch,
            random: random::u64(),
            now_ms: self.clock.wall_ms(),
        }
    }

    async fn upload(&self, slice: Slice) -> Result<(), UploadError> {
        let shard = self.committer.shard_of(slice.at);
        let root = self.committer.open_root(shard)?;
        if root
            .partitions
            .get(&slice.at)
            .is_some_and(|p| p.end >= slice.end && p.start() <= slice.base)
        {
            return Ok(());
        }
        let writer = self.writer(&root);
        let op = self.ops.begin(
            "read slice",
            &format!("{} {}..{}", slice.at, slice.base, slice.end),
        );
        let prepared = self
            .tasks
            .blocking(move || prepare(&slice, &writer))
            .await?;
        let (entry, at) = (prepared.commit.entry, prepared.commit.at);
        let key = entry.key(&self.keys, shard, at);
        self.transfer.put(&key, &prepared.source, &op).await?;
        op.step("commit");
        if let Err(error) = self
            .committer
            .edit(shard, Edit::Commit(Box::new(prepared.commit)))
            .await
        {
            if matches!(error, CommitError::Rejected(_) | CommitError::Full { .. }) {
                // Refused before anything was written: nothing will ever name the object.
                self.committer.edit(shard, Edit::Unlink(vec![key])).await?;
            }
            return Err(error.into());
        }
        self.objects.written(&key, &entry, prepared.source).await;
        let meter = self.ops.meter();
        meter.count(names::UPLOADED_BYTES, entry.data_bytes);
        meter.count(names::UPLOADED_OBJECTS, 1);
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error("broker: {0}")]
    Broker(#[from] Box<tonic::Status>),
    #[error(transparent)]
    Slice(#[from] BadSlice),
    #[error(transparent)]
    Upload(UploadError),
    #[error(transparent)]
    Commit(CommitError),
}

impl From<tonic::Status> for RoundError {
    fn from(status: tonic::Status) -> Self {
        Self::Broker(Box::new(status))
    }
}

impl From<UploadError> for RoundError {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Commit(error) => Self::Commit(error),
            other => Self::Upload(other),
        }
    }
}
