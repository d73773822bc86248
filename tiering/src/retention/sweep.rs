//! Objects that no root names: what an owner uploaded that was fenced, or died before it could name it.
//!
//! That no root names an object is no proof that nobody needs it: the root may be older than it was, without anything
//! that tells so. So one goes only when all that it holds is to be had without it: named by the root, of this lineage
//! or a later one, and in the bucket; or below the log's start; or of a topic that was deleted. What is above the
//! root's end stays until the log has brought the root there, which an upload that was cut short does by itself; where
//! the log cannot, these objects are all there is.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_fleet::TopicPartition;
use whimbrel_rpc::proto::node;

use super::Retention;
use crate::{
    broker::partition_from,
    committer::Edit,
    format::{Key, ObjectName},
    rebuild::footer_of,
    root::Root,
    store::{Listed, StoreError},
};

/// So many objects that were spared are looked at again between claims. More than that is no upload that was cut short.
const MOST_SPARED: usize = 1_000;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What an object holds of one partition.
#[derive(Clone, Copy, Debug)]
struct Held {
    at: TopicPartition,
    base: i64,
    /// Exclusive.
    end: i64,
    leader_epoch: i32,
}

/// An object that no root names and that may be all there is of what it holds.
#[derive(Clone, Debug)]
pub struct Spared {
    key: Key,
    shard: u16,
    holds: Vec<Held>,
}

/// What came of a sweep.
#[derive(Debug, Default)]
pub struct Swept {
    pub unlinked: usize,
    pub spared: Vec<Spared>,
}

impl Retention {
    /// Looks at all objects of earlier owners of our shards that no root names: their writers are fenced, and whoever
    /// uploaded them for another owner is refused, so nothing ever will.
    pub async fn sweep(&self) -> Result<Swept, Failure> {
        // From before the listing: what they name is in it, or is gone.
        let roots = self.committer.roots().into_iter();
        let roots: BTreeMap<_, _> = roots
            .filter(|root| self.owns(root))
            .map(|root| (root.shard, root))
            .collect();
        let listed = self.store.list(&self.keys.data_prefix()).await?;
        let there: BTreeSet<&Key> = listed.iter().map(|l| &l.key).collect();
        let (mut unlinked, mut spared) = (BTreeMap::<u16, Vec<Key>>::new(), Vec::new());
        for listed in &listed {
            let Some(name) = self.keys.parse_object(&listed.key) else {
                continue;
            };
            let (Some(root), Some(now)) =
                (roots.get(&name.shard()), self.committer.root(name.shard()))
            else {
                continue;
            };
            if name.writer_epoch() >= root.stamp.epoch || now.refers_to(&self.keys, &listed.key) {
                continue;
            }
            let shard = name.shard();
            let Some(holds) = self.holds(&name, listed).await? else {
                tracing::warn!(key = %listed.key, "nothing names it and it cannot be read: it stays");
                continue;
            };
            let others = self.held_by_others(root, &holds);
            if others.is_some_and(|keys| keys.iter().all(|key| there.contains(key))) {
                unlinked.entry(shard).or_default().push(listed.key.clone());
            } else {
                spared.push(Spared {
                    key: listed.key.clone(),
                    shard,
                    holds,
                });
            }
        }
        for listed in self.store.list(&self.keys.part_prefix()).await? {
            let part = self.keys.parse_part(&listed.key);
            let root = part.and_then(|part| Some((part, self.committer.root(part.shard)?)));
            let Some((part, root)) = root else { continue };
            // It can be made again from the objects.
            if self.owns(&root)
                && part.writer_epoch < root.stamp.epoch
                && !root.refers_to(&self.keys, &listed.key)
            {
                unlinked.entry(part.shard).or_default().push(listed.key);
            }
        }
        let count = unlinked.values().map(Vec::len).sum();
        for (shard, keys) in unlinked {
            self.committer.edit(shard, Edit::Unlink(keys)).await?;
        }
        self.tell(&spared).await;
        spared.truncate(MOST_SPARED);
        self.drop_unfinished().await;
        Ok(Swept {
            unlinked: count,
            spared,
        })
    }

    /// Unlinks what was spared and is not needed any more; the number of those.
    pub async fn look_again(&self, spared: &mut Vec<Spared>) -> Result<usize, Failure> {
        let (mut stay, mut unlinked) = (Vec::new(), BTreeMap::<u16, Vec<Key>>::new());
        for one in std::mem::take(spared) {
            // A later owner sweeps by itself; and what is named meanwhile is no matter of a sweep.
            let root = self.committer.root(one.shard);
            let Some(root) = root.filter(|root| self.owns(root)) else {
                continue;
            };
            if root.refers_to(&self.keys, &one.key) {
                continue;
            }
            let is_held = match self.held_by_others(&root, &one.holds) {
                Some(keys) => self.are_there(&keys).await,
                None => false,
            };
            if is_held {
                unlinked.entry(one.shard).or_default().push(one.key);
            } else {
                stay.push(one);
            }
        }
        *spared = stay;
        let count = unlinked.values().map(Vec::len).sum();
        for (shard, keys) in unlinked {
            self.committer.edit(shard, Edit::Unlink(keys)).await?;
        }
        Ok(count)
    }

    /// On doubt they are not.
    async fn are_there(&self, keys: &BTreeSet<Key>) -> bool {
        for key in keys {
            if self.store.head(key).await.is_err() {
                return false;
            }
        }
        true
    }

