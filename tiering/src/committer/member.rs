//! One shard as this daemon has it: owned while the rule says so, else followed.
//!
//! Who follows reads the root from the bucket now and then, and sends edits to the owner; it answers them
//! only after it has read a root that may hold them. Losing a shard to another daemon of the region is no
//! error here: what was asked for meanwhile is asked again.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::sync::{mpsc, watch};
use whimbrel_runtime::random;

use super::{
    Asked, CommitError, Context, WAITING,
    peers::Peers,
    place::{Peer, Place},
    shard::{Owned, find},
};
use crate::root::{Claim, Root, claim};

/// How old the root of a shard that another daemon owns may be. Local bytes are freed by what it says, so
/// later is only later; a reader that needs more than it says has it on disk.
const REFRESH: Duration = Duration::from_secs(5);
/// How often it is looked whether the shard belongs elsewhere now.
const LOOK: Duration = Duration::from_millis(500);
/// Age of a followed root when the next one is asked for; it takes a request more until that is there.
pub const FOLLOWED_FOR: Duration = REFRESH.saturating_add(LOOK);
/// After a claim was overtaken: until then this daemon's view shows who did it.
const OVERTAKEN: Duration = Duration::from_secs(1);

pub(super) struct Member {
    pub(super) context: Context,
    pub(super) peers: Arc<Peers>,
    pub(super) shard: u16,
}

impl Member {
    /// The root as it is in the bucket; one that nobody has written yet is empty and nobody's.
    pub(super) async fn read(&self) -> Result<Arc<Root>, CommitError> {
        let found = find(&self.context, self.shard).await?;
        Ok(Arc::new(found.unwrap_or_else(|| {
            let nobody = Claim {
                incarnation: uuid::Uuid::nil(),
                nonce: random::uuid(),
                region: &self.context.region,
                shard: self.shard,
                shards: self.context.shards,
                now_ms: self.context.clock.wall_ms(),
            };
            let mut root = claim(None, &nobody);
            root.stamp.epoch = 0;
            root
        })))
    }

    pub(super) async fn run(
        self,
        mut queue: mpsc::Receiver<Asked>,
        publish: watch::Sender<Arc<Root>>,
    ) -> Result<(), CommitError> {
        let shutdown = self.context.tasks.shutdown();
        while !shutdown.requested() {
            let owner = publish.borrow().stamp.incarnation;
            let place = self.peers.place(self.shard, Some(owner));
            let done = if place == Place::Mine {
                shutdown.unless(self.own(&mut queue, &publish)).await
            } else {
                let peer = match place {
                    Place::Theirs(peer) => Some(peer),
                    Place::Mine | Place::Vacant => None,
                };
                shutdown
                    .unless(self.follow(peer, &mut queue, &publish))
                    .await
            };
            done.unwrap_or(Ok(()))?;
        }
        Ok(())
    }

    /// Claims the shard and works as its owner until another daemon has claimed it.
    async fn own(
        &self,
        queue: &mut mpsc::Receiver<Asked>,
        publish: &watch::Sender<Arc<Root>>,
    ) -> Result<(), CommitError> {
        // Somebody may have claimed it since it was looked.
        publish.send_replace(self.read().await?);
        let owner = publish.borrow().stamp.incarnation;
        if self.peers.place(self.shard, Some(owner)) != Place::Mine {
            return Ok(());
        }
        let done = match Owned::claim(self.context.clone(), self.shard).await {
            Ok(mut owned) => {
                tracing::info!(shard = self.shard, "the shard is ours");
                publish.send_replace(owned.root());
                let mine = Some(self.context.incarnation);
                let keeps = || self.peers.place(self.shard, mine) == Place::Mine;
                owned.run(queue, publish, keeps).await
            }
            Err(error) => Err(error),
        };
        match done {
            Err(CommitError::Fenced { epoch, .. }) => {
                tracing::info!(
                    shard = self.shard,
                    epoch,
                    "another daemon has the shard now"
                );
                self.context.clock.sleep(OVERTAKEN).await;
                publish.send_replace(self.read().await?);
                Ok(())
            }
            other => other,
        }
    }

    /// Sends edits to `peer` until the shard belongs to somebody else.
    async fn follow(
        &self,
        peer: Option<Peer>,
        queue: &mut mpsc::Receiver<Asked>,
        publish: &watch::Sender<Arc<Root>>,
    ) -> Result<(), CommitError> {
        let clock = &self.context.clock;
        let mut read_ms = 0;
        loop {
            let asked = tokio::select! {
                asked = queue.recv() => asked,
                () = clock.sleep(LOOK) => None,
            };
            if let Some(first) = asked {
                self.forward(peer.as_ref(), first, queue, publish).await?;
                read_ms = clock.boot_ms();
            } else if u128::from(clock.boot_ms().saturating_sub(read_ms)) >= REFRESH.as_millis() {
                publish.send_replace(self.read().await?);
                read_ms = clock.boot_ms();
            }
            if !self.is_in_place(peer.as_ref(), publish) {
                return Ok(());
            }
        }
    }

    /// Whether the shard still belongs to `peer`.
    fn is_in_place(&self, peer: Option<&Peer>, publish: &watch::Sender<Arc<Root>>) -> bool {
        let owner = publish.borrow().stamp.incarnation;
        match self.peers.place(self.shard, Some(owner)) {
            Place::Mine => false,
            Place::Theirs(now) => Some(&now) == peer,
            Place::Vacant => peer.is_none(),
        }
    }

    /// Returns when the shard belongs to somebody else: an owner that was stopped would keep an edit to its deadline.
    async fn displaced(&self, peer: Option<&Peer>, publish: &watch::Sender<Arc<Root>>) {
        while self.is_in_place(peer, publish) {
            self.context.clock.sleep(LOOK).await;
        }
    }

    async fn forward(
        &self,
        peer: Option<&Peer>,
        first: Asked,
        queue: &mut mpsc::Receiver<Asked>,
        publish: &watch::Sender<Arc<Root>>,
    ) -> Result<(), CommitError> {
        let mut asked = vec![first];
        while asked.len() < WAITING
            && let Ok(next) = queue.try_recv()
        {
            asked.push(next);
        }
        let shard = self.shard;
        let sent = asked.iter().map(|asked| async move {
            match peer {
                Some(peer) if !asked.is_for_owner => {
                    self.peers.edit(peer, shard, &asked.edit).await
                }
                _ => Err(CommitError::Elsewhere { shard }),
            }
        });
        let outcomes = tokio::select! {
            outcomes = join_all(sent) => outcomes,
            // Whoever is its owner by then is asked again, and this daemon may be it.
            () = self.displaced(peer, publish) => {
                asked.iter().map(|_| Err(CommitError::Elsewhere { shard })).collect()
            }
        };
        publish.send_replace(self.read().await?);
        for (asked, outcome) in asked.into_iter().zip(outcomes) {
            // Whoever asked may be gone; the edit stands.
            let _ = asked.reply.send(outcome);
        }
        Ok(())
    }
}
