//! What a bucket tells about the newest root that a shard ever had, whatever root is there now.
//!
//! A claim is swapped in before anything is written in its epoch, so a name with an epoch above the root's own says
//! that the root is older than it was. So does a kept root that is newer. Within one epoch only kept roots tell: what a
//! root does not name there is spared by the sweep.

use crate::{
    format::{Key, Keys},
    store::{Store, StoreError},
};

/// Epoch and sequence of a root, in this order.
pub(crate) type Number = (u64, u64);

/// The highest number of a root that was ever written, as far as the names in the bucket tell, and the name that does;
/// `None` where nothing is there that only a root of this shard can have named.
pub(crate) async fn newest(
    store: &dyn Store,
    keys: &Keys,
    shard: u16,
) -> Result<Option<(Number, Key)>, StoreError> {
    let kept = store.list(&keys.kept_prefix(shard)).await?.into_iter();
    let kept = kept.map(|listed| {
        let number = keys.parse_kept(shard, &listed.key).unwrap_or_default();
        (number, listed.key)
    });
    let parts = store.list(&keys.part_prefix()).await?.into_iter();
    // A part goes up before the root of its number is there.
    let parts = parts.filter_map(|listed| {
        let part = keys.parse_part(&listed.key)?;
        (part.shard == shard).then_some(((part.writer_epoch, 0), listed.key))
    });
    let objects = store.list(&keys.data_prefix()).await?.into_iter();
    let objects = objects.filter_map(|listed| {
        let name = keys.parse_object(&listed.key)?;
        (name.shard() == shard).then_some(((name.writer_epoch(), 0), listed.key))
    });
    Ok(kept.chain(parts).chain(objects).max())
}
