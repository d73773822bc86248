//! A shard's objects, and then the shard.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};
use whimbrel_runtime::random;

use super::{
    MoveError, Mover,
    copy::{Copier, Wanted},
    switch::{Standing, Switch, standing},
};
use crate::{
    committer::Edit,
    format::{Key, Unit},
    root::{Claim, Root, claim},
    store::Target,
};

/// Rounds of copying after which commits wait for the rest, however much it is: each one brings what came during the
/// one before it.
const ROUNDS: usize = 8;
/// So few objects are brought while commits wait.
const FEW: usize = 4;
/// Objects on their way at once.
const SIDE_BY_SIDE: usize = 4;

impl Mover {
    /// Brings over a shard that this daemon owns. `listed` is what the new place has already.
    pub(super) async fn move_shard(
        &self,
        target: &Target,
        copier: &Copier,
        shard: u16,
        listed: &BTreeSet<Key>,
    ) -> Result<(), MoveError> {
        let mut done = BTreeSet::new();
        for _ in 0..ROUNDS {
            let Some(root) = self.committer.root(shard) else {
                return Ok(());
            };
            if self
                .bring_all(copier, &root, listed, &mut done, true)
                .await?
                <= FEW
            {
                break;
            }
        }
        self.decide(target, copier).await?;
        let key = self.keys.root(shard);
        let held = self.placed.hold(Unit::Shard(shard)).await;
        let before = standing(&*copier.from, &key, Unit::Shard(shard)).await?;
        let root = match &before {
            Standing::Root(root, _) => root,
            Standing::Moved(..) => {
                target.mark(Unit::Shard(shard));
                return Ok(());
            }
            Standing::Head(..) | Standing::Nothing => return Ok(()),
        };
        if root.stamp.incarnation != self.incarnation {
            return Ok(());
        }
        self.bring_all(copier, root, listed, &mut done, false)
            .await?;
        let next = claim(
            Some(root),
            &Claim {
                incarnation: self.incarnation,
                nonce: random::uuid(),
                region: &self.region,
                shard,
                shards: self.committer.shards(),
                now_ms: self.clock.wall_ms(),
            },
        );
        // Copied before it was deleted here. What was left in a place that all comes back to is for a sweep to judge.
        let left = listed.iter().filter(|_| !copier.comes_back);
        let there = left.chain(&done);
        let is_litter = |key: &&Key| !next.refers_to(&self.keys, key);
        let litter: BTreeSet<_> = there.filter(is_litter).cloned().collect();
        let switch = Switch {
            from: &*copier.from,
            to: &*copier.transfer.store,
            target,
            region: &self.region,
            incarnation: self.incarnation,
            key,
            unit: Unit::Shard(shard),
            comes_back: copier.comes_back,
            clock: &self.clock,
            ops: &self.ops,
        };
        let bytes = Some(next.encode());
        self.committer.expect(shard, next.stamp.nonce);
        switch.make(before, next.stamp, bytes).await?;
        drop(held);
        tracing::info!(shard, to = target.url, "the shard has moved");
        self.settle(copier, &next, litter.into_iter().collect())
            .await;
        Ok(())
    }

    /// Brings what the root names and is not there; the number of objects. What is gone was let go of since, while
    /// commits do not wait yet.
    async fn bring_all(
        &self,
        copier: &Copier,
        root: &Root,
        listed: &BTreeSet<Key>,
        done: &mut BTreeSet<Key>,
        is_early: bool,
    ) -> Result<usize, MoveError> {
        let mut wanted: Vec<_> = self.named(root).await?.into_values().collect();
        wanted.retain(|wanted| !done.contains(&wanted.key));
        let brought = wanted.len();
        let mut going = stream::iter(wanted)
            .map(|mut wanted| {
                wanted.may_be_gone |= is_early;
                let is_listed = listed.contains(&wanted.key);
                async move {
                    let is_there = copier.bring(&wanted, is_listed).await?;
                    Ok::<_, MoveError>(is_there.then_some(wanted.key))
                }
            })
            .buffer_unordered(SIDE_BY_SIDE);
        while let Some(key) = going.next().await {
            done.extend(key?);
        }
        Ok(brought)
    }

    /// All that a root names: entries in it and in runs, their parts, what is kept, and what waits to be deleted and
    /// may still be read.
    async fn named(&self, root: &Root) -> Result<BTreeMap<Key, Wanted>, MoveError> {
        let mut all = BTreeMap::new();
        let mut add = |key: Key, expected, may_be_gone| {
            let wanted = Wanted {
                key: key.clone(),
                expected,
                may_be_gone,
            };
            all.insert(key, wanted);
        };
        for unlinked in &root.pending {
            add(unlinked.key.clone(), None, true);
        }
        for orphaned in &root.orphaned {
            add(orphaned.key.clone(), None, false);
        }
        for (at, partition) in &root.partitions {
            let mut entries = Vec::new();
            for run in &partition.runs {
                add(self.keys.root_part(&run.part), None, false);
                entries.extend_from_slice(&self.committer.runs().read(run).await?);
            }
            entries.extend_from_slice(&partition.entries);
            for entry in entries {
                let key = entry.key(&self.keys, root.shard, *at);
                add(key, Some((entry.object_bytes, entry.crc64)), false);
            }
        }
        Ok(all)
    }

    /// The root is kept, so that a rebuild there has one to begin with; the owner's task learns that it goes on at
    /// the new place, and unlinks what is litter there. What fails is for a sweep.
    async fn settle(&self, copier: &Copier, root: &Root, litter: Vec<Key>) {
        let (shard, stamp) = (root.shard, root.stamp);
        let key = self.keys.kept_root(shard, stamp.epoch, stamp.sequence);
        let to = &copier.transfer.store;
        if let Err(error) = to.put_if_absent(&key, root.encode().into()).await {
            tracing::warn!(%key, %error, "a root was not kept");
        }
        // The first edit finds the root gone from where it was, and is refused for that.
        let _found_out = self.committer.edit(shard, Edit::Unlink(Vec::new())).await;
        if !litter.is_empty()
            && let Err(error) = self.committer.edit(shard, Edit::Unlink(litter)).await
        {
            tracing::debug!(shard, %error, "objects that nobody names are left to a sweep");
        }
    }
}
