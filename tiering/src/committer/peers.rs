//! The region's other daemons: whether they answer, and edits sent to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;
use whimbrel_fleet::View;
use whimbrel_rpc::proto::node::{self, tiering_client::TieringClient};
use whimbrel_runtime::{Clock, Shutdown};

use super::{
    CommitError, Edit, Outcome,
    place::{Peer, Place, peers, place},
    wire,
};

/// How often the others are asked whether they are there.
const PERIOD: Duration = Duration::from_secs(1);
/// A daemon answers that in a moment, or not at all.
const PATIENCE: Duration = Duration::from_secs(2);
/// Three questions and what their answers may take.
const LATELY: Duration = Duration::from_secs(5);
/// An edit is answered once a root was swapped and read again; the owner goes on after that, and whoever
/// asked finds out from the root.
const DEADLINE: Duration = Duration::from_secs(60);

type Stub = TieringClient<Channel>;

#[derive(Debug)]
pub struct Peers {
    region: String,
    me: Uuid,
    view: watch::Receiver<Arc<View>>,
    clock: Clock,
    /// After so long without an answer a daemon's shards are another's.
    silence: Duration,
    stubs: Mutex<BTreeMap<Uuid, Stub>>,
    /// When each of the others answered last, or was seen first.
    heard_ns: watch::Sender<BTreeMap<Uuid, u64>>,
    /// When all were asked last whose answers are in, or will not come.
    asked_ns: AtomicU64,
}

impl Peers {
    pub fn new(
        region: String,
        me: Uuid,
        view: watch::Receiver<Arc<View>>,
        clock: Clock,
        silence: Duration,
    ) -> Self {
        Self {
            region,
            me,
            view,
            clock,
            silence,
            stubs: Mutex::default(),
            heard_ns: watch::Sender::new(BTreeMap::new()),
            asked_ns: AtomicU64::new(0),
        }
    }

    /// Asks all others, again and again, until shutdown.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) {
        loop {
            let others = peers(&self.view.borrow(), &self.region, self.me);
            let now = self.clock.boot_ns();
            let known: BTreeSet<Uuid> = others.iter().map(|p| p.incarnation).collect();
            self.stubs.lock().retain(|id, _| known.contains(id));
            self.heard_ns.send_modify(|heard| {
                heard.retain(|id, _| known.contains(id));
                for id in known {
                    heard.entry(id).or_insert(now);
                }
            });
            let mut answers: FuturesUnordered<_> =
                others.iter().map(|peer| self.is_alive(peer)).collect();
            while let Some(Some(id)) = shutdown.unless(answers.next()).await {
                if let Some(id) = id {
                    let now = self.clock.boot_ns();
                    self.heard_ns.send_modify(|heard| {
                        heard.insert(id, now);
                    });
                }
            }
            drop(answers);
            // Where this process was paused meanwhile, answers may have come too late for it alone.
            let took_ns = self.clock.boot_ns().saturating_sub(now);
            if u128::from(took_ns) < LATELY.as_nanos() {
                self.asked_ns.store(now, Ordering::Relaxed);
            }
            if shutdown.unless(self.clock.sleep(PERIOD)).await.is_none() {
                return;
            }
        }
    }

    async fn is_alive(&self, peer: &Peer) -> Option<Uuid> {
        let mut stub = self.stub(peer)?;
        let asked = stub.alive(node::Empty {});
        let answer = self.clock.within(PATIENCE, asked).await?;
        answer.ok().map(|_| peer.incarnation)
    }

    /// Where `shard` belongs now, when `owner` wrote its root last. Nobody is silent who was not asked: after a pause
    /// of this process the others are asked before their shards are taken for it.
    pub fn place(&self, shard: u16, owner: Option<Uuid>) -> Place {
        let asked = self.asked_ns.load(Ordering::Relaxed);
        let limit = u64::try_from(self.silence.as_nanos()).unwrap_or(u64::MAX);
        let silent: BTreeSet<Uuid> = {
            let heard = self.heard_ns.borrow();
            let is_silent = |(_, at): &(&Uuid, &u64)| asked.saturating_sub(**at) > limit;
            heard.iter().filter(is_silent).map(|(id, _)| *id).collect()
        };
        let view = self.view.borrow();
        place(shard, owner, (&self.region, self.me), &view, &silent)
    }

    /// True when the owner of `shard` is in its place and answered lately.
    pub fn is_open(&self, shard: u16, owner: Option<Uuid>) -> bool {
        match self.place(shard, owner) {
            Place::Mine => owner == Some(self.me),
            Place::Theirs(peer) => {
                let heard = self.heard_ns.borrow().get(&peer.incarnation).copied();
                let age_ns = heard.map(|at| self.clock.boot_ns().saturating_sub(at));
                owner == Some(peer.incarnation)
                    && age_ns.is_some_and(|age| u128::from(age) < LATELY.as_nanos())
            }
            Place::Vacant => false,
        }
    }

    /// Asks the owner of `shard` for an edit. Doubt is an error that is tried again.
    pub async fn edit(&self, peer: &Peer, shard: u16, edit: &Edit) -> Result<Outcome, CommitError> {
        let elsewhere = || CommitError::Elsewhere { shard };
        let mut stub = self.stub(peer).ok_or_else(elsewhere)?;
        let request = node::EditRequest {
            shard: shard.into(),
            edit: wire::encode_edit(edit).into(),
        };
        let answer = self.clock.within(DEADLINE, stub.edit(request)).await;
        let reply = match answer {
            Some(Ok(reply)) => reply.into_inner(),
            Some(Err(status)) => {
                tracing::debug!(shard, owner = %peer.rpc, %status, "the shard's owner did not take an edit");
                return Err(elsewhere());
            }
            None => return Err(elsewhere()),
        };
        wire::decode_outcome(shard, &reply.outcome).unwrap_or_else(|error| {
            tracing::warn!(shard, owner = %peer.rpc, %error, "an answer that cannot be read");
            Err(elsewhere())
        })
    }

    fn stub(&self, peer: &Peer) -> Option<Stub> {
        let mut stubs = self.stubs.lock();
        if let Some(known) = stubs.get(&peer.incarnation) {
            return Some(known.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{}", peer.rpc)).ok()?;
        let channel = endpoint
            .connect_timeout(PATIENCE)
            .tcp_nodelay(true)
            .connect_lazy();
        let stub = TieringClient::new(channel);
        stubs.insert(peer.incarnation, stub.clone());
        Some(stub)
    }
}
