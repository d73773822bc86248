//! `GET /cost`: what this daemon has asked the store for since its start, by cause and topic, and what that
//! and the stored bytes cost by its price file.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, Router, routing::get};
use serde_json::{Value, json};
use uuid::Uuid;
use whimbrel_runtime::Clock;

use crate::{
    prices::Prices,
    root::Root,
    status::Status,
    store::{Ledger, Store},
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
