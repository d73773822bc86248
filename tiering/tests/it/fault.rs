//! Faults in front of a store: errors before and after the work, short and wrong reads by a seed, and the
//! death of the process at a chosen write.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use whimbrel_tiering::{
    format::Key,
    store::{Found, Listed, Meta, Source, Store, StoreError, Version},
};

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Plan {
    /// Nothing; but the store is a remote one.
    Nothing,
    /// As the mood is when a request comes.
    Mood(Arc<Mutex<Mood>>),
    /// One request in four fails by the seed: before, after, late, short or with wrong bytes.
    Seeded(Arc<Mutex<u64>>),
    /// The process dies at write number `at`, before or after the store did it: nothing answers from then on.
    Death { at: u64, after: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Every request is answered with an error.
    Refuses,
    /// No request is answered.
    Hangs,
}

#[derive(Clone, Debug)]
pub struct Fault<S> {
    pub store: S,
    pub plan: Plan,
    pub writes: Arc<AtomicU64>,
    /// Ranges of objects that were asked for.
    pub ranges: Arc<AtomicU64>,
    pub dead: Arc<AtomicBool>,
}

enum Fate {
    Work,
    Before,
    After,
    Die { after: bool },
    Bend,
}

impl<S: Store> Fault<S> {
    pub fn new(store: S, plan: Plan) -> Self {
        Self {
            store,
            plan,
            writes: Arc::default(),
            ranges: Arc::default(),
            dead: Arc::default(),
        }
    }

    pub fn seeded(store: S, seed: u64) -> Self {
        Self::new(store, Plan::Seeded(Arc::new(Mutex::new(seed | 1))))
    }

    async fn fate(&self, write: bool) -> Fate {
        match &self.plan {
            Plan::Nothing => Fate::Work,
            Plan::Mood(mood) => {
                let mood = *mood.lock();
                match mood {
                    Mood::Well => Fate::Work,
                    Mood::Refuses => Fate::Before,
                    Mood::Hangs => std::future::pending().await,
                }
            }
            Plan::Seeded(state) => {
                let drawn = {
                    let mut state = state.lock();
                    *state ^= *state << 13;
                    *state ^= *state >> 7;
                    *state ^= *state << 17;
                    *state
                };
                if drawn.is_multiple_of(31) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                match drawn % 16 {
                    0 | 1 => Fate::Before,
                    2 => Fate::After,
                    3 if !write => Fate::Bend,
                    _ => Fate::Work,
                }
            }
            Plan::Death { at, after } => {
                if self.dead.load(Ordering::SeqCst) {
                    std::future::pending::<()>().await;
                }
                let number = if write {
                    self.writes.fetch_add(1, Ordering::SeqCst)
                } else {
                    u64::MAX
                };
                if number == *at {
                    Fate::Die { after: *after }
                } else {
                    Fate::Work
                }
            }
        }
    }

    async fn run<T>(
        &self,
        op: &'static str,
        key: &str,
        write: bool,
        work: impl Future<Output = Result<T, StoreError>>,
        bend: impl FnOnce(T) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let failed = || {
            Err(StoreError::Failed {
                op,
                key: key.to_owned(),
                reason: "503, planned".to_owned(),
            })
        };
        match self.fate(write).await {
            Fate::Work => work.await,
            Fate::Before => failed(),
            Fate::After => {
                let _ = work.await;
                failed()
            }
            Fate::Bend => bend(work.await?),
            Fate::Die { after } => {
                if after {
                    let _ = work.await;
                }
                self.dead.store(true, Ordering::SeqCst);
                std::future::pending().await
            }
        }
    }
}

fn flipped(bytes: &Bytes) -> Bytes {
    let mut bent = bytes.to_vec();
    if let Some(last) = bent.last_mut() {
        *last ^= 0x10;
    }
    bent.into()
}

#[async_trait]
impl<S: Store> Store for Fault<S> {
    fn describe(&self) -> String {
        self.store.describe()
    }

    async fn get(&self, key: &Key, max: u64) -> Result<Found, StoreError> {
        let short = |_| {
            Err(StoreError::Short {
                op: "get",
                key: key.clone(),
                wanted: 2,
                got: 1,
            })
        };
        self.run("get", key.as_str(), false, self.store.get(key, max), short)
            .await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.ranges.fetch_add(1, Ordering::SeqCst);
        self.run(
            "get_range",
            key.as_str(),
            false,
            self.store.get_range(key, range),
            |bytes| Ok(flipped(&bytes)),
        )
        .await
    }

    async fn head(&self, key: &Key) -> Result<Meta, StoreError> {
        self.run("head", key.as_str(), false, self.store.head(key), Ok)
            .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        self.run("list", prefix, false, self.store.list(prefix), Ok)
            .await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.run("delete", key.as_str(), true, self.store.delete(key), Ok)
            .await
    }

    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<Version, StoreError> {
        self.run(
            "put_if_absent",
            key.as_str(),
            true,
            self.store.put_if_absent(key, bytes),
            Ok,
        )
        .await
    }

    async fn swap(
        &self,
        key: &Key,
        bytes: Bytes,
        expected: &Version,
    ) -> Result<Version, StoreError> {
        self.run(
            "swap",
            key.as_str(),
            true,
            self.store.swap(key, bytes, expected),
            Ok,
        )
        .await
    }

    async fn put_file(&self, key: &Key, source: &Source) -> Result<Option<u64>, StoreError> {
        self.run(
            "put_file",
            key.as_str(),
            true,
            self.store.put_file(key, source),
            Ok,
        )
        .await
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<(), StoreError> {
        self.run("copy", to.as_str(), true, self.store.copy(from, to), Ok)
            .await
    }
}
