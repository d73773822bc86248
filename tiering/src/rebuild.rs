//! New roots where one cannot be believed: from the newest readable kept root of the shard, and from the
//! objects in the listing by their footers and lineage.
//!
//! A plan first; it changes nothing. Only shards that are quarantined are looked at: a root that is sound is
//! better than anything made here. Every object that the kept root does not name is read whole before it is
//! named again, because what a root names may be freed elsewhere. Nothing is deleted: what does not fit stays
//! in the bucket, is listed in the new root as orphaned, and is told with the reason. The new root's epoch is
//! above all that were found, it is swapped in only in the place of what was looked at, and then the shard is
//! claimed as at a start.

mod candidate;
mod chain;
mod compacted;
mod parts;
mod route;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::Serialize;
use uuid::Uuid;
use whimbrel_fleet::{EpochStart, TopicPartition};
use whimbrel_rpc::proto::node;
use whimbrel_runtime::{Clock, random};

pub(crate) use candidate::footer_of;
pub(crate) use route::route;

use self::{candidate::Candidate, chain::Log};
use crate::{
    broker::{BrokerLink, lineage_from, partition_from},
    committer::{Committer, newest},
    format::{Key, Keys, ObjectName},
    root::{Entry, MAX_BYTES, Orphaned, Partition, Root, Stamp},
    store::{Listed, Store, StoreError, Version},
};

/// Claims that may have been made since the newest thing that is left of a shard: one each start.
const EPOCHS_ABOVE: u64 = 1_000;
/// A damaged root is put aside up to this size.
const MAX_ASIDE: u64 = 16 << 20;

#[derive(Clone, Debug)]
pub struct Rebuilder {
    pub store: Arc<dyn Store>,
    pub keys: Keys,
    pub region: String,
    pub committer: Committer,
    pub broker: BrokerLink,
    pub incarnation: Uuid,
    pub clock: Clock,
}

#[derive(Debug, Serialize)]
pub struct Plan {
    /// Of what would be named and what would be left out; the same plan has the same hash.
    pub hash: String,
    pub shards: Vec<ShardPlan>,
}

#[derive(Debug, Serialize)]
pub struct ShardPlan {
    pub shard: u16,
    /// Why it is quarantined.
    pub reason: String,
    /// The kept root that it begins with.
    pub kept_root: Option<String>,
    pub epoch: u64,
    pub partitions: Vec<PartitionPlan>,
    pub left_out: Vec<LeftOut>,
    pub applied: bool,
    pub refused: Option<String>,
    #[serde(skip)]
    root: Root,
    /// What stands in the root's place now.
    #[serde(skip)]
    there: Option<Version>,
}

#[derive(Clone, Debug, Serialize)]
pub struct PartitionPlan {
    pub topic: String,
    pub partition: i32,
    pub start_offset: i64,
    pub end_offset: i64,
    pub objects: usize,
    /// Found by the listing and read whole; the others were named by the kept root.
    pub unproven: usize,
    /// Named by the kept root and not in the bucket.
    pub missing: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    pub object: String,
    pub why: String,
    /// What of it is left out, where that is known.
    #[serde(skip)]
    range: Option<(TopicPartition, i64, i64)>,
}

impl Rebuilder {
    pub async fn plan(&self) -> Result<Plan, StoreError> {
        let sick: Vec<_> = (0..self.committer.shards())
            .filter_map(|n| Some((n, self.committer.sick(n)?.to_string())))
            .collect();
        let mut shards = Vec::new();
        if !sick.is_empty() {
            let listed = self.store.list(&self.keys.data_prefix()).await?;
            for (shard, reason) in sick {
                shards.push(self.plan_shard(shard, reason, &listed).await?);
            }
        }
        let mut crc = 0;
        for shard in &shards {
            crc = crc32c::crc32c_append(crc, &shard.identity());
        }
        Ok(Plan {
            hash: format!("{crc:08x}"),
            shards,
        })
    }

