//! Who asked the store for what: requests and bytes by cause and topic, counted where they are made.
//!
//! Every part of the daemon has a handle of its own on the one store, so that no request is without a cause. A
//! topic is known where the key is that of a data object; roots, listings and probes belong to none. Failed
//! requests count too: providers charge for most of them.

use std::{collections::BTreeMap, ops::Range, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Found, IsDead, Listed, Meta, Source, Store, StoreError, Version};
use crate::{
    format::{Key, Keys},
    prices::{Class, Prices},
};

/// Keys that one LIST request answers.
const PAGE: u64 = 1_000;
/// Topics told apart for each cause; what comes beyond is counted together, under none.
const MOST_TOPICS: usize = 10_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// PUT, COPY and the requests of a multipart upload; LIST costs the same.
    pub puts: u64,
    pub lists: u64,
    pub gets: u64,
    pub heads: u64,
    pub deletes: u64,
    pub uploaded: u64,
    pub downloaded: u64,
}

impl Counts {
    /// What it costs by `prices`.
    pub fn price(&self, prices: &Prices) -> f64 {
        let times = |class, count: u64| {
            #[expect(clippy::cast_precision_loss, reason = "an amount of money")]
            let count = count as f64;
            prices.request(class) * count
        };
        times(Class::Put, self.puts.saturating_add(self.lists))
            + times(Class::Get, self.gets.saturating_add(self.heads))
            + times(Class::Delete, self.deletes)
            + prices.upload(self.uploaded)
            + prices.download(self.downloaded)
    }
}

/// Cause, and topic where there is one.
type Line = (&'static str, Option<Uuid>);

/// Clones share the counts.
#[derive(Clone, Debug)]
pub struct Ledger {
    keys: Keys,
    counts: Arc<Mutex<BTreeMap<Line, Counts>>>,
}

impl Ledger {
    pub fn new(keys: Keys) -> Self {
        Self {
            keys,
            counts: Arc::default(),
        }
    }

    /// `store` for one part of the daemon.
    pub fn of(&self, cause: &'static str, store: &Arc<dyn Store>) -> Arc<dyn Store> {
        Arc::new(Counted {
            store: Arc::clone(store),
            ledger: self.clone(),
            cause,
        })
    }

    fn count(&self, cause: &'static str, key: Option<&Key>, change: impl FnOnce(&mut Counts)) {
        let topic = key.and_then(|key| self.keys.parse_data(key));
        let mut counts = self.counts.lock();
        let full = counts.len() >= MOST_TOPICS;
        let mut at = (cause, topic.map(|name| name.at.topic_id));
        if full && !counts.contains_key(&at) {
            at.1 = None;
        }
        change(counts.entry(at).or_default());
    }

    /// A line for each cause and topic, dearest first; `name` knows topics.
    pub fn json(&self, prices: &Prices, name: impl Fn(Uuid) -> Option<String>) -> Value {
        let mut lines: Vec<_> = self
            .counts
            .lock()
            .iter()
            .map(|((cause, topic), counts)| (*cause, *topic, *counts, counts.price(prices)))
            .collect();
        lines.sort_by(|a, b| b.3.total_cmp(&a.3));
        let line = |(cause, topic, c, price): &(&str, Option<Uuid>, Counts, f64)| {
            let topic = topic.map(|id| name(id).unwrap_or_else(|| id.to_string()));
            json!({
                "cause": cause, "topic": topic, "puts": c.puts, "lists": c.lists, "gets": c.gets, "heads": c.heads,
                "deletes": c.deletes, "uploaded_bytes": c.uploaded, "downloaded_bytes": c.downloaded, "dollars": price,
            })
        };
        Value::Array(lines.iter().map(line).collect())
    }
}

/// One part's handle.
#[derive(Debug)]
struct Counted {
    store: Arc<dyn Store>,
    ledger: Ledger,
    cause: &'static str,
}

impl Counted {
    fn count(&self, key: &Key, change: impl FnOnce(&mut Counts)) {
        self.ledger.count(self.cause, Some(key), change);
    }
}

#[async_trait]
impl Store for Counted {
    fn describe(&self) -> String {
        self.store.describe()
    }

    async fn get(&self, key: &Key, max_bytes: u64) -> Result<Found, StoreError> {
        let found = self.store.get(key, max_bytes).await;
        let bytes = found.as_ref().map_or(0, |f| f.bytes.len() as u64);
        self.count(key, |c| {
            c.gets += 1;
            c.downloaded += bytes;
        });
        found
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        let found = self.store.get_range(key, range).await;
        let bytes = found.as_ref().map_or(0, |f| f.len() as u64);
        self.count(key, |c| {
            c.gets += 1;
            c.downloaded += bytes;
        });
        found
    }

    async fn head(&self, key: &Key) -> Result<Meta, StoreError> {
        self.count(key, |c| c.heads += 1);
        self.store.head(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let listed = self.store.list(prefix).await;
        let keys = listed.as_ref().map_or(0, |l| l.len() as u64);
        self.ledger
            .count(self.cause, None, |c| c.lists += keys.div_ceil(PAGE).max(1));
        listed
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.count(key, |c| c.deletes += 1);
        self.store.delete(key).await
    }

    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<Version, StoreError> {
        self.count(key, |c| {
            c.puts += 1;
            c.uploaded += bytes.len() as u64;
        });
        self.store.put_if_absent(key, bytes).await
    }

    async fn swap(
        &self,
        key: &Key,
        bytes: Bytes,
        expected: &Version,
    ) -> Result<Version, StoreError> {
        self.count(key, |c| {
            c.puts += 1;
            c.uploaded += bytes.len() as u64;
        });
        self.store.swap(key, bytes, expected).await
    }

    async fn put_file(&self, key: &Key, source: &Source) -> Result<Option<u64>, StoreError> {
        let length = source.length();
        self.count(key, |c| {
            c.puts += self.store.upload_requests(length);
            c.uploaded += length;
        });
        self.store.put_file(key, source).await
    }

    async fn drop_unfinished(
        &self,
        prefix: &str,
        is_dead: &IsDead<'_>,
    ) -> Result<usize, StoreError> {
        self.ledger.count(self.cause, None, |c| c.lists += 1);
        self.store.drop_unfinished(prefix, is_dead).await
    }

    fn upload_requests(&self, length: u64) -> u64 {
        self.store.upload_requests(length)
    }

    fn local(&self, key: &Key) -> Option<PathBuf> {
        self.store.local(key)
    }

    async fn check_options(&self) -> Result<(), StoreError> {
        self.store.check_options().await
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<(), StoreError> {
        self.count(to, |c| c.puts += 1);
        self.store.copy(from, to).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_requests_and_bytes() {
        let prices = Prices {
            download_per_gib: 0.5,
            ..Prices::load(None).unwrap()
        };
        let counts = Counts {
            puts: 1_000,
            lists: 1_000,
            gets: 10_000,
            deletes: 5,
            downloaded: 2 << 30,
            ..Counts::default()
        };
        assert!((counts.price(&prices) - (0.01 + 0.004 + 1.0)).abs() < 1e-9);
    }
}
