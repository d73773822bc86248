//! What describes the fleet, and what nobody owns.

use std::collections::BTreeSet;

use whimbrel_runtime::random;

use super::{
    MoveError, Mover,
    copy::{Copier, Wanted},
    switch::{Standing, Switch, standing},
};
use crate::{
    format::{Key, Unit},
    meta::{Head, MetaError, Whose, read_head},
    root::Stamp,
    store::Target,
};

impl Mover {
    /// Takes over what describes the fleet as a new owner would; whoever wrote it claims it again at the new place.
    pub(super) async fn move_meta(
        &self,
        target: &Target,
        copier: &Copier,
    ) -> Result<(), MoveError> {
        if target.has(Unit::Meta) {
            return Ok(());
        }
        let key = self.keys.meta_head();
        let listed = names(copier, &[self.keys.meta_prefix()]).await?;
        self.bring_documents(copier, &listed).await?;
        let _held = self.placed.hold(Unit::Meta).await;
        let before = standing(&*copier.from, &key, Unit::Meta).await?;
        let next = match &before {
            Standing::Moved(..) => {
                target.mark(Unit::Meta);
                return Ok(());
            }
            Standing::Head(head, _) => Some(self.next_head((**head).clone())),
            // Nobody describes this fleet, or nobody did yet: whoever does will find nothing at the new place either.
            // In a place that was left a tombstone would send them away again.
            Standing::Nothing | Standing::Root(..) => match copier.comes_back {
                true => self.empty_head(copier, &key).await?,
                false => None,
            },
        };
        let stamp = next
            .as_ref()
            .map_or_else(|| self.first_stamp(), |head| head.stamp);
        // What was written since; the rest is there.
        let listed = names(copier, &[self.keys.meta_prefix()]).await?;
        self.bring_documents(copier, &listed).await?;
        let switch = Switch {
            from: &*copier.from,
            to: &*copier.transfer.store,
            target,
            region: &self.region,
            incarnation: self.incarnation,
            key,
            unit: Unit::Meta,
            comes_back: copier.comes_back,
            clock: &self.clock,
            ops: &self.ops,
        };
        let bytes = next.map(|head| head.encode());
        switch.make(before, stamp, bytes).await?;
        tracing::info!(to = target.url, "what describes the fleet has moved");
        Ok(())
    }

    fn next_head(&self, head: Head) -> Head {
        Head {
            stamp: Stamp {
                incarnation: self.incarnation,
                epoch: head.stamp.epoch.saturating_add(1),
                sequence: head.stamp.sequence.saturating_add(1),
                nonce: random::uuid(),
            },
            written_ms: self.clock.wall_ms(),
            ..head
        }
    }

    /// Names nothing, and takes the place of a tombstone.
    async fn empty_head(&self, copier: &Copier, key: &Key) -> Result<Option<Head>, MoveError> {
        let there = standing(&*copier.transfer.store, key, Unit::Meta).await?;
        let empty = |stamp: Stamp| Head {
            stamp,
            fleet_id: self.fleet_id.clone(),
            region: self.region.clone(),
            written_ms: self.clock.wall_ms(),
            documents: Vec::new(),
        };
        Ok(match there {
            Standing::Moved(moved, _) => Some(self.next_head(empty(moved.stamp))),
            _ => None,
        })
    }

    /// Of a head that never was.
    fn first_stamp(&self) -> Stamp {
        Stamp {
            incarnation: self.incarnation,
            epoch: 0,
            sequence: 0,
            nonce: random::uuid(),
        }
    }

    /// The documents that the head names; others are litter.
    async fn bring_documents(
        &self,
        copier: &Copier,
        listed: &BTreeSet<Key>,
    ) -> Result<(), MoveError> {
        let whose = Whose {
            fleet_id: &self.fleet_id,
            region: &self.region,
        };
        let head = match read_head(&*copier.from, &self.keys, whose).await {
            Ok(head) => head,
            Err(MetaError::Store(error)) => return Err(error.into()),
            Err(error) => {
                // A tombstone is seen by whoever reads what stands there.
                tracing::debug!(%error, "there is no head to go by");
                None
            }
        };
        for kept in head.into_iter().flat_map(|(head, _)| head.documents) {
            let key = self.keys.meta(&kept.name);
            if !listed.contains(&key) {
                copier.bring(&self.loose(key, false), false).await?;
            }
        }
        Ok(())
    }

    fn loose(&self, key: Key, may_be_gone: bool) -> Wanted {
        Wanted {
            key,
            expected: None,
            may_be_gone,
        }
    }

    /// Orphan tails and the quarantine's entries.
    pub(super) async fn bring_loose(&self, copier: &Copier) -> Result<(), MoveError> {
        let prefixes = [self.keys.orphans_prefix(), self.keys.quarantine_prefix()];
        let there = names(copier, &prefixes).await?;
        for prefix in prefixes {
            let mut here = copier.from.list(&prefix).await?;
            // The tail before the entry that names it.
            here.sort_by(|a, b| a.key.cmp(&b.key));
            for listed in here {
                if !there.contains(&listed.key) {
                    copier.bring(&self.loose(listed.key, true), false).await?;
                }
            }
        }
        Ok(())
    }
}

/// What the new place has below these prefixes.
async fn names(copier: &Copier, prefixes: &[String]) -> Result<BTreeSet<Key>, MoveError> {
    let mut keys = BTreeSet::new();
    for prefix in prefixes {
        let listed = copier.transfer.store.list(prefix).await?;
        keys.extend(listed.into_iter().map(|listed| listed.key));
    }
    Ok(keys)
}