    /// Does what the plan says, shard by shard, if it is still the same plan.
    pub async fn apply(&self, hash: &str) -> Result<Plan, StoreError> {
        let mut plan = self.plan().await?;
        let same = plan.hash == hash;
        for shard in &mut plan.shards {
            let done = if same {
                self.replace(shard).await
            } else {
                Err("the plan is another one now".to_owned())
            };
            match done {
                Ok(()) => shard.applied = true,
                Err(why) => shard.refused = Some(why),
            }
        }
        Ok(plan)
    }

    async fn plan_shard(
        &self,
        shard: u16,
        reason: String,
        listed: &[Listed],
    ) -> Result<ShardPlan, StoreError> {
        let there = match self.store.head(&self.keys.root(shard)).await {
            Ok(meta) => Some(meta.version),
            Err(e) if e.is_not_found() => None,
            Err(e) => return Err(e),
        };
        let mut kept = self.newest_kept(shard).await?;
        // An older root than there was, and newer than all that were kept.
        let older = self.believed(&self.keys.root(shard), shard).await?;
        if let Some(older) = older
            && kept
                .as_ref()
                .is_none_or(|(_, kept)| kept.stamp.number() < older.stamp.number())
        {
            kept = Some((self.keys.root(shard), older));
        }
        let newest = newest(&*self.store, &self.keys, shard).await?;
        let newest = newest.map(|(number, _)| number).unwrap_or_default();
        let objects: Vec<(ObjectName, &Listed)> = listed
            .iter()
            .filter_map(|l| Some((self.keys.parse_object(&l.key)?, l)))
            .filter(|(name, _)| name.shard() == shard)
            .collect();
        let there_are: BTreeSet<&Key> = objects.iter().map(|(_, l)| &l.key).collect();
        let stamp = self.stamp(kept.as_ref().map(|(_, root)| root), newest);
        let now_ms = self.clock.wall_ms();
        let mut root = Root::empty(stamp, &self.region, shard, self.committer.shards(), now_ms);
        let mut plan_left = Vec::new();
        if let Some((_, kept)) = &kept {
            root.partitions.clone_from(&kept.partitions);
            root.orphaned.clone_from(&kept.orphaned);
        }
        let forgot = self.take_back(&mut root).await?;
        let (mut new, left) = self.candidates(&root, &objects, forgot).await?;
        plan_left.extend(left);
        let mut ats: Vec<TopicPartition> = root.partitions.keys().copied().collect();
        ats.extend(new.keys().copied());
        ats.sort_unstable();
        ats.dedup();
        let logs = self.logs(&ats).await;
        let mut partitions = Vec::new();
        for at in ats {
            let candidates = new.remove(&at).unwrap_or_default();
            let mut partition = root.partitions.remove(&at).unwrap_or_default();
            let here = |e: &Entry| there_are.contains(&e.key(&self.keys, shard, at));
            let (planned, left) = continued(at, &mut partition, candidates, logs.get(&at), here);
            partitions.push(planned);
            plan_left.extend(left);
            if !partition.topic.is_empty() {
                root.partitions.insert(at, partition);
            }
        }
        self.keep_left(&mut root, &plan_left);
        Ok(ShardPlan {
            shard,
            reason,
            kept_root: kept.map(|(key, _)| key.to_string()),
            epoch: stamp.epoch,
            partitions,
            left_out: plan_left,
            applied: false,
            refused: None,
            root,
            there,
        })
    }

    /// Above all that were found, and all that names in the bucket tell of.
    fn stamp(&self, found: Option<&Root>, newest: (u64, u64)) -> Stamp {
        let (epoch, sequence) = found.map_or((0, 0), |root| root.stamp.number());
        Stamp {
            incarnation: self.incarnation,
            epoch: epoch.max(newest.0).saturating_add(EPOCHS_ABOVE),
            sequence: sequence.max(newest.1).saturating_add(EPOCHS_ABOVE),
            nonce: random::uuid(),
        }
    }

