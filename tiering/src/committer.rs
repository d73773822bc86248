//! Changes the roots of a region's shards: claims those that are this daemon's, and is alone in replacing
//! their roots; sends what concerns others to the daemons that own them.
//!
//! One task per shard takes edits from a bounded queue, applies as many as are waiting to a copy, swaps the
//! copy in and re-reads it. Only then are the edits answered and the new root shown to readers. While the
//! store is away an attempt is repeated with the same bytes; it is never given up for another one, because
//! it may still arrive. A shard whose root cannot be believed is quarantined: nothing is committed to it or
//! deleted from it, what was read of it before serves readers on, and the other shards go on.
//!
//! With a view of the fleet, who owns a shard follows from [`place`], and losing one is no error. Without
//! one a daemon claims all, and a shard that is fenced ends its task with an error, and the daemon with it.

mod claims;
mod error;
mod holds;
mod member;
mod meta;
mod older;
mod peers;
mod place;
mod shard;
mod spill;
mod wire;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::future::try_join_all;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;
use whimbrel_fleet::{TopicPartition, View};
use whimbrel_runtime::{Clock, OnError, Tasks};

pub use claims::Claims;
pub use error::CommitError;
pub use member::FOLLOWED_FOR;
pub use older::Names;
pub(crate) use older::newest;
pub(crate) use place::daemons;

use self::{member::Member, peers::Peers};
use crate::{
    Meter,
    format::{Key, Keys, shard_of},
    ops::Ops,
    root::{
        Applied, Commit, Entry, Hold, MAX_BYTES, Partition, Reject, Root, Standing, Truncation,
    },
    runs::Runs,
    store::{Store, StoreError},
};

/// Edits that wait for a shard; uploads are slower than swaps, so more would only hide a stuck store.
const WAITING: usize = 64;

/// One change of a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    Commit(Box<Commit>),
    /// Slices of one merged object. One that is refused does not stop the others.
    CommitAll(Vec<Commit>),
    Truncate {
        at: TopicPartition,
        epoch: i32,
        offset: i64,
        /// Of the first record that is to go.
        tail: i32,
    },
    RaiseLogStart {
        at: TopicPartition,
        said: Standing,
    },
    /// A repaired object in the place of a damaged one.
    Replace {
        at: TopicPartition,
        old: Box<Entry>,
        new: Box<Entry>,
    },
    /// What compaction has left in the place of what was there: all entries up to some end.
    Rewrite {
        at: TopicPartition,
        old: Vec<Entry>,
        new: Vec<Entry>,
    },
    /// The partition's topic was deleted.
    Forget {
        at: TopicPartition,
    },
    /// Objects of ours that nothing refers to: onto the pending list.
    Unlink(Vec<Key>),
    /// Deleted objects: off the pending list.
    Strike(Vec<Key>),
    /// Nothing that is unlinked from now on is deleted. The same again renews it, and changes nothing.
    Hold(Hold),
    /// These holds end.
    Release(Vec<Uuid>),
}

impl Edit {
    /// The entries that it adds.
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        let (one, many, all) = match self {
            Self::Commit(commit) => (Some(&commit.entry), &[][..], &[][..]),
            Self::Replace { new, .. } => (Some(&**new), &[][..], &[][..]),
            Self::CommitAll(commits) => (None, commits.as_slice(), &[][..]),
            Self::Rewrite { new, .. } => (None, &[][..], new.as_slice()),
            _ => (None, &[][..], &[][..]),
        };
        let many = many.iter().map(|c| &c.entry);
        one.into_iter().chain(many).chain(all)
    }
}

/// What came of an edit.
#[derive(Clone, Debug)]
pub enum Outcome {
    Applied(Applied),
    /// What was refused of several commits.
    Committed(Vec<Reject>),
    Truncated(Truncation),
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
    pub region_mates: Option<Mates>,
    /// One cache of runs for all; empty until it is used.
    pub runs: Arc<OnceLock<Runs>>,
    /// One listing for all shards that are claimed at once.
    pub names: Names,
    pub claims: Claims,
    /// After so long without a renewal a hold is void.
    pub hold_silence: Duration,
}

/// How the other daemons of the region are found.
#[derive(Clone, Debug)]
pub struct Mates {
    pub view: watch::Receiver<Arc<View>>,
    /// After so long without an answer a daemon's shards are another's.
    pub silence: Duration,
}

impl Context {
    pub fn runs(&self) -> &Runs {
        self.runs.get_or_init(|| {
            let store = Arc::clone(&self.store);
            Runs::new(
                store,
                self.keys.clone(),
                self.clock.clone(),
                self.ops.clone(),
            )
        })
    }
}

