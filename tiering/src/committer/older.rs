//! What a bucket tells about the newest root that a shard ever had, whatever root is there now.
//!
//! A claim is swapped in before anything is written in its epoch, so a name with an epoch above the root's own says
//! that the root is older than it was. So does a kept root that is newer. Within one epoch only kept roots tell: what a
//! root does not name there is spared by the sweep.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::Mutex;
use whimbrel_runtime::Clock;

use crate::{
    format::{Key, Keys},
    store::{Store, StoreError},
};

/// Epoch and sequence of a root, in this order.
pub(crate) type Number = (u64, u64);

/// The number of a root that there was, and the name that tells so.
pub(crate) type Told = (Number, Key);

/// One listing of a bucket's names for all shards that are claimed at once. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Names(Arc<Mutex<Option<Listing>>>);

#[derive(Debug)]
struct Listing {
    begun_ns: u64,
    newest: BTreeMap<u16, Told>,
}

impl Names {
    /// As [`newest`], by a listing that was begun after this call.
    pub(super) async fn newest(
        &self,
        store: &dyn Store,
        keys: &Keys,
        clock: &Clock,
        shard: u16,
    ) -> Result<Option<Told>, StoreError> {
        let kept = kept(store, keys, shard).await?;
        let asked_ns = clock.boot_ns();
        // Whoever waits here waits for the listing that it needs.
        let mut listing = self.0.lock().await;
        let newest = match listing.take().filter(|l| l.begun_ns >= asked_ns) {
            Some(fresh) => listing.insert(fresh),
            None => listing.insert(Listing {
                begun_ns: clock.boot_ns(),
                newest: written(store, keys).await?,
            }),
        };
        Ok(newest.newest.get(&shard).cloned().max(kept))
    }
}

/// The highest number of a root that was ever written, as far as the names in the bucket tell; `None` where nothing is
/// there that only a root of this shard can have named.
pub(crate) async fn newest(
    store: &dyn Store,
    keys: &Keys,
    shard: u16,
) -> Result<Option<Told>, StoreError> {
    let kept = kept(store, keys, shard).await?;
    Ok(written(store, keys).await?.remove(&shard).max(kept))
}

/// By kept roots.
async fn kept(store: &dyn Store, keys: &Keys, shard: u16) -> Result<Option<Told>, StoreError> {
    let listed = store.list(&keys.kept_prefix(shard)).await?.into_iter();
    let told = listed.map(|listed| {
        let number = keys.parse_kept(shard, &listed.key).unwrap_or_default();
        (number, listed.key)
    });
    Ok(told.max())
}

/// By what was written for each shard, which tells epochs only: a part goes up before the root of its number is there.
async fn written(store: &dyn Store, keys: &Keys) -> Result<BTreeMap<u16, Told>, StoreError> {
    let mut newest = BTreeMap::<u16, Told>::new();
    let mut add = |shard: u16, epoch: u64, key: &Key| {
        let is_newer = newest
            .get(&shard)
            .is_none_or(|((known, _), _)| *known < epoch);
        if is_newer {
            newest.insert(shard, ((epoch, 0), key.clone()));
        }
    };
    for listed in store.list(&keys.part_prefix()).await? {
        if let Some(part) = keys.parse_part(&listed.key) {
            add(part.shard, part.writer_epoch, &listed.key);
        }
    }
    for listed in store.list(&keys.data_prefix()).await? {
        if let Some(name) = keys.parse_object(&listed.key) {
            add(name.shard(), name.writer_epoch(), &listed.key);
        }
    }
    Ok(newest)
}