    /// The newest kept root of the shard that can be believed.
    async fn newest_kept(&self, shard: u16) -> Result<Option<(Key, Root)>, StoreError> {
        let mut listed = self.store.list(&self.keys.kept_prefix(shard)).await?;
        listed.sort_by(|a, b| b.key.cmp(&a.key));
        for kept in listed {
            let Some(root) = self.believed(&kept.key, shard).await? else {
                continue;
            };
            let (epoch, sequence) = root.stamp.number();
            if kept.key == self.keys.kept_root(shard, epoch, sequence) {
                return Ok(Some((kept.key, root)));
            }
            tracing::error!(key = %kept.key, "a kept root is of another time");
        }
        Ok(None)
    }

    /// The root at `key`, if it is there, whole, and of this shard.
    async fn believed(&self, key: &Key, shard: u16) -> Result<Option<Root>, StoreError> {
        let found = match self.store.get(key, MAX_BYTES).await {
            Ok(found) => found,
            Err(e) if e.is_not_found() => return Ok(None),
            Err(e) if e.is_retryable() => return Err(e),
            Err(error) => {
                tracing::error!(%key, %error, "a root cannot be read");
                return Ok(None);
            }
        };
        match Root::decode(&found.bytes) {
            Ok(root) if root.is_of(&self.region, shard, self.committer.shards()) => {
                return Ok(Some(root));
            }
            Ok(_) => tracing::error!(%key, "a root is of another place"),
            Err(error) => tracing::error!(%key, %error, "a root is damaged"),
        }
        Ok(None)
    }

    /// Slices that `root` does not name, their objects read whole; and objects that cannot be believed. Where
    /// it `forgot` partitions, an object that it names may hold slices of those too.
    async fn candidates(
        &self,
        root: &Root,
        objects: &[(ObjectName, &Listed)],
        forgot: bool,
    ) -> Result<(BTreeMap<TopicPartition, Vec<Candidate>>, Vec<LeftOut>), StoreError> {
        let mut found: BTreeMap<TopicPartition, Vec<Candidate>> = BTreeMap::new();
        let mut left = Vec::new();
        for (name, listed) in objects {
            let may_hold_more = forgot && matches!(name, ObjectName::Merged(_));
            if root.holds(&self.keys, &listed.key) && !may_hold_more {
                continue;
            }
            let slices = candidate::read(&*self.store, &self.region, name, listed).await?;
            let slices = slices.unwrap_or_else(|why| {
                left.push(LeftOut {
                    object: listed.key.to_string(),
                    why,
                    range: None,
                });
                Vec::new()
            });
            for candidate in slices {
                let known = root.partitions.get(&candidate.at);
                if !known.is_some_and(|p| p.entries.iter().any(|e| candidate.is(e))) {
                    found.entry(candidate.at).or_default().push(candidate);
                }
            }
        }
        Ok((found, left))
    }

    /// What the broker has of these partitions. Without a broker the bucket alone decides.
    async fn logs(&self, ats: &[TopicPartition]) -> BTreeMap<TopicPartition, Log> {
        let asked: Vec<node::PartitionId> = ats.iter().map(|at| (*at).into()).collect();
        let logs = match self.broker.logs(asked, false).await {
            Ok(logs) => logs,
            Err(status) => {
                tracing::warn!(reason = status.message(), "the logs are not known");
                return BTreeMap::new();
            }
        };
        let known = |log: &node::LogState| -> Option<(TopicPartition, Log)> {
            let lineage: Vec<EpochStart> = lineage_from(&log.lineage)?;
            // What is not the home's word says nothing of what may be left out.
            let log_start = match log.log_start_stands {
                true => log.log_start,
                false => 0,
            };
            Some((partition_from(log.at.as_ref())?, Log { log_start, lineage }))
        };
        logs.iter().filter_map(known).collect()
    }

