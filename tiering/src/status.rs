//! What `/status`, `/metrics` and `/readyz` say, computed when they are asked from stored instants and
//! positions: an age goes on rising while the task that could lower it stands still.

use std::{collections::BTreeMap, sync::Arc};

use metrics::gauge;
use parking_lot::Mutex;
use serde_json::{Value, json};
use whimbrel_runtime::Clock;

use crate::{
    cache::Cache,
    compaction::Held,
    format::Key,
    meta, metrics as names,
    ops::Ops,
    orphan::OrphanEntry,
    pending::Pending,
    root::Root,
    serve::Seen,
    skew::Doubt,
    store::{self, Limited},
    uploader::Refusals,
    verify::Proof,
};

/// Shared with the parts that it describes.
#[derive(Clone, Debug)]
pub struct Status {
    pub region: String,
    pub node: i32,
    pub store: String,
    pub limited: Limited,
    pub clock: Clock,
    pub ops: Ops,
    pub cache: Arc<Cache>,
    pub pending: Arc<Mutex<Pending>>,
    pub refusals: Refusals,
    pub held: Held,
    pub damage: Arc<Mutex<BTreeMap<Key, String>>>,
    pub orphans: Arc<Mutex<Vec<OrphanEntry>>>,
    pub proof: Proof,
    pub doubt: Doubt,
    pub meta: meta::Progress,
    pub served: Seen,
    /// Why the bucket is not open yet.
    pub opening: Arc<Mutex<Option<String>>>,
}

fn shard(root: &Root) -> Value {
    let held = root.pending.len().saturating_sub(root.deletable().len());
    let holds: Vec<_> = root
        .holds
        .iter()
        .map(|hold| json!({"region": hold.region, "daemon": hold.incarnation, "since": store::utc(hold.since_ms)}))
        .collect();
    json!({
        "shard": root.shard, "epoch": root.stamp.epoch, "owner": root.stamp.incarnation, "sequence": root.stamp.sequence,
        "pending_deletes": root.pending.len(), "orphaned_objects": root.orphaned.len(), "holds": holds, "held_deletes": held,
    })
}

impl Status {
    pub fn roots(&self) -> Vec<Arc<Root>> {
        self.served
            .borrow()
            .as_ref()
            .map(|served| served.committer.roots())
            .unwrap_or_default()
    }

    /// Shards whose root is not believed, with the reason.
    fn sick(&self) -> Vec<(u16, String, &'static str)> {
        let served = self.served.borrow();
        let Some(committer) = served.as_ref().map(|served| &served.committer) else {
            return Vec::new();
        };
        (0..committer.shards())
            .filter_map(|n| committer.sick(n).map(|e| (n, e)))
            .map(|(n, e)| (n, e.to_string(), e.code().unwrap_or("WB-312")))
            .collect()
    }

    /// The regions whose buckets are read for what the own one lacks.
    fn borrowed(&self) -> Value {
        let served = self.served.borrow();
        served.as_ref().map_or(Value::Null, |s| s.borrowed.json())
    }

    /// How far the bucket is on its way to another place.
    fn moving(&self) -> Value {
        let served = self.served.borrow();
        served.as_ref().map_or(Value::Null, |s| s.mover.json())
    }

    fn age_seconds(&self) -> Option<f64> {
        let age_ms = self.pending.lock().age_ms(self.clock.wall_ms())?;
        // Ages are far below 2^53 ms.
        Some(std::time::Duration::from_millis(age_ms.unsigned_abs()).as_secs_f64())
    }

    pub fn ready(&self) -> Result<(), String> {
        if self.served.borrow().is_some() {
            // Nobody has claimed it ever: neither this daemon nor another of the region.
            let vacant = self.roots().into_iter().find(|r| r.stamp.epoch == 0);
            return match vacant {
                Some(root) => Err(format!("shard {} has no owner yet", root.shard)),
                None => Ok(()),
            };
        }
        Err(self
            .opening
            .lock()
            .clone()
            .unwrap_or_else(|| "the bucket is being opened".to_owned()))
    }

