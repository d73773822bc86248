//! `GET /cost`: what this daemon has asked the store for since its start, by cause and topic, and what that
//! and the stored bytes cost by its price file.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, Router, routing::get};
use serde_json::{Value, json};
use uuid::Uuid;
use whimbrel_runtime::Clock;

use crate::{
    format::{Keys, ObjectName},
    prices::Prices,
    root::Root,
    status::Status,
    store::{Ledger, Owners, Store},
};

#[derive(Clone, Debug)]
pub(crate) struct Cost {
    pub status: Status,
    pub ledger: Ledger,
    pub prices: Prices,
    pub store: Arc<dyn Store>,
    pub clock: Clock,
    pub begun_boot_ms: u64,
}

impl Cost {
    pub fn route(self) -> Router {
        Router::new().route("/cost", get(async move || Json(self.json())))
    }

    fn json(&self) -> Value {
        let roots = self.status.roots();
        let topics = topics(&roots);
        let stored: Vec<Value> = topics
            .iter()
            .map(|(_, (name, bytes, objects))| {
                json!({"topic": name, "bytes": bytes, "objects": objects, "dollars_month": self.prices.storage_month(*bytes)})
            })
            .collect();
        let seconds = self.clock.boot_ms().saturating_sub(self.begun_boot_ms) / 1_000;
        json!({
            "region": self.status.region, "store": self.store.describe(), "since_seconds": seconds, "prices": self.prices,
            "requests": self.ledger.json(&self.prices, |id| Some(topics.get(&id)?.0.clone())),
            "stored": stored,
        })
    }
}

/// One that asks the roots about merged objects.
pub(crate) fn ledger(status: &Status, keys: &Keys) -> Ledger {
    let ledger = Ledger::new(keys.clone());
    ledger.ask(owners(status, keys));
    ledger
}

/// Whose bytes lie in a merged object, as the roots know it: for those that were uploaded before this start, or elsewhere.
fn owners(status: &Status, keys: &Keys) -> Owners {
    let (status, keys) = (status.clone(), keys.clone());
    Arc::new(move |key| {
        let Some(ObjectName::Merged(name)) = keys.parse_object(key) else {
            return None;
        };
        let lies_there = Some((name.writer_epoch, name.random));
        let mut shares = BTreeMap::new();
        let roots = status.roots();
        let root = roots.iter().find(|root| root.shard == name.shard)?;
        for (at, partition) in &root.partitions {
            let slices = partition.entries.iter();
            for slice in slices.filter(|slice| slice.shared() == lies_there) {
                *shares.entry(at.topic_id).or_insert(0) += slice.data_bytes;
            }
        }
        (!shares.is_empty()).then(|| shares.into_iter().collect())
    })
}

/// Name, bytes of data and slices of each topic.
fn topics(roots: &[Arc<Root>]) -> BTreeMap<Uuid, (String, u64, u64)> {
    let mut topics: BTreeMap<Uuid, (String, u64, u64)> = BTreeMap::new();
    for (at, partition) in roots.iter().flat_map(|root| &root.partitions) {
        let topic = topics.entry(at.topic_id).or_default();
        topic.0.clone_from(&partition.topic);
        topic.1 += partition.bytes();
        topic.2 += partition.objects();
    }
    topics
}
