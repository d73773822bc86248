//! Who asked the store for what: requests and bytes by cause and topic, counted where they are made.
//!
//! Every part of the daemon has a handle of its own on the one store, so that no request is without a cause. A
//! topic is known where the key is that of a data object; one that several topics share is booked to them by their
//! bytes; roots, listings and probes belong to none. Failed requests count too: providers charge for most of them.

use std::{collections::BTreeMap, fmt::Debug, ops::Range, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Brought, Found, IsDead, Known, Listed, Meta, Origin, Source, Store, StoreError, Version,
};
use crate::{
    format::{Key, Keys, ObjectName},
    prices::{Class, Prices},
};

/// Keys that one LIST request answers.
const PAGE: u64 = 1_000;
/// Topics told apart for each cause; what comes beyond is counted together, under none.
const MOST_TOPICS: usize = 10_000;
/// Shared objects whose topics are remembered; those of others are looked up again.
const MOST_SHARED: usize = 10_000;

/// Requests are fractions where objects are shared.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// PUT, COPY and the requests of a multipart upload; LIST costs the same.
    pub puts: f64,
    pub lists: f64,
    pub gets: f64,
    pub heads: f64,
    pub deletes: f64,
    pub uploaded: f64,
    pub downloaded: f64,
}

/// Bytes of each topic in an object.
pub type Shares = Arc<[(Uuid, u64)]>;

/// Knows whose bytes lie in a shared object.
pub type Owners = Arc<dyn Fn(&Key) -> Option<Shares> + Send + Sync>;

impl Counts {
    /// What it costs by `prices`.
    pub fn price(&self, prices: &Prices) -> f64 {
        prices.request(Class::Put) * (self.puts + self.lists)
            + prices.request(Class::Get) * (self.gets + self.heads)
            + prices.request(Class::Delete) * self.deletes
            + prices.upload(whole(self.uploaded))
            + prices.download(whole(self.downloaded))
    }

    fn add(&mut self, more: &Self, part: f64) {
        self.puts += more.puts * part;
        self.lists += more.lists * part;
        self.gets += more.gets * part;
        self.heads += more.heads * part;
        self.deletes += more.deletes * part;
        self.uploaded += more.uploaded * part;
        self.downloaded += more.downloaded * part;
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sums of bytes, which a float holds exactly up to 8 PiB"
)]
fn whole(bytes: f64) -> u64 {
    bytes.round() as u64
}

#[expect(
    clippy::cast_precision_loss,
    reason = "bytes of a request, and shares of them"
)]
fn float(count: u64) -> f64 {
    count as f64
}

/// A whole number as one, a fraction with three digits.
fn number(count: f64) -> Value {
    let rounded = (count * 1_000.0).round() / 1_000.0;
    if rounded.fract() == 0.0 {
        json!(whole(rounded))
    } else {
        json!(rounded)
    }
}

/// Cause, and topic where there is one.
type Line = (&'static str, Option<Uuid>);

/// Clones share the counts.
#[derive(Clone)]
pub struct Ledger {
    keys: Keys,
    counts: Arc<Mutex<BTreeMap<Line, Counts>>>,
    shared: Arc<Mutex<BTreeMap<Key, Shares>>>,
    owners: Arc<Mutex<Option<Owners>>>,
}

impl Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Ledger").field(&self.keys).finish()
    }
}

impl Ledger {
    pub fn new(keys: Keys) -> Self {
        Self {
            keys,
            counts: Arc::default(),
            shared: Arc::default(),
            owners: Arc::default(),
        }
    }

    /// Who is asked about shared objects that were not uploaded here.
    pub fn ask(&self, owners: Owners) {
        *self.owners.lock() = Some(owners);
    }

    /// `store` for one part of the daemon.
    pub fn of(&self, cause: &'static str, store: &Arc<dyn Store>) -> Arc<dyn Store> {
        Arc::new(Counted {
            store: Arc::clone(store),
            ledger: self.clone(),
            cause,
        })
    }

    fn count(&self, cause: &'static str, key: Option<&Key>, more: &Counts) {
        let shares = key.and_then(|key| self.shares(key));
        let all: u64 = shares.iter().flat_map(|s| s.iter()).map(|(_, b)| b).sum();
        let mut counts = self.counts.lock();
        match shares {
            Some(shares) if all > 0 => {
                for (topic, bytes) in shares.iter() {
                    let part = float(*bytes) / float(all);
                    line(&mut counts, (cause, Some(*topic))).add(more, part);
                }
            }
            _ => line(&mut counts, (cause, None)).add(more, 1.0),
        }
    }

    /// Whose the object is; `None` for what is no data.
    fn shares(&self, key: &Key) -> Option<Shares> {
        match self.keys.parse_object(key)? {
            ObjectName::Own(name) => Some([(name.at.topic_id, 1)].into()),
            ObjectName::Merged(_) => {
                let known = self.shared.lock().get(key).cloned();
                known.or_else(|| {
                    let owners = self.owners.lock().clone()?;
                    let shares = owners(key)?;
                    self.learn(key, &shares);
                    Some(shares)
                })
            }
        }
    }

    fn learn(&self, key: &Key, shares: &Shares) {
        let mut shared = self.shared.lock();
        if shared.len() >= MOST_SHARED {
            shared.pop_first();
        }
        shared.insert(key.clone(), Arc::clone(shares));
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
                "cause": cause, "topic": topic, "puts": number(c.puts), "lists": number(c.lists), "gets": number(c.gets),
                "heads": number(c.heads), "deletes": number(c.deletes), "uploaded_bytes": whole(c.uploaded),
                "downloaded_bytes": whole(c.downloaded), "dollars": price,
            })
        };
        Value::Array(lines.iter().map(line).collect())
    }
}