    /// `None` where nobody can tell.
    async fn holds(
        &self,
        name: &ObjectName,
        listed: &Listed,
    ) -> Result<Option<Vec<Held>>, StoreError> {
        if let ObjectName::Own(name) = name {
            return Ok(Some(vec![Held {
                at: name.at,
                base: name.base,
                end: name.last.saturating_add(1),
                leader_epoch: name.leader_epoch,
            }]));
        }
        let footer = footer_of(&*self.store, listed).await?;
        Ok(footer.map(|footer| {
            let slices = footer.slices.iter();
            let held = slices.map(|slice| Held {
                at: slice.at,
                base: slice.base_offset,
                end: slice.end_offset,
                leader_epoch: slice.leader_epoch,
            });
            held.collect()
        }))
    }

    /// The objects that `root` names for all of it; `None` where it does not name that.
    fn held_by_others(&self, root: &Root, holds: &[Held]) -> Option<BTreeSet<Key>> {
        let mut others = BTreeSet::new();
        for held in holds {
            if !self.is_deleted(held.at) {
                others.extend(named_for(root, &self.keys, held)?);
            }
        }
        Some(others)
    }

    /// Says what is nowhere else.
    async fn tell(&self, spared: &[Spared]) {
        if spared.is_empty() {
            return;
        }
        let ats: BTreeSet<_> = spared.iter().flat_map(|s| &s.holds).map(|h| h.at).collect();
        let asked = ats.into_iter().map(node::PartitionId::from).collect();
        let logs = self.broker.logs(asked, false).await.unwrap_or_default();
        let local: BTreeMap<_, _> = logs
            .iter()
            .filter_map(|log| {
                let range = (log.local_log_start, log.durable_end);
                Some((partition_from(log.at.as_ref())?, range))
            })
            .collect();
        let is_local = |held: &Held| {
            let range = local.get(&held.at);
            range.is_some_and(|(start, end)| *start <= held.base && held.end <= *end)
        };
        let lost = |spared: &&Spared| !spared.holds.iter().all(is_local);
        let mut shards = BTreeMap::<u16, (usize, &Key)>::new();
        for one in spared.iter().filter(lost) {
            shards.entry(one.shard).or_insert((0, &one.key)).0 += 1;
        }
        for (shard, (objects, first)) in shards {
            tracing::error!(
                code = "WB-312",
                shard,
                objects,
                %first,
                "objects that the root does not name hold what neither it nor the log here has; they stay. The root may \
                 be older than it was"
            );
        }
    }
}

/// The objects that `root` names for what is `held`, as far as the log has not given it up; `None` where it names
/// nothing, or something of an older lineage.
fn named_for(root: &Root, keys: &crate::format::Keys, held: &Held) -> Option<Vec<Key>> {
    let partition = root.partitions.get(&held.at)?;
    if held.end <= partition.log_start {
        return Some(Vec::new());
    }
    let base = held.base.max(partition.log_start);
    let first = partition.entries.first()?;
    // What lies in parts is not looked up here: it stays on doubt.
    let is_inside = first.base <= base && held.end <= partition.end;
    let epoch = partition.epoch_of(held.end.saturating_sub(1))?;
    if !is_inside || epoch < held.leader_epoch {
        return None;
    }
    let entries = partition.entries.iter();
    let entries = entries.filter(|e| e.base < held.end && base < e.end);
    Some(entries.map(|e| e.key(keys, root.shard, held.at)).collect())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use whimbrel_fleet::EpochStart;

    use super::*;
    use crate::{
        format::Keys,
        root::{Entry, Partition},
    };

    fn at() -> TopicPartition {
        TopicPartition::new(Uuid::from_u128(7), 0)
    }

    fn entry(base: i64, end: i64) -> Entry {
        Entry {
            leader_epoch: 3,
            ..Entry::sample(base, end)
        }
    }

    /// Names 10..30; the log begins at 15.
    fn root() -> Root {
        let partition = Partition {
            log_start: 15,
            end: 30,
            lineage: vec![EpochStart {
                epoch: 3,
                start_offset: 0,
            }],
            entries: vec![entry(10, 20), entry(20, 30)],
            ..Partition::default()
        };
        Root::sample(at(), partition)
    }

    fn named(base: i64, end: i64, leader_epoch: i32) -> Option<usize> {
        let held = Held {
            at: at(),
            base,
            end,
            leader_epoch,
        };
        named_for(&root(), &Keys::new("east"), &held).map(|keys| keys.len())
    }

    #[test]
    fn what_is_held_twice_is_told_from_what_is_not() {
        assert_eq!(named(20, 30, 3), Some(1));
        assert_eq!(named(10, 30, 3), Some(2));
        // Below the log's start nobody asks for it.
        assert_eq!(named(0, 15, 3), Some(0));
        assert_eq!(named(0, 20, 3), Some(1));
        // Above the end, and of a lineage that the root does not know.
        assert_eq!(named(20, 31, 3), None);
        assert_eq!(named(30, 40, 3), None);
        assert_eq!(named(20, 30, 4), None);
    }

    #[test]
    fn a_partition_that_the_root_does_not_know_may_be_all_there_is() {
        let held = Held {
            at: TopicPartition::new(Uuid::from_u128(8), 0),
            base: 0,
            end: 1,
            leader_epoch: 0,
        };
        assert!(named_for(&root(), &Keys::new("east"), &held).is_none());
    }
}
