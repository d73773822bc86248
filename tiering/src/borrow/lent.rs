//! The roots of a lender, as they were read under holds.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde_json::{Value, json};
use uuid::Uuid;
use whimbrel_fleet::TopicPartition;
use whimbrel_runtime::{Clock, random};

use super::source::Source;
use crate::{
    Meter,
    committer::FOLLOWED_FOR,
    format::{Keys, shard_of},
    root::{MAX_BYTES, Root},
    runs::Runs,
    store::{Store, StoreError},
};

/// A hold under which nobody reads is given up after so long.
const IDLE: Duration = Duration::from_secs(60);

/// The shards of a lender's bucket.
#[derive(Debug)]
pub struct Lent {
    pub(super) store: Arc<dyn Store>,
    pub(super) keys: Keys,
    pub(super) source: Source,
    pub(super) shards: u16,
    pub(super) runs: Runs,
    pub(super) meter: Meter,
    pub(super) clock: Clock,
    pub(super) held: Mutex<BTreeMap<u16, Held>>,
    /// Readers of one lender that find its root too old wait for the first of them.
    pub(super) turn: tokio::sync::Mutex<()>,
}

/// A root and what stands for it. Instants are of our boot clock.
#[derive(Clone, Debug)]
pub(super) struct Held {
    nonce: Uuid,
    root: Arc<Root>,
    /// When it is to be asked again.
    again_ns: u64,
    /// The same root is used until then, however often its hold is renewed: else the lender could delete nothing
    /// for as long as somebody reads.
    whole_ns: u64,
    /// The hold stands at least until then; nothing without one.
    until_ns: Option<u64>,
    read_ns: u64,
    /// Why there is no hold.
    trouble: Option<String>,
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Lent {
    pub fn root_of(&self, at: TopicPartition) -> Option<Arc<Root>> {
        self.root(shard_of(at, self.shards))
    }

    pub fn root(&self, shard: u16) -> Option<Arc<Root>> {
        let held = self.held.lock();
        held.get(&shard).map(|held| Arc::clone(&held.root))
    }

    pub fn runs(&self) -> &Runs {
        &self.runs
    }

    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// A root is there that what a reader opens by it cannot go from.
    pub(super) async fn look(&self, at: TopicPartition) -> Result<(), Arc<StoreError>> {
        let shard = shard_of(at, self.shards);
        let _turn = self.turn.lock().await;
        if self.is_fresh(at) {
            return Ok(());
        }
        let before = self.held.lock().get(&shard).cloned();
        let asked_ns = self.clock.boot_ns();
        let is_old = |held: &&Held| held.until_ns.is_some() && asked_ns >= held.whole_ns;
        let old = before.as_ref().filter(is_old).map(|held| held.nonce);
        let known = before.as_ref().filter(|_| old.is_none());
        let nonce = known.map_or_else(random::uuid, |held| held.nonce);
        let mut next = match self.source.ask(shard, nonce, false).await {
            Ok(reply) => {
                let patience = reply.patience_ms.saturating_mul(1_000_000);
                // It counts from when it heard of us, which was later; a tenth is for clocks that run apart.
                let until_ns = asked_ns.saturating_add(patience - patience / 10);
                // What was read before it was known to stand may have been read before it stood.
                let stood =
                    |held: &Held| reply.stood && held.nonce == nonce && held.until_ns.is_some();
                let same = before.filter(stood);
                let whole_ns = same.as_ref().map(|held| held.whole_ns);
                Held {
                    nonce,
                    whole_ns: whole_ns.unwrap_or(asked_ns.saturating_add(patience)),
                    root: match &same {
                        Some(held) => Arc::clone(&held.root),
                        None => self.read(shard).await?,
                    },
                    again_ns: asked_ns.saturating_add(patience / 3),
                    until_ns: Some(until_ns),
                    read_ns: asked_ns,
                    trouble: None,
                }
            }
            Err(why) => {
                let stands = |held: &Held| held.until_ns.is_some_and(|until| asked_ns < until);
                match before.filter(stands) {
                    Some(held) => Held {
                        again_ns: asked_ns
                            .saturating_add(ns(FOLLOWED_FOR))
                            .min(held.until_ns.unwrap_or(0)),
                        trouble: Some(why),
                        read_ns: asked_ns,
                        ..held
                    },
                    None => Held {
                        nonce,
                        root: self.read(shard).await?,
                        again_ns: asked_ns.saturating_add(ns(FOLLOWED_FOR)),
                        whole_ns: 0,
                        until_ns: None,
                        read_ns: asked_ns,
                        trouble: Some(why),
                    },
                }
            }
        };
        next.read_ns = self.clock.boot_ns();
        let now = next.nonce;
        self.held.lock().insert(shard, next);
        if let Some(old) = old.filter(|old| *old != now) {
            self.give_up(shard, old).await;
        }
        Ok(())
    }

    /// Notes that somebody reads.
    pub(super) fn is_fresh(&self, at: TopicPartition) -> bool {
        let now_ns = self.clock.boot_ns();
        let mut held = self.held.lock();
        let Some(held) = held.get_mut(&shard_of(at, self.shards)) else {
            return false;
        };
        held.read_ns = now_ns;
        now_ns < held.again_ns
    }

    async fn read(&self, shard: u16) -> Result<Arc<Root>, Arc<StoreError>> {
        let key = self.keys.root(shard);
        let found = self.store.get(&key, MAX_BYTES).await.map_err(Arc::new)?;
        let refused = |reason: String| {
            Arc::new(StoreError::Failed {
                op: "read a lender's root",
                key: key.to_string(),
                reason,
            })
        };
        let root = Root::decode(&found.bytes).map_err(|e| refused(e.to_string()))?;
        if !root.is_of(&self.source.lender, shard, self.shards) {
            return Err(refused(format!(
                "it is that of {}/{}",
                root.region, root.shard
            )));
        }
        Ok(Arc::new(root))
    }

    /// The root that is in the bucket now, if it is newer.
    pub async fn newer_root(&self, than: &Root) -> Result<Option<Arc<Root>>, Arc<StoreError>> {
        let root = self.read(than.shard).await?;
        if root.stamp.number() <= than.stamp.number() {
            return Ok(None);
        }
        if let Some(held) = self.held.lock().get_mut(&than.shard) {
            held.root = Arc::clone(&root);
        }
        Ok(Some(root))
    }

    /// Gives up the holds that nobody has read under for a while, or all of them.
    pub(super) async fn release(&self, all: bool) {
        let now_ns = self.clock.boot_ns();
        let idle: Vec<(u16, Uuid)> = {
            let held = self.held.lock();
            let is_idle = |held: &Held| all || now_ns.saturating_sub(held.read_ns) >= ns(IDLE);
            let idle = held.iter().filter(|(_, held)| is_idle(held));
            idle.map(|(shard, held)| (*shard, held.nonce)).collect()
        };
        for (shard, nonce) in idle {
            let _turn = self.turn.lock().await;
            let gone = {
                let mut held = self.held.lock();
                let still = held
                    .get(&shard)
                    .is_some_and(|held| all || now_ns.saturating_sub(held.read_ns) >= ns(IDLE));
                still.then(|| held.remove(&shard)).flatten()
            };
            if gone.is_some_and(|held| held.until_ns.is_some()) {
                self.give_up(shard, nonce).await;
            }
        }
    }

    async fn give_up(&self, shard: u16, nonce: Uuid) {
        if let Err(why) = self.source.ask(shard, nonce, true).await {
            let lender = &self.source.lender;
            tracing::debug!(lender, shard, why, "a hold is left to lapse");
        }
    }

    pub(super) fn json(&self) -> Value {
        let now_ns = self.clock.boot_ns();
        let held = self.held.lock();
        let shards: Vec<_> = held
            .iter()
            .map(|(shard, held)| {
                let stands = held.until_ns.is_some_and(|until| now_ns < until);
                json!({"shard": shard, "held": stands, "trouble": held.trouble})
            })
            .collect();
        json!(shards)
    }
}
