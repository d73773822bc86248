//! A region's bucket on its way to another bucket, prefix or provider, while it serves.
//!
//! The order to move stands beside what moves, so that every daemon of the region finds it, and after a crash finds it
//! again. Each daemon brings over the shards that it owns: first their objects, verified as uploads are, then, while
//! commits wait for a moment, what came meanwhile and the root itself. A tombstone in the place of the old root is the
//! one point at which the shard changes its place ([`switch`]): before it the old place is the truth, from it on the
//! new one is. [`Placed`] sends every other part of the daemon to where a shard is. The owner of shard 0 also brings
//! what describes the fleet, in the same way, and what nobody owns.
//!
//! Until the first shard is about to change its place the move can be cancelled ([`decide`]). A place that was left may
//! be moved to again ([`place`]).
//!
//! Nothing is deleted in the old place unless that is asked for afterwards ([`old`]). A shard that names an object which is damaged or missing stays where it is
//! until that is repaired.

mod arrive;
mod copy;
mod decide;
mod documents;
mod error;
mod fleet;
mod old;
mod place;
mod plan;
mod progress;
mod route;
mod shard;
mod switch;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::sync::Notify;
use uuid::Uuid;
use whimbrel_runtime::{Backoff, Clock, Shutdown, Tasks};

pub(crate) use arrive::arrive;
pub use copy::{Copier, Wanted};
pub use documents::{Arrival, Decision, Done, Order};
pub use error::MoveError;
pub use old::{Left, Leftover};
pub use plan::Plan;
pub use progress::{Tally, Trouble};
pub(crate) use route::route;

use self::{
    documents::FORMAT,
    switch::{Standing, standing},
};
use crate::{
    committer::Committer,
    format::{Key, Keys, Unit},
    ops::Ops,
    store::{
        Capabilities, Ledger, Limited, Marker, Placed, Store, StoreError, Target, check_marker,
        read_marker,
    },
    transfer::Transfer,
};

/// How often a daemon looks for an order, and a move that waits for somebody is looked at.
const LOOK: Duration = Duration::from_secs(30);
/// What its requests are counted under.
pub(crate) const CAUSE: &str = "move";
/// While a move goes on.
const SOON: Duration = Duration::from_secs(2);

/// Carries out the orders of a region. Clones share it.
#[derive(Clone, Debug)]
pub struct Mover {
    pub placed: Placed,
    /// The same behind deadlines.
    pub store: Arc<dyn Store>,
    pub ledger: Ledger,
    pub keys: Keys,
    pub fleet_id: String,
    pub region: String,
    /// URL of the old place, as configured.
    pub from: String,
    pub incarnation: Uuid,
    pub committer: Committer,
    /// Of the place that the configuration names.
    pub capabilities: Capabilities,
    pub scratch_dir: PathBuf,
    pub clock: Clock,
    pub tasks: Tasks,
    pub ops: Ops,
    pub request_timeout: Duration,
    pub tally: Tally,
    pub trouble: Trouble,
    pub wake: Arc<Notify>,
}