    pub fn json(&self) -> Value {
        let roots = self.roots();
        let mut topics: BTreeMap<&str, u64> = BTreeMap::new();
        let mut partitions = Vec::new();
        for (at, p) in roots.iter().flat_map(|root| &root.partitions) {
            *topics.entry(&p.topic).or_default() += p.bytes();
            partitions.push(json!({
                "topic": p.topic, "topic_id": at.topic_id, "partition": at.partition, "group": p.group,
                "log_start": p.log_start, "start_offset": p.start(), "end_offset": p.end, "objects": p.objects(), "bytes": p.bytes(),
            }));
        }
        let shards: Vec<_> = roots.iter().map(|root| shard(root)).collect();
        let refused: Vec<_> = self
            .refusals
            .lock()
            .iter()
            .map(|(at, why)| json!({"partition": at.to_string(), "reason": why}))
            .collect();
        let damaged: Vec<_> = self
            .damage
            .lock()
            .iter()
            .map(|(key, why)| json!({"object": key.as_str(), "reason": why}))
            .collect();
        let sick: Vec<_> = self
            .sick()
            .iter()
            .map(|(shard, why, code)| json!({"shard": shard, "code": code, "reason": why}))
            .collect();
        let slowed: Vec<_> = self
            .limited
            .slowed()
            .into_iter()
            .map(|(prefix, rate)| json!({"prefix": prefix, "requests_per_second": rate}))
            .collect();
        let locked: Vec<_> = self
            .limited
            .locked()
            .into_iter()
            .map(|(key, until_ms)| json!({"object": key.as_str(), "until": until_ms.map(store::utc)}))
            .collect();
        let store_refuses = self
            .limited
            .refused()
            .map(|(age, reason)| json!({"seconds": age.as_secs(), "reason": reason}));
        json!({
            "role": "tiering", "region": self.region, "node": self.node, "store": self.store,
            "ready": self.ready().err().map_or(Value::Bool(true), Value::String),
            "oldest_unuploaded_age_seconds": self.age_seconds(),
            "tiered_bytes": topics, "partitions": partitions, "shards": shards,
            "quarantined_shards": sick, "clock_doubted": *self.doubt.lock(), "verify": self.proof.json(&self.clock),
            "meta": self.meta.json(&self.clock), "move": self.moving(), "borrowed": self.borrowed(),
            "stuck": self.ops.stuck(), "slowed": slowed, "locked_deletions": locked, "store_refuses": store_refuses, "refused": refused, "compaction_held": self.held.json(), "damaged": damaged,
            "cache": {"bytes": self.cache.bytes(), "limit": self.cache.limit(), "hits": self.cache.hits(), "misses": self.cache.misses()},
            "orphans": *self.orphans.lock(),
        })
    }

    /// Sets the gauges.
    pub fn scrape(&self) {
        let labels = [
            ("region", self.region.clone()),
            ("node", self.node.to_string()),
            ("role", "tiering".to_owned()),
        ];
        let set = |name: &'static str, value: f64| gauge!(name, &labels).set(value);
        if let Some(age) = self.age_seconds() {
            set(names::UNUPLOADED_AGE, age);
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "Prometheus knows no other number"
        )]
        let float = |n: u64| n as f64;
        set(names::CACHE_BYTES, float(self.cache.bytes()));
        set(names::CACHE_LIMIT, float(self.cache.limit()));
        set(names::CACHE_HITS, float(self.cache.hits()));
        set(names::CACHE_MISSES, float(self.cache.misses()));
        set(names::STUCK, float(self.ops.stuck().len() as u64));
        set(names::LOCKED, float(self.limited.locked().len() as u64));
        let refused = self
            .limited
            .refused()
            .map_or(0.0, |(age, _)| age.as_secs_f64());
        set(names::REFUSED, refused);
        set(names::ORPHANS, float(self.orphans.lock().len() as u64));
        set(names::COMPACTION_HELD, float(self.held.count() as u64));
        set(names::QUARANTINED, float(self.damage.lock().len() as u64));
        set(names::QUARANTINED_SHARDS, float(self.sick().len() as u64));
        if let (Some(last), Some(age)) = (self.proof.last(), self.proof.age_seconds(&self.clock)) {
            set(names::VERIFIED_AGE, age);
            set(names::VERIFY_PROBLEMS, float(last.report.problems_found));
            set(names::VERIFIED_OBJECTS, float(last.report.objects_checked));
        }
        if let Some(age) = self.meta.age_seconds(&self.clock) {
            set(names::META_AGE, age);
        }
        let mut topics: BTreeMap<String, u64> = BTreeMap::new();
        for partition in self
            .roots()
            .iter()
            .flat_map(|root| root.partitions.values())
        {
            *topics.entry(partition.topic.clone()).or_default() += partition.bytes();
        }
        for (topic, bytes) in topics {
            let [region, node, role] = labels.clone();
            gauge!(names::TIERED_BYTES, &[region, node, role, ("topic", topic)]).set(float(bytes));
        }
    }
}