/// What comes beyond the bound is counted under no topic.
fn line(counts: &mut BTreeMap<Line, Counts>, mut at: Line) -> &mut Counts {
    if counts.len() >= MOST_TOPICS && !counts.contains_key(&at) {
        at.1 = None;
    }
    counts.entry(at).or_default()
}

/// One part's handle.
#[derive(Debug)]
struct Counted {
    store: Arc<dyn Store>,
    ledger: Ledger,
    cause: &'static str,
}

impl Counted {
    fn count(&self, key: &Key, more: Counts) {
        self.ledger.count(self.cause, Some(key), &more);
    }

    fn count_get(&self, key: &Key, bytes: usize) {
        self.count(
            key,
            Counts {
                gets: 1.0,
                downloaded: float(bytes as u64),
                ..Counts::default()
            },
        );
    }

    fn count_put(&self, key: &Key, puts: u64, bytes: u64) {
        self.count(
            key,
            Counts {
                puts: float(puts),
                uploaded: float(bytes),
                ..Counts::default()
            },
        );
    }

    fn count_lists(&self, lists: u64) {
        let more = Counts {
            lists: float(lists),
            ..Counts::default()
        };
        self.ledger.count(self.cause, None, &more);
    }
}

#[async_trait]
impl Store for Counted {
    fn describe(&self) -> String {
        self.store.describe()
    }

    async fn get(&self, key: &Key, max_bytes: u64) -> Result<Found, StoreError> {
        let found = self.store.get(key, max_bytes).await;
        self.count_get(key, found.as_ref().map_or(0, |f| f.bytes.len()));
        found
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        let found = self.store.get_range(key, range).await;
        self.count_get(key, found.as_ref().map_or(0, Bytes::len));
        found
    }

    async fn head(&self, key: &Key) -> Result<Meta, StoreError> {
        let one = Counts {
            heads: 1.0,
            ..Counts::default()
        };
        self.count(key, one);
        self.store.head(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        let listed = self.store.list(prefix).await;
        let keys = listed.as_ref().map_or(0, |l| l.len() as u64);
        self.count_lists(keys.div_ceil(PAGE).max(1));
        listed
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let one = Counts {
            deletes: 1.0,
            ..Counts::default()
        };
        self.count(key, one);
        self.store.delete(key).await
    }

    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<Version, StoreError> {
        self.count_put(key, 1, bytes.len() as u64);
        self.store.put_if_absent(key, bytes).await
    }

    async fn swap(
        &self,
        key: &Key,
        bytes: Bytes,
        expected: &Version,
    ) -> Result<Version, StoreError> {
        self.count_put(key, 1, bytes.len() as u64);
        self.store.swap(key, bytes, expected).await
    }

    async fn put_file(&self, key: &Key, source: &Source) -> Result<Option<u64>, StoreError> {
        if !source.shares.is_empty() {
            self.ledger.learn(key, &source.shares);
        }
        let length = source.length();
        self.count_put(key, self.store.upload_requests(length), length);
        self.store.put_file(key, source).await
    }

    async fn drop_unfinished(
        &self,
        prefix: &str,
        is_dead: &IsDead<'_>,
    ) -> Result<usize, StoreError> {
        self.count_lists(1);
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
        self.count_put(to, 1, 0);
        self.store.copy(from, to).await
    }

    fn origin(&self) -> Option<Origin> {
        self.store.origin()
    }

    async fn bring(&self, from: &Origin, known: &Known<'_>) -> Result<Brought, StoreError> {
        self.count_put(known.key, 1, 0);
        self.store.bring(from, known).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::MergedName;

    #[test]
    fn a_price_is_requests_and_bytes() {
        let prices = Prices {
            download_per_gib: 0.5,
            ..Prices::load(None).unwrap()
        };
        let counts = Counts {
            puts: 1_000.0,
            lists: 1_000.0,
            gets: 10_000.0,
            deletes: 5.0,
            downloaded: float(2 << 30),
            ..Counts::default()
        };
        assert!((counts.price(&prices) - (0.01 + 0.004 + 1.0)).abs() < 1e-9);
    }

    #[test]
    fn a_shared_object_is_booked_by_bytes() {
        let keys = Keys::new("east");
        let ledger = Ledger::new(keys.clone());
        let merged = |random| {
            keys.merged(&MergedName {
                shard: 0,
                writer_epoch: 1,
                random,
            })
        };
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        ledger.learn(&merged(1), &[(a, 300), (b, 100)].into());
        ledger.ask(Arc::new(move |_| Some([(b, 7)].into())));
        let put = Counts {
            puts: 1.0,
            uploaded: 400.0,
            ..Counts::default()
        };
        ledger.count("upload", Some(&merged(1)), &put);
        ledger.count("upload", Some(&merged(2)), &put);
        ledger.count("upload", Some(&keys.root(0)), &put);
        let prices = Prices::load(None).unwrap();
        let lines = ledger.json(&prices, |id| Some(if id == a { "a" } else { "b" }.into()));
        let told = |topic: Value| {
            let lines = lines.as_array().unwrap();
            let line = lines.iter().find(|line| line["topic"] == topic).unwrap();
            (line["puts"].clone(), line["uploaded_bytes"].clone())
        };
        assert_eq!(told("a".into()), (json!(0.75), json!(300)));
        assert_eq!(told("b".into()), (json!(1.25), json!(500)));
        assert_eq!(told(Value::Null), (json!(1), json!(400)));
    }
}
