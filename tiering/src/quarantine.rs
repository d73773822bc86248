//! Objects that were found missing or damaged while a root names them.
//!
//! An object in quarantine is named in the status and in the bucket (`quarantine/<object>.json`), so that a
//! restart does not forget it; it is not deleted, even when retention lets go of it; and its sound blocks are
//! read on. It leaves the list when all of its blocks were read and are sound, or when a repaired object has
//! taken its place.

use std::{collections::BTreeSet, sync::Arc};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{
    Meter,
    format::{Key, Keys},
    reader::Damage,
    store::{Store, StoreError},
};

const MAX_CASE: u64 = 16 << 10;
/// Cases in memory; what is beyond is in the log and found again.
const MOST: usize = 10_000;

/// What stands in the bucket about one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    pub object: String,
    pub topic: String,
    pub partition: i32,
    pub from_offset: i64,
    /// Exclusive.
    pub to_offset: i64,
    pub reason: String,
}

#[derive(Clone, Debug)]
pub struct Quarantine {
    pub store: Arc<dyn Store>,
    pub keys: Keys,
    /// By object; shared with the readers, which find damage too.
    pub damage: Damage,
    /// Cases that are in the bucket.
    kept: Arc<Mutex<BTreeSet<Key>>>,
    meter: Meter,
}

impl Quarantine {
    pub fn new(store: Arc<dyn Store>, keys: Keys, damage: Damage) -> Self {
        Self {
            store,
            keys,
            damage,
            kept: Arc::default(),
            meter: Meter::default(),
        }
    }

    /// The same, with the labels that damage is counted under.
    pub fn metered(self, meter: Meter) -> Self {
        Self { meter, ..self }
    }

    /// Reads the cases that are in the bucket. One that cannot be read is said and does not hinder the others.
    pub async fn load(&self) -> Result<(), StoreError> {
        let listed = self.store.list(&self.keys.quarantine_prefix()).await?;
        for entry in listed.iter().take(MOST) {
            let found = match self.store.get(&entry.key, MAX_CASE).await {
                Ok(found) => found,
                Err(e) if e.is_retryable() => return Err(e),
                Err(error) => {
                    tracing::error!(key = %entry.key, %error, "a quarantine entry is unreadable");
                    continue;
                }
            };
            let case: Option<Case> = serde_json::from_slice(&found.bytes).ok();
            let object = case.as_ref().and_then(|case| Key::parse(&case.object));
            match (case, object) {
                (Some(case), Some(object)) if self.keys.quarantined(&object) == entry.key => {
                    self.damage.lock().insert(object.clone(), case.reason);
                    self.kept.lock().insert(object);
                }
                _ => {
                    tracing::error!(key = %entry.key, "a quarantine entry is not one of ours");
                }
            }
        }
        Ok(())
    }

    pub fn add(&self, key: &Key, case: Case) {
        self.meter.count(crate::metrics::DAMAGE, 1);
        tracing::error!(code = "WB-316", %key, reason = case.reason, topic = case.topic, partition = case.partition, from = case.from_offset, to = case.to_offset, "an object is missing or damaged: quarantined");
        let mut damage = self.damage.lock();
        if damage.len() < MOST || damage.contains_key(key) {
            damage.insert(key.clone(), case.reason);
        }
    }

    pub fn holds(&self, key: &Key) -> bool {
        self.damage.lock().contains_key(key)
    }

    /// The object was found sound, or nothing names it any more.
    pub async fn release(&self, key: &Key) {
        if self.damage.lock().remove(key).is_none() {
            return;
        }
        tracing::info!(%key, "out of quarantine");
        if let Err(error) = self.store.delete(&self.keys.quarantined(key)).await {
            // It is loaded again at the next start and released again by the next verification.
            tracing::warn!(%key, %error, "the quarantine entry is still in the bucket");
        }
        self.kept.lock().remove(key);
    }

    /// Writes down what is not in the bucket yet.
    pub async fn keep(&self) {
        let missing: Vec<_> = {
            let (damage, kept) = (self.damage.lock(), self.kept.lock());
            let new = damage.iter().filter(|(key, _)| !kept.contains(*key));
            new.map(|(key, reason)| (key.clone(), reason.clone()))
                .collect()
        };
        for (key, reason) in missing {
            let case = self.case(&key, reason);
            let Ok(text) = serde_json::to_vec_pretty(&case) else {
                continue;
            };
            let written = self
                .store
                .put_if_absent(&self.keys.quarantined(&key), text.into())
                .await;
            match written {
                // There already: an earlier attempt, or an earlier run.
                Ok(_) | Err(StoreError::Condition { .. }) => {
                    self.kept.lock().insert(key);
                }
                Err(error) => {
                    tracing::warn!(%key, %error, "a quarantine entry was not written; again later");
                }
            }
        }
    }

    /// What the object's key tells; the topic's name is in the object's footer, which may be damaged.
    fn case(&self, key: &Key, reason: String) -> Case {
        let name = self.keys.parse_data(key);
        Case {
            object: key.to_string(),
            topic: name.map_or_else(String::new, |n| n.at.topic_id.simple().to_string()),
            partition: name.map_or(-1, |n| n.at.partition),
            from_offset: name.map_or(-1, |n| n.base),
            to_offset: name.map_or(-1, |n| n.last.saturating_add(1)),
            reason,
        }
    }
}
