//! Owns the shards of a region: claims them, and is alone in replacing their roots.
//!
//! One task per shard takes edits from a bounded queue, applies as many as are waiting to a copy, swaps the
//! copy in and re-reads it. Only then are the edits answered and the new root shown to readers. While the
//! store is away an attempt is repeated with the same bytes; it is never given up for another one, because
//! it may still arrive. A shard that is fenced ends its task with an error, and the daemon with it.

mod shard;

use std::sync::Arc;

use futures::future::try_join_all;
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;
use whimbrel_fleet::TopicPartition;
use whimbrel_runtime::{Clock, OnError, Tasks};

use crate::{
    format::{FormatError, Key, Keys, shard_of},
    ops::Ops,
    root::{Applied, Commit, Partition, Reject, Root, Truncation},
    store::{Store, StoreError},
};

/// Edits that wait for a shard; uploads are slower than swaps, so more would only hide a stuck store.
const WAITING: usize = 64;

/// One change of a root.
#[derive(Clone, Debug)]
pub enum Edit {
    Commit(Box<Commit>),
    Truncate {
        at: TopicPartition,
        epoch: i32,
        offset: i64,
    },
    RaiseLogStart {
        at: TopicPartition,
        log_start: i64,
    },
    /// Objects of ours that nothing refers to: onto the pending list.
    Unlink(Vec<Key>),
    /// Deleted objects: off the pending list.
    Strike(Vec<Key>),
}

/// What came of an edit.
#[derive(Clone, Debug)]
pub enum Outcome {
    Applied(Applied),
    Truncated(Truncation),
}

/// Why a shard cannot be owned or changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    #[error("shard {shard}: a later owner in epoch {epoch} has taken over")]
    Fenced { shard: u16, epoch: u64 },
    #[error("shard {shard}: another daemon writes in our epoch")]
    TwoOfOneIdentity { shard: u16 },
    #[error("shard {shard}: the root is gone, older than it was, or damaged")]
    WentBack { shard: u16 },
    #[error("shard {shard}: the root cannot be read: {reason}")]
    Damaged { shard: u16, reason: FormatError },
    #[error("shard {shard}: the root is of {found}, not of {expected}")]
    Foreign {
        shard: u16,
        found: String,
        expected: String,
    },
    #[error("shard {shard}: {bytes} bytes of root are more than a root may have")]
    Full { shard: u16, bytes: usize },
    #[error(transparent)]
    Rejected(#[from] Reject),
    #[error("shard {shard}: {reason}")]
    Store { shard: u16, reason: Arc<StoreError> },
    #[error("the daemon is stopping")]
    Stopping,
}

impl CommitError {
    /// The operator code, where somebody has to act.
    pub fn code(&self) -> Option<&'static str> {
        match self {
            Self::Fenced { .. } => Some("WB-310"),
            Self::TwoOfOneIdentity { .. } => Some("WB-311"),
            Self::WentBack { .. } | Self::Damaged { .. } | Self::Foreign { .. } => Some("WB-312"),
            Self::Full { .. } => Some("WB-313"),
            Self::Rejected(_) => Some("WB-314"),
            Self::Store { .. } | Self::Stopping => None,
        }
    }

    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Store { reason, .. } if reason.is_retryable())
    }
}

/// What the shards' tasks work with.
#[derive(Clone, Debug)]
pub struct Context {
    pub store: Arc<dyn Store>,
    pub keys: Keys,
    pub region: String,
    pub incarnation: Uuid,
    pub shards: u16,
    pub clock: Clock,
    pub tasks: Tasks,
    pub ops: Ops,
}

type Reply = oneshot::Sender<Result<Outcome, CommitError>>;

#[derive(Clone, Debug)]
struct Handle {
    edits: mpsc::Sender<(Edit, Reply)>,
    root: watch::Receiver<Arc<Root>>,
}

/// Handle of all shards' tasks.
#[derive(Clone, Debug)]
pub struct Committer {
    shards: Arc<Vec<Handle>>,
}

impl Committer {
    /// Claims every shard and starts its task. The first one is claimed alone: of two daemons that start
    /// at once, one then loses before it has taken anything.
    pub async fn claim(context: &Context) -> Result<Self, CommitError> {
        let mut owned = vec![shard::Owned::claim(context.clone(), 0).await?];
        owned.extend(
            try_join_all((1..context.shards).map(|n| shard::Owned::claim(context.clone(), n)))
                .await?,
        );
        let shards = owned.into_iter().map(|owned| {
            let (edits, queue) = mpsc::channel(WAITING);
            let (publish, root) = watch::channel(owned.root());
            let name = format!("shard {}", owned.number());
            context
                .tasks
                .spawn(name, OnError::Shutdown, owned.run(queue, publish));
            Handle { edits, root }
        });
        Ok(Self {
            shards: Arc::new(shards.collect()),
        })
    }

    pub fn shard_of(&self, at: TopicPartition) -> u16 {
        shard_of(at, u16::try_from(self.shards.len()).unwrap_or(u16::MAX))
    }

    /// The newest root of a shard that this daemon swapped in and read back.
    pub fn root(&self, shard: u16) -> Option<Arc<Root>> {
        self.shards
            .get(usize::from(shard))
            .map(|s| Arc::clone(&s.root.borrow()))
    }

    pub fn roots(&self) -> Vec<Arc<Root>> {
        self.shards
            .iter()
            .map(|s| Arc::clone(&s.root.borrow()))
            .collect()
    }

    /// The root that a partition belongs to, for one whole fetch.
    pub fn root_of(&self, at: TopicPartition) -> Option<Arc<Root>> {
        self.root(self.shard_of(at))
    }

    pub fn partition(&self, at: TopicPartition) -> Option<Partition> {
        self.root_of(at)?.partitions.get(&at).cloned()
    }

    /// Makes an edit and returns once it is in the bucket, or refused. Waits while the store is away.
    pub async fn edit(&self, shard: u16, edit: Edit) -> Result<Outcome, CommitError> {
        let handle = self
            .shards
            .get(usize::from(shard))
            .ok_or(CommitError::Stopping)?;
        let (reply, answer) = oneshot::channel();
        handle
            .edits
            .send((edit, reply))
            .await
            .map_err(|_| CommitError::Stopping)?;
        answer.await.unwrap_or(Err(CommitError::Stopping))
    }
}