type Reply = oneshot::Sender<Result<Outcome, CommitError>>;

/// An edit on its way to a shard's task.
#[derive(Debug)]
struct Asked {
    edit: Edit,
    reply: Reply,
    /// It came from another daemon, to the owner: it goes no further.
    is_for_owner: bool,
}

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
    edits: mpsc::Sender<Asked>,
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

    /// `None` where what was found is quarantined.
    fn believe<T>(
        &self,
        shard: u16,
        found: Result<T, CommitError>,
    ) -> Result<Option<T>, CommitError> {
        match found {
            Err(error) if error.is_quarantine() => {
                tracing::error!(shard, code = error.code(), %error, "the shard is quarantined");
                self.0.lock().sick = Some(error);
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// The shard takes edits from now on; its task is to answer them.
    fn open(&self, root: Arc<Root>) -> (mpsc::Receiver<Asked>, watch::Sender<Arc<Root>>) {
        let (edits, queue) = mpsc::channel(WAITING);
        let (publish, root) = watch::channel(root);
        *self.0.lock() = State {
            open: Some(OpenShard { edits, root }),
            sick: None,
        };
        (queue, publish)
    }

    /// Where its edits go, unless it is quarantined.
    fn edits(&self) -> Result<mpsc::Sender<Asked>, CommitError> {
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
    /// Who may own the shards besides this daemon.
    peers: Option<Arc<Peers>>,
}

impl Committer {
    /// Starts a task for every shard. Returns when all roots were read, and without region mates claimed.
    pub async fn start(context: &Context) -> Result<Self, CommitError> {
        match &context.region_mates {
            Some(mates) => Self::join(context, mates).await,
            None => Self::claim(context).await,
        }
    }

    async fn join(context: &Context, mates: &Mates) -> Result<Self, CommitError> {
        let peers = Arc::new(Peers::new(
            context.region.clone(),
            context.incarnation,
            mates.view.clone(),
            context.clock.clone(),
            mates.silence,
        ));
        let shards: Vec<Handle> = (0..context.shards).map(|_| Handle::default()).collect();
        let joined = (0..context.shards).zip(&shards);
        try_join_all(joined.map(|(n, handle)| join_one(context, &peers, n, handle))).await?;
        let shards = Arc::new(shards);
        let asking = Arc::clone(&peers).run(context.tasks.shutdown());
        context.tasks.spawn_ok("region mates", asking);
        Ok(Self {
            context: context.clone(),
            shards,
            peers: Some(peers),
        })
    }

    /// Claims every shard and starts its task. The first one is claimed alone: of two daemons that start
    /// at once, one then loses before it has taken anything.
    async fn claim(context: &Context) -> Result<Self, CommitError> {
        let shards: Vec<Handle> = (0..context.shards).map(|_| Handle::default()).collect();
        if let Some(first) = shards.first() {
            claim_one(context, 0, first).await?;
        }
        let rest = (0..context.shards).zip(&shards).skip(1);
        try_join_all(rest.map(|(n, handle)| claim_one(context, n, handle))).await?;
        Ok(Self {
            context: context.clone(),
            shards: Arc::new(shards),
            peers: None,
        })
    }

    /// How long a hold stands that nobody renews.
    pub fn hold_silence_ms(&self) -> u64 {
        u64::try_from(self.context.hold_silence.as_millis()).unwrap_or(u64::MAX)
    }

    /// Reader of older entries.
    pub fn runs(&self) -> &Runs {
        self.context.runs()
    }

    /// Claims a quarantined shard again, after its root was mended.
    pub async fn reopen(&self, shard: u16) -> Result<(), CommitError> {
        match self.shards.get(usize::from(shard)) {
            Some(handle) if handle.sick().is_some() => {
                match &self.peers {
                    Some(peers) => join_one(&self.context, peers, shard, handle).await?,
                    None => claim_one(&self.context, shard, handle).await?,
                }
                handle.sick().map_or(Ok(()), Err)
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn meter(&self) -> &Meter {
        self.context.ops.meter()
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

    /// The newest root of a shard that this daemon read, or swapped in and read back.
    pub fn root(&self, shard: u16) -> Option<Arc<Root>> {
        self.shards.get(usize::from(shard))?.root()
    }

    pub fn roots(&self) -> Vec<Arc<Root>> {
        self.shards.iter().filter_map(Handle::root).collect()
    }

    /// The root that is in the bucket now, asked for once, if it is newer and can be believed.
    pub async fn newer_root(&self, than: &Root) -> Result<Option<Arc<Root>>, Arc<StoreError>> {
        let key = self.context.keys.root(than.shard);
        let found = match self.context.store.get(&key, MAX_BYTES).await {
            Ok(found) => found,
            Err(StoreError::TooLarge { .. }) => return Ok(None),
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(Arc::new(error)),
        };
        let same = |root: &Root| root.is_of(&than.region, than.shard, than.shards);
        let root = Root::decode(&found.bytes).ok();
        let newer = root.filter(|root| same(root) && root.stamp.number() > than.stamp.number());
        Ok(newer.map(Arc::new))
    }

    /// The root of a shard that may be written to.
    ///
    /// # Errors
    /// Why it may not, or not from here.
    pub fn open_root(&self, shard: u16) -> Result<Arc<Root>, CommitError> {
        if let Some(error) = self.sick(shard) {
            return Err(error);
        }
        let root = self.root(shard).ok_or(CommitError::Stopping)?;
        if !self.is_open(shard) {
            return Err(CommitError::Elsewhere { shard });
        }
        Ok(root)
    }

    /// The root that a partition belongs to, for one whole fetch.
    pub fn root_of(&self, at: TopicPartition) -> Option<Arc<Root>> {
        self.root(self.shard_of(at))
    }

    pub fn partition(&self, at: TopicPartition) -> Option<Partition> {
        self.root_of(at)?.partitions.get(&at).cloned()
    }

    /// True while an edit of the shard would be taken, as far as is known: nothing is uploaded for one that
    /// nobody owns.
    pub fn is_open(&self, shard: u16) -> bool {
        let owner = self.root(shard).map(|root| root.stamp.incarnation);
        match &self.peers {
            Some(peers) => peers.is_open(shard, owner),
            None => true,
        }
    }

    /// Makes an edit and returns once it is in the bucket, or refused. Waits while the store is away.
    pub async fn edit(&self, shard: u16, edit: Edit) -> Result<Outcome, CommitError> {
        self.ask(shard, edit, false).await
    }

    /// The same for an edit that another daemon sends, which must find the owner here.
    pub async fn edit_as_owner(&self, shard: u16, bytes: &[u8]) -> Result<Vec<u8>, CommitError> {
        let edit = wire::decode_edit(bytes).map_err(|error| Reject::ByOwner {
            at: None,
            reason: format!("an edit that cannot be read: {error}"),
        })?;
        wire::encode_outcome(&self.ask(shard, edit, true).await)
    }

    async fn ask(
        &self,
        shard: u16,
        edit: Edit,
        is_for_owner: bool,
    ) -> Result<Outcome, CommitError> {
        let handle = self
            .shards
            .get(usize::from(shard))
            .ok_or(CommitError::Stopping)?;
        let ended = || handle.sick().unwrap_or(CommitError::Stopping);
        let edits = handle.edits()?;
        let (reply, answer) = oneshot::channel();
        let asked = Asked {
            edit,
            reply,
            is_for_owner,
        };
        edits.send(asked).await.map_err(|_| ended())?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}

/// Claims a shard and starts its task; one whose root cannot be believed is quarantined instead.
async fn claim_one(context: &Context, shard: u16, handle: &Handle) -> Result<(), CommitError> {
    let claimed = shard::Owned::claim(context.clone(), shard).await;
    let Some(mut owned) = handle.believe(shard, claimed)? else {
        return Ok(());
    };
    let (mut queue, publish) = handle.open(owned.root());
    start(context, shard, handle, async move {
        owned.run(&mut queue, &publish, || true).await
    });
    Ok(())
}

/// Reads a shard's root and starts its task, among the region's other daemons.
async fn join_one(
    context: &Context,
    peers: &Arc<Peers>,
    shard: u16,
    handle: &Handle,
) -> Result<(), CommitError> {
    let member = Member {
        context: context.clone(),
        peers: Arc::clone(peers),
        shard,
    };
    let read = member.read().await;
    let Some(root) = handle.believe(shard, read)? else {
        return Ok(());
    };
    let (queue, publish) = handle.open(root);
    start(context, shard, handle, member.run(queue, publish));
    Ok(())
}

fn start(
    context: &Context,
    shard: u16,
    handle: &Handle,
    task: impl Future<Output = Result<(), CommitError>> + Send + 'static,
) {
    let (name, told) = (format!("shard {shard}"), handle.clone());
    context.tasks.spawn(name, OnError::Shutdown, async move {
        match task.await {
            Err(error) if error.is_quarantine() => {
                // Its last root, which it read itself, serves readers on.
                told.0.lock().sick = Some(error);
                Ok(())
            }
            ended => ended,
        }
    });
}