impl Mover {
    /// Looks for an order now and then, and carries it out, until shutdown.
    pub async fn run(self, shutdown: Shutdown) {
        let mut pause = Backoff::new(SOON, LOOK);
        loop {
            let round = shutdown.unless(self.round()).await;
            let wait = match round {
                None => return,
                Some(Ok(true)) => {
                    *self.trouble.lock() = None;
                    LOOK
                }
                Some(Ok(false)) => {
                    *self.trouble.lock() = None;
                    pause.reset();
                    SOON
                }
                Some(Err(error)) => {
                    self.tell(&error);
                    pause.next()
                }
            };
            tokio::select! {
                () = shutdown.wait() => return,
                () = self.clock.sleep(wait) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    fn tell(&self, error: &MoveError) {
        if self.placed.target().is_none() {
            // Whether anything was ordered is not known while the store is away, which others tell.
            tracing::debug!(%error, "an order to move was not looked for");
            return;
        }
        let text = match error.code() {
            Some(code) => format!("{code}: {error}"),
            None => error.to_string(),
        };
        let before = self.trouble.lock().replace(text.clone());
        if before.as_ref() != Some(&text) {
            tracing::warn!(code = error.code(), %error, "the move to another place waits");
        }
    }

    /// Does what there is to do now; true where nothing is left, or nothing was ordered.
    pub async fn round(&self) -> Result<bool, MoveError> {
        let Some((target, order)) = self.aim().await? else {
            return Ok(true);
        };
        let copier = self.prepare(&target, &order).await?;
        let waiting = (0..self.committer.shards()).filter(|shard| !target.has(Unit::Shard(*shard)));
        let waiting: Vec<_> = waiting.collect();
        let there = match waiting.is_empty() {
            true => BTreeMap::new(),
            false => self.listed(&copier).await?,
        };
        let mut first = None;
        for shard in waiting {
            let listed = there.get(&Unit::Shard(shard));
            let visited = self.visit(&target, &copier, shard, listed).await;
            if let Err(error) = visited {
                // The other shards go on.
                tracing::debug!(shard, %error, "the shard does not move now");
                first.get_or_insert(error);
            }
        }
        if self.owns(0) && target.has(Unit::Shard(0)) {
            self.move_meta(&target, &copier).await?;
            self.bring_loose(&copier).await?;
        }
        if let Some(error) = first {
            return Err(error);
        }
        if !self.has_all(&target, &copier).await? {
            return Ok(false);
        }
        if self.owns(0) {
            self.finish(&target, &copier).await?;
        }
        let to = &*copier.transfer.store;
        let done: Option<Done> = documents::read(to, &self.keys.move_done()).await?;
        let is_done = done.is_some_and(|done| done.id == order.id);
        if is_done {
            target.finish();
        }
        Ok(is_done)
    }

    /// Where everything goes, if that was ordered.
    async fn aim(&self) -> Result<Option<(Arc<Target>, Order)>, MoveError> {
        let Some(order) = documents::order(&*self.store, &self.keys).await? else {
            self.forget_cancelled().await?;
            return Ok(None);
        };
        if order.format != FORMAT {
            let reason = format!("the order is of format {}", order.format);
            return Err(MoveError::Refused(reason));
        }
        if self.placed.target().is_some_and(|t| t.id != order.id) {
            self.forget_cancelled().await?;
        }
        let target = self.placed.aim(order.id, &order.to)?;
        Ok(Some((target, order)))
    }

    /// Makes the new place ours, before anything is written there.
    async fn prepare(&self, target: &Target, order: &Order) -> Result<Copier, MoveError> {
        let from = self.behind_limits(self.placed.from());
        let to = self.behind_limits(&target.store);
        let arrival = self.arrive_at(&*to, order).await?;
        let Some(marker) = read_marker(&*from, &self.keys).await? else {
            let reason = "the old place has no marker".to_owned();
            return Err(MoveError::Refused(reason));
        };
        let mine: Marker = check_marker(&*to, &self.keys, &marker).await?;
        if mine.incarnation != marker.incarnation || mine.shards != marker.shards {
            let reason = format!("it has a marker of bucket {}", mine.incarnation);
            return Err(MoveError::Occupied(reason));
        }
        let capabilities = target.probed(&to, &self.keys).await?;
        let transfer = Transfer {
            store: to,
            capabilities,
            clock: self.clock.clone(),
        };
        Ok(Copier {
            from,
            transfer,
            scratch_dir: self.scratch_dir.clone(),
            clock: self.clock.clone(),
            tasks: self.tasks.clone(),
            ops: self.ops.clone(),
            comes_back: arrival.supersedes.is_some(),
            rate: order.rate,
            tally: self.tally.clone(),
            free_ns: Arc::default(),
        })
    }

    /// One of the places, with deadlines, and counted.
    fn behind_limits(&self, store: &Arc<dyn Store>) -> Arc<dyn Store> {
        let limited = Limited::new(Arc::clone(store), self.clock.clone(), self.request_timeout);
        let limited: Arc<dyn Store> = Arc::new(limited);
        self.ledger.of(CAUSE, &limited)
    }

    async fn visit(
        &self,
        target: &Target,
        copier: &Copier,
        shard: u16,
        listed: Option<&BTreeSet<Key>>,
    ) -> Result<(), MoveError> {
        if let Some(error) = self.committer.sick(shard) {
            let reason = format!("a shard that is quarantined stays where it is: {error}");
            return Err(MoveError::Refused(reason));
        }
        if !self.owns(shard) {
            return Ok(());
        }
        let nothing = BTreeSet::new();
        let listed = listed.unwrap_or(&nothing);
        self.move_shard(target, copier, shard, listed).await
    }

    /// What the new place has of each shard.
    async fn listed(&self, copier: &Copier) -> Result<BTreeMap<Unit, BTreeSet<Key>>, StoreError> {
        let mut all = BTreeMap::<Unit, BTreeSet<Key>>::new();
        for prefix in [self.keys.data_prefix(), self.keys.part_prefix()] {
            for listed in copier.transfer.store.list(&prefix).await? {
                let unit = self.keys.unit_of(listed.key.as_str());
                all.entry(unit).or_default().insert(listed.key);
            }
        }
        Ok(all)
    }

    fn owns(&self, shard: u16) -> bool {
        let root = self.committer.root(shard);
        root.is_some_and(|root| root.stamp.incarnation == self.incarnation)
    }

    /// Whether the tombstones of all units stand.
    async fn has_all(&self, target: &Target, copier: &Copier) -> Result<bool, MoveError> {
        let shards = (0..self.committer.shards()).map(Unit::Shard);
        let mut all = true;
        for unit in shards.chain([Unit::Meta]) {
            if target.has(unit) {
                continue;
            }
            let Some(key) = self.keys.head_of(unit) else {
                continue;
            };
            match standing(&*copier.from, &key, unit).await? {
                Standing::Moved(moved, _) if moved.id == target.id => target.mark(unit),
                _ => all = false,
            }
        }
        Ok(all)
    }

    async fn finish(&self, target: &Target, copier: &Copier) -> Result<(), MoveError> {
        let done = Done {
            format: FORMAT,
            id: target.id,
            done_ms: self.clock.wall_ms(),
        };
        let to = &*copier.transfer.store;
        let key = self.keys.move_done();
        let there = documents::look::<Done>(to, &key).await?;
        let (there, version) = there.unzip();
        if there.is_none_or(|there| there.id != target.id) {
            documents::replace(to, &key, &done, version.as_ref()).await?;
            tracing::warn!(
                code = "WB-340",
                to = target.url,
                "the bucket has moved: name its new place in the configuration"
            );
        }
        Ok(())
    }

    /// What this daemon knows of the move.
    pub fn json(&self) -> Value {
        let Some(target) = self.placed.target() else {
            return Value::Null;
        };
        let (mut units, mut bytes, mut total) = (Vec::new(), 0_u64, 0_u64);
        for root in self.committer.roots() {
            let moved = target.has(Unit::Shard(root.shard));
            let here = root.partitions.values().map(crate::root::Partition::bytes);
            let here = here.fold(0, u64::saturating_add);
            total = total.saturating_add(here);
            bytes = bytes.saturating_add(if moved { here } else { 0 });
            units.push(json!({
                "shard": root.shard, "moved": moved, "bytes": here,
                "mine": root.stamp.incarnation == self.incarnation,
            }));
        }
        let is_done = target.is_done();
        json!({
            "id": target.id, "from": self.from, "to": target.url, "shards": units,
            "meta": target.has(Unit::Meta), "bytes_moved": bytes, "bytes_total": total,
            "done": is_done, "decided": target.is_decided(), "copied": self.tally.json(), "trouble": *self.trouble.lock(),
            "code": is_done.then_some("WB-340"),
        })
    }
}
