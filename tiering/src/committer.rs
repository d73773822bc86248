//! Owns the shards of a region: claims them, and is alone in replacing their roots.
//!
//! One task per shard takes edits from a bounded queue, applies as many as are waiting to a copy, swaps the
//! copy in and re-reads it. Only then are the edits answered and the new root shown to readers. While the
//! store is away an attempt is repeated with the same bytes; it is never given up for another one, because
//! it may still arrive. A shard that is fenced ends its task with an error, and the daemon with it. A shard
//! whose root cannot be believed is quarantined: nothing is committed to it or deleted from it, what was read
//! of it before serves readers on, and the other shards go on.

mod shard;

use std::sync::Arc;

use futures::future::try_join_all;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;
use whimbrel_fleet::TopicPartition;
use whimbrel_runtime::{Clock, OnError, Tasks};

use crate::{
    format::{FormatError, Key, Keys, shard_of},
    ops::Ops,
    root::{Applied, Commit, Entry, Partition, Reject, Root, Truncation},
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
    /// A repaired object in the place of a damaged one.
    Replace {
        at: TopicPartition,
        old: Box<Entry>,
        new: Box<Entry>,
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

    /// The root is gone, older or not to be believed: the shard rests, and the others go on.
    pub fn is_quarantine(&self) -> bool {
        matches!(
            self,
            Self::WentBack { .. } | Self::Damaged { .. } | Self::Foreign { .. }
        )
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

/// One shard as the rest of the daemon sees it. Clones share it.
#[derive(Clone, Debug, Default)]
struct Handle(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// `None`: its root was not believed at the start.
    open: Option<OpenShard>,
    /// Why it is quarantined.
    sick: Option<CommitError>,
}

#[derive(Clone, Debug)]
struct OpenShard {
    edits: mpsc::Sender<(Edit, Reply)>,
    root: watch::Receiver<Arc<Root>>,
}

impl Handle {
    fn root(&self) -> Option<Arc<Root>> {
        let state = self.0.lock();
        state
            .open
            .as_ref()
            .map(|open| Arc::clone(&open.root.borrow()))
    }

    fn sick(&self) -> Option<CommitError> {
        self.0.lock().sick.clone()
    }

    /// Where its edits go, unless it is quarantined.
    fn edits(&self) -> Result<mpsc::Sender<(Edit, Reply)>, CommitError> {
        let state = self.0.lock();
        match (&state.sick, &state.open) {
            (Some(sick), _) => Err(sick.clone()),
            (None, Some(open)) => Ok(open.edits.clone()),
            (None, None) => Err(CommitError::Stopping),
        }
    }
}

/// Handle of all shards' tasks.
#[derive(Clone, Debug)]
pub struct Committer {
    context: Context,
    shards: Arc<Vec<Handle>>,
}

impl Committer {
    /// Claims every shard and starts its task. The first one is claimed alone: of two daemons that start
    /// at once, one then loses before it has taken anything.
    pub async fn claim(context: &Context) -> Result<Self, CommitError> {
        let shards: Vec<Handle> = (0..context.shards).map(|_| Handle::default()).collect();
        if let Some(first) = shards.first() {
            claim_one(context, 0, first).await?;
        }
        let rest = (0..context.shards).zip(&shards).skip(1);
        try_join_all(rest.map(|(n, handle)| claim_one(context, n, handle))).await?;
        Ok(Self {
            context: context.clone(),
            shards: Arc::new(shards),
        })
    }

    /// Claims a quarantined shard again, after its root was mended.
    pub async fn reopen(&self, shard: u16) -> Result<(), CommitError> {
        match self.shards.get(usize::from(shard)) {
            Some(handle) if handle.sick().is_some() => {
                claim_one(&self.context, shard, handle).await?;
                handle.sick().map_or(Ok(()), Err)
            }
            _ => Ok(()),
        }
    }

    pub fn shard_of(&self, at: TopicPartition) -> u16 {
        shard_of(at, self.shards())
    }

    pub fn shards(&self) -> u16 {
        u16::try_from(self.shards.len()).unwrap_or(u16::MAX)
    }

    /// Why a shard is quarantined, if it is.
    pub fn sick(&self, shard: u16) -> Option<CommitError> {
        self.shards.get(usize::from(shard)).and_then(Handle::sick)
    }

    /// The newest root of a shard that this daemon swapped in and read back.
    pub fn root(&self, shard: u16) -> Option<Arc<Root>> {
        self.shards.get(usize::from(shard))?.root()
    }

    pub fn roots(&self) -> Vec<Arc<Root>> {
        self.shards.iter().filter_map(Handle::root).collect()
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
        let ended = || handle.sick().unwrap_or(CommitError::Stopping);
        let edits = handle.edits()?;
        let (reply, answer) = oneshot::channel();
        edits.send((edit, reply)).await.map_err(|_| ended())?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}

/// Claims a shard and starts its task; one whose root cannot be believed is quarantined instead.
async fn claim_one(context: &Context, shard: u16, handle: &Handle) -> Result<(), CommitError> {
    let owned = match shard::Owned::claim(context.clone(), shard).await {
        Ok(owned) => owned,
        Err(error) if error.is_quarantine() => {
            tracing::error!(shard, code = error.code(), %error, "the shard is quarantined");
            handle.0.lock().sick = Some(error);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let (edits, queue) = mpsc::channel(WAITING);
    let (publish, root) = watch::channel(owned.root());
    *handle.0.lock() = State {
        open: Some(OpenShard { edits, root }),
        sick: None,
    };
    let (name, told) = (format!("shard {shard}"), handle.clone());
    context.tasks.spawn(name, OnError::Shutdown, async move {
        match owned.run(queue, publish).await {
            Err(error) if error.is_quarantine() => {
                // Its last root, which it read itself, serves readers on.
                told.0.lock().sick = Some(error);
                Ok(())
            }
            ended => ended,
        }
    });
    Ok(())
}