    /// What is left out is never swept: the new root lists it.
    fn keep_left(&self, root: &mut Root, left: &[LeftOut]) {
        for left in left {
            let Some(key) = Key::parse(&left.object) else {
                continue;
            };
            let named = self.keys.parse_data(&key);
            let named = named.map(|name| (name.at, name.base, name.last.saturating_add(1)));
            // Of a shared object that cannot be read nobody knows what it held.
            let unknown = (TopicPartition::new(Uuid::nil(), -1), 0, 0);
            let (at, from, end) = left.range.or(named).unwrap_or(unknown);
            let is_same = |o: &Orphaned| o.key == key && (o.at, o.from) == (at, from);
            if !root.orphaned.iter().any(is_same) {
                root.orphaned.push(Orphaned { key, at, from, end });
            }
        }
    }

    /// Puts the damaged root aside, swaps the new one in, and claims the shard.
    async fn replace(&self, plan: &ShardPlan) -> Result<(), String> {
        let root = self.give_away(plan.root.clone()).await?;
        let (key, bytes) = (self.keys.root(plan.shard), root.encode());
        if bytes.len() as u64 > MAX_BYTES {
            return Err(format!(
                "{} bytes are more than a root may have",
                bytes.len()
            ));
        }
        Root::decode(&bytes).map_err(|e| format!("what was made is no root: {e}"))?;
        let written = match &plan.there {
            Some(version) => {
                if let Ok(found) = self.store.get(&key, MAX_ASIDE).await {
                    let aside = self.keys.aside(plan.shard, random::uuid());
                    let put = self.store.put_if_absent(&aside, found.bytes).await;
                    put.map_err(|e| e.to_string())?;
                }
                self.store.swap(&key, bytes.into(), version).await
            }
            None => self.store.put_if_absent(&key, bytes.into()).await,
        };
        // Whatever the answer was, what is there decides.
        let now = self.store.get(&key, MAX_BYTES).await;
        let now = now.map_err(|e| e.to_string())?;
        let ours = Root::decode(&now.bytes).is_ok_and(|now| now.stamp == root.stamp);
        if !ours {
            let why = written.err().map_or_else(String::new, |e| format!(": {e}"));
            return Err(format!("something else was written there meanwhile{why}"));
        }
        tracing::warn!(
            shard = plan.shard,
            epoch = plan.epoch,
            "a root was made anew"
        );
        self.committer
            .reopen(plan.shard)
            .await
            .map_err(|e| e.to_string())
    }
}

/// Makes one partition as long as it can be, and says of what.
fn continued(
    at: TopicPartition,
    partition: &mut Partition,
    mut candidates: Vec<Candidate>,
    log: Option<&Log>,
    here: impl Fn(&Entry) -> bool,
) -> (PartitionPlan, Vec<LeftOut>) {
    chain::drop_deleted(partition, log, &here);
    let kept = partition.entries.clone();
    compacted::take(partition, &mut candidates, &here);
    let left = chain::extend(partition, candidates, log);
    let entries = &partition.entries;
    let is_kept = |e: &Entry| {
        kept.iter()
            .any(|k| k.random == e.random && k.base == e.base)
    };
    let plan = PartitionPlan {
        topic: partition.topic.clone(),
        partition: at.partition,
        start_offset: partition.start(),
        end_offset: partition.end,
        objects: entries.len(),
        unproven: entries.iter().filter(|e| !is_kept(e)).count(),
        missing: entries.iter().filter(|e| !here(e)).count(),
    };
    (plan, left)
}

impl ShardPlan {
    /// What the plan's hash covers.
    fn identity(&self) -> Vec<u8> {
        let mut text = format!("{}|{:?}|{:?}", self.shard, self.kept_root, self.there);
        for (at, partition) in &self.root.partitions {
            text.push_str(&format!("|{at}{}", names(partition)));
        }
        for left in &self.left_out {
            text.push_str(&format!("|{}", left.object));
        }
        text.into_bytes()
    }
}

fn names(partition: &Partition) -> String {
    let entries = partition.entries.iter();
    entries
        .map(|e| format!(",{}-{}-{:x}", e.base, e.end, e.random))
        .collect()
}
