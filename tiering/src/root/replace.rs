//! A repaired object in the place of a damaged one.

use whimbrel_fleet::TopicPartition;

use super::{Applied, Entry, Orphaned, Reject, Root};
use crate::format::Keys;

impl Root {
    /// Names `new` instead of `old`, which holds the same records. The old object is kept and listed: what is
    /// left of it may be wanted, and whoever reads it now goes on.
    pub fn replace(
        &mut self,
        keys: &Keys,
        at: TopicPartition,
        old: &Entry,
        new: Entry,
    ) -> Result<Applied, Reject> {
        let refuse = |reason: &str| Reject::Unsound {
            at,
            reason: reason.to_owned(),
        };
        let key = old.key(keys, self.shard, at);
        let Some(partition) = self.partitions.get_mut(&at) else {
            return Err(refuse("the partition is not there any more"));
        };
        if partition.entries.contains(&new) {
            return Ok(Applied::Already);
        }
        let same = (new.base, new.end, new.object_end) == (old.base, old.end, old.object_end)
            && new.leader_epoch == old.leader_epoch
            && (new.records, new.data_bytes) == (old.records, old.data_bytes)
            && new.aborted == old.aborted;
        if !same || !new.is_sound() {
            return Err(refuse("the new object is not about the same records"));
        }
        let Some(entry) = partition.entries.iter_mut().find(|e| *e == old) else {
            return Err(refuse("the object is not named any more"));
        };
        *entry = new;
        if !self.orphaned.iter().any(|o| o.key == key) {
            self.orphaned.push(Orphaned {
                key,
                at,
                from: old.base,
                end: old.end,
            });
        }
        Ok(Applied::Changed)
    }
}
