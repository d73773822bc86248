//! Faults in front of a store: errors before and after the work, work that is done after its error was told,
//! refused conditions that were met, short and wrong reads, all by a seed; and the death or the pause of the
//! process at a chosen write.

mod each;

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

pub use each::{Struck, at_each_write, death, each_write, or_death, pause};

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Plan {
    /// Nothing; but the store is a remote one.
    Nothing,
    /// As the mood is when a request comes.
    Mood(Arc<Mutex<Mood>>),
    /// One request in three fails by the seed: before, after, late, short, with wrong bytes, or with a
    /// condition that was met all the same.
    Seeded(Arc<Mutex<u64>>),
    /// The process is stopped at write number `at`, before or after the store did it, and goes on when
    /// `resumed` is set.
    Pause { at: u64, after: bool },
    /// The process dies at write number `at`, before or after the store did it: nothing answers from then on.
    Death { at: u64, after: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Every request is answered with an error.
    Refuses,
    /// Every write is answered with a plea for fewer of them.
    Busy,
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
    /// Dead, or stopped.
    pub dead: Arc<AtomicBool>,
    pub resumed: Arc<AtomicBool>,
}

enum Fate {
    Work,
    Before,
    After,
    /// Told as failed now, done in a while.
    Later,
    /// Told as a refused condition, before the work or after it: the echo of an attempt of ours, or a race.
    Conflict {
        after: bool,
    },
    Busy,
    Stop {
        after: bool,
    },
    Die {
        after: bool,
    },
    Bend,
}

/// How long an attempt that was told as failed is still under way.
const LATE: Duration = Duration::from_millis(30);

impl<S: Store + Clone + 'static> Fault<S> {
    pub fn new(store: S, plan: Plan) -> Self {
        Self {
            store,
            plan,
            writes: Arc::default(),
            ranges: Arc::default(),
            dead: Arc::default(),
            resumed: Arc::default(),
        }
    }

    pub fn seeded(store: S, seed: u64) -> Self {
        Self::new(store, Plan::Seeded(Arc::new(Mutex::new(seed | 1))))
    }

    /// Returns when the process is not stopped.
    async fn stopped(&self) {
        while self.dead.load(Ordering::SeqCst) && !self.resumed.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Counts writes, but for those of a probe; true for number `at`.
    fn is_number(&self, at: u64, write: bool) -> bool {
        write && self.writes.fetch_add(1, Ordering::SeqCst) == at
    }

    async fn fate(&self, write: bool) -> Fate {
        match &self.plan {
            Plan::Nothing => Fate::Work,
            Plan::Mood(mood) => {
                let mood = *mood.lock();
                match mood {
                    Mood::Well => Fate::Work,
                    Mood::Refuses => Fate::Before,
                    Mood::Busy if write => Fate::Busy,
                    Mood::Busy => Fate::Work,
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
                match drawn % 18 {
                    0 | 1 => Fate::Before,
                    2 => Fate::After,
                    3 if !write => Fate::Bend,
                    3 => Fate::Later,
                    4 if write => Fate::Conflict { after: false },
                    5 if write => Fate::Conflict { after: true },
                    _ => Fate::Work,
                }
            }
            Plan::Pause { at, after } => {
                self.stopped().await;
                if self.is_number(*at, write) {
                    Fate::Stop { after: *after }
                } else {
                    Fate::Work
                }
            }
            Plan::Death { at, after } => {
                if self.dead.load(Ordering::SeqCst) {
                    std::future::pending::<()>().await;
                }
                if self.is_number(*at, write) {
                    Fate::Die { after: *after }
                } else {
                    Fate::Work
                }
            }
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "what arrives late outlives whoever asked for it"
    )]
    async fn run<T: Send + 'static>(
        &self,
        op: &'static str,
        key: &str,
        write: bool,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
        bend: impl FnOnce(T) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let failed = || {
            Err(StoreError::Failed {
                op,
                key: key.to_owned(),
                reason: "HTTP 500, planned".to_owned(),
            })
        };
        // Only a conditional write has a condition; any other fails.
        let refused = || match op {
            "put_if_absent" | "swap" => Err(StoreError::Condition {
                op,
                key: Key::parse(key).unwrap(),
            }),
            _ => failed(),
        };
        match self.fate(write && !key.contains("/probe/")).await {
            Fate::Work => work.await,
            Fate::Before => failed(),
            Fate::Busy => Err(StoreError::SlowDown {
                op,
                key: key.to_owned(),
                reason: "HTTP 503, planned".to_owned(),
            }),
            Fate::Conflict { after } => {
                if after {
                    let _ = work.await;
                }
                refused()
            }
            Fate::Later => {
                tokio::spawn(async move {
                    tokio::time::sleep(LATE).await;
                    let _ = work.await;
                });
                failed()
            }
            Fate::After => {
                let _ = work.await;
                failed()
            }
            Fate::Bend => bend(work.await?),
            Fate::Stop { after } => {
                if after {
                    let done = work.await;
                    self.dead.store(true, Ordering::SeqCst);
                    self.stopped().await;
                    return done;
                }
                self.dead.store(true, Ordering::SeqCst);
                self.stopped().await;
                work.await
            }
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
impl<S: Store + Clone + 'static> Store for Fault<S> {
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
        self.run(
            "get",
            key.as_str(),
            false,
            {
                let store = self.store.clone();
                let key = key.to_owned();
                async move { store.get(&key, max).await }
            },
            short,
        )
        .await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.ranges.fetch_add(1, Ordering::SeqCst);
        self.run(
            "get_range",
            key.as_str(),
            false,
            {
                let store = self.store.clone();
                let key = key.to_owned();
                async move { store.get_range(&key, range).await }
            },
            |bytes| Ok(flipped(&bytes)),
        )
        .await
    }

    async fn head(&self, key: &Key) -> Result<Meta, StoreError> {
        self.run(
            "head",
            key.as_str(),
            false,
            {
                let store = self.store.clone();
                let key = key.to_owned();
                async move { store.head(&key).await }
            },
            Ok,
        )
        .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        self.run(
            "list",
            prefix,
            false,
            {
                let store = self.store.clone();
                let prefix = prefix.to_owned();
                async move { store.list(&prefix).await }
            },
            Ok,
        )
        .await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.run(
            "delete",
            key.as_str(),
            true,
            {
                let store = self.store.clone();
                let key = key.to_owned();
                async move { store.delete(&key).await }
            },
            Ok,
        )
        .await
    }

    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<Version, StoreError> {
        self.run(
            "put_if_absent",
            key.as_str(),
            true,
            {
                let store = self.store.clone();
                let key = key.to_owned();
                async move { store.put_if_absent(&key, bytes).await }
            },
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
            {
                let store = self.store.clone();
                let key = key.to_owned();
                let expected = expected.to_owned();
                async move { store.swap(&key, bytes, &expected).await }
            },
            Ok,
        )
        .await
    }

    async fn put_file(&self, key: &Key, source: &Source) -> Result<Option<u64>, StoreError> {
        self.run(
            "put_file",
            key.as_str(),
            true,
            {
                let store = self.store.clone();
                let key = key.to_owned();
                let source = source.to_owned();
                async move { store.put_file(&key, &source).await }
            },
            Ok,
        )
        .await
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<(), StoreError> {
        self.run(
            "copy",
            to.as_str(),
            true,
            {
                let store = self.store.clone();
                let from = from.to_owned();
                let to = to.to_owned();
                async move { store.copy(&from, &to).await }
            },
            Ok,
        )
        .await
    }
}
