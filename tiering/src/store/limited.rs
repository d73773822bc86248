//! The limiter, deadline and ledger in front of a store.
//!
//! Every request waits for its turn at its prefix's pace and for one of a fixed number of places, ends at
//! its deadline and is counted by kind and outcome. A request that timed out may still take effect: its
//! caller reads again.

use std::{
    ops::Range,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use whimbrel_runtime::Clock;

use super::{
    Brought, Found, IsDead, Known, Listed, Meta, Origin, Source, Store, StoreError, Version,
    locks::Locks,
    pace::{Pace, prefix_of},
};
use crate::{Meter, format::Key, metrics as names};

/// Requests under way at once; enough to hide the latency of a far bucket, few enough for one socket pool.
const PLACES: usize = 32;
/// The slowest transfer that is not called stuck, in bytes per second.
const SLOWEST: u64 = 1 << 20;

#[derive(Clone, Debug)]
pub struct Limited {
    store: Arc<dyn Store>,
    places: Arc<Semaphore>,
    pace: Arc<Mutex<Pace>>,
    locks: Arc<Mutex<Locks>>,
    refusal: Arc<Mutex<Option<Refusal>>>,
    clock: Clock,
    deadline: Duration,
    meter: Meter,
}

/// The store answers, but not us.
#[derive(Clone, Debug)]
struct Refusal {
    since_ms: u64,
    reason: String,
}

impl Limited {
    /// `deadline` is that of a small request; a transfer gets a second more for every MiB.
    pub fn new(store: Arc<dyn Store>, clock: Clock, deadline: Duration) -> Self {
        Self {
            store,
            places: Arc::new(Semaphore::new(PLACES)),
            pace: Arc::default(),
            locks: Arc::default(),
            refusal: Arc::default(),
            clock,
            deadline,
            meter: Meter::default(),
        }
    }

    /// The same, with the labels that its requests are counted under.
    pub fn metered(self, meter: Meter) -> Self {
        Self { meter, ..self }
    }

    /// Prefixes that the store asked to be spared, with the requests a second that they get now.
    pub fn slowed(&self) -> Vec<(String, u64)> {
        self.pace.lock().slowed()
    }

    /// Objects that Object Lock keeps from being deleted, and until when; `None` for a legal hold.
    pub fn locked(&self) -> Vec<(Key, Option<i64>)> {
        self.locks.lock().list(self.clock.boot_ms())
    }

    /// For how long the store has refused us and done nothing for us, and its latest words.
    pub fn refused(&self) -> Option<(Duration, String)> {
        let refusal = self.refusal.lock();
        let refusal = refusal.as_ref()?;
        let since = self.clock.boot_ms().saturating_sub(refusal.since_ms);
        Some((Duration::from_millis(since), refusal.reason.clone()))
    }

    fn note<T>(&self, done: &Result<T, StoreError>) {
        match done {
            Ok(_) => *self.refusal.lock() = None,
            Err(error) if error.is_denial() => {
                let (now, reason) = (self.clock.boot_ms(), error.to_string());
                let mut refusal = self.refusal.lock();
                let since_ms = refusal.as_ref().map_or(now, |r| r.since_ms);
                if refusal.is_none() {
                    tracing::error!(code = "WB-320", reason, "the store refuses us");
                }
                *refusal = Some(Refusal { since_ms, reason });
            }
            Err(_) => {}
        }
    }

    async fn turn(&self, prefix: &str) {
        let now_ns = self.clock.boot_ns();
        let at_ns = self.pace.lock().take(prefix, now_ns);
        if at_ns > now_ns {
            let wait = Duration::from_nanos(at_ns - now_ns);
            self.clock.sleep(wait).await;
        }
    }

    /// Returns when nothing was heard for so long.
    async fn silence(&self, longest: Duration, heard_ns: &AtomicU64) {
        loop {
            let since_ns = self
                .clock
                .boot_ns()
                .saturating_sub(heard_ns.load(Ordering::Relaxed));
            let left = longest.saturating_sub(Duration::from_nanos(since_ns));
            if left.is_zero() {
                return;
            }
            self.clock.sleep(left).await;
        }
    }

    async fn run<T>(
        &self,
        op: &'static str,
        key: &str,
        bytes: u64,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let heard_ns = AtomicU64::new(self.clock.boot_ns());
        self.run_while(op, key, bytes, &heard_ns, work).await
    }

    /// Its deadline begins anew with every sign that it goes on.
    async fn run_while<T>(
        &self,
        op: &'static str,
        key: &str,
        bytes: u64,
        heard_ns: &AtomicU64,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let deadline = self.deadline + Duration::from_secs(bytes / SLOWEST);
        let prefix = prefix_of(key);
        let work = async {
            self.turn(prefix).await;
            // The semaphore is never closed.
            let _place = self.places.acquire().await;
            let sent_ns = self.clock.boot_ns();
            let done = work.await;
            let slow_down = matches!(done, Err(StoreError::SlowDown { .. }));
            self.pace
                .lock()
                .answered(prefix, sent_ns, self.clock.boot_ns(), slow_down);
            done
        };
        let timed_out = || StoreError::TimedOut {
            op,
            key: key.to_owned(),
            waited_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
        };
        let done = tokio::select! {
            biased;
            done = work => done,
            () = self.silence(deadline, heard_ns) => Err(timed_out()),
        };
        self.note(&done);
        let outcome = done.as_ref().map_or_else(StoreError::kind, |_| "ok");
        let kind = [("op", op), ("outcome", outcome)];
        self.meter.count_one(names::STORE_REQUESTS, &kind);
        done
    }
}

#[async_trait]
impl Store for Limited {
    fn describe(&self) -> String {
        self.store.describe()
    }

    async fn get(&self, key: &Key, max_bytes: u64) -> Result<Found, StoreError> {
        self.run(
            "get",
            key.as_str(),
            max_bytes,
            self.store.get(key, max_bytes),
        )
        .await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        let bytes = range.end.saturating_sub(range.start);
        self.run(
            "get_range",
            key.as_str(),
            bytes,
            self.store.get_range(key, range),
        )
        .await
    }

    async fn head(&self, key: &Key) -> Result<Meta, StoreError> {
        self.run("head", key.as_str(), 0, self.store.head(key))
            .await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        // A listing is many requests, as many as the bucket has thousands of objects. Each of them gets a minute more:
        // some stores look through much else for the next page.
        let heard_ns = AtomicU64::new(self.clock.boot_ns());
        let heard = || heard_ns.store(self.clock.boot_ns(), Ordering::Relaxed);
        let listed = self.store.list_heard(prefix, &heard);
        self.run_while("list", prefix, 60 * SLOWEST, &heard_ns, listed)
            .await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        let waits = self.locks.lock().waits(key, self.clock.boot_ms());
        if let Some(until_ms) = waits {
            return Err(StoreError::Locked {
                op: "delete",
                key: key.clone(),
                until_ms,
            });
        }
        let done = self
            .run("delete", key.as_str(), 0, self.store.delete(key))
            .await;
        match &done {
            Err(StoreError::Locked { until_ms, .. }) => {
                let (wall_ms, boot_ms) = (self.clock.wall_ms(), self.clock.boot_ms());
                let mut locks = self.locks.lock();
                locks.told(key, *until_ms, wall_ms, boot_ms);
            }
            Ok(()) => self.locks.lock().gone(key),
            Err(_) => {}
        }
        done
    }

    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<Version, StoreError> {
        let length = bytes.len() as u64;
        self.run(
            "put_if_absent",
            key.as_str(),
            length,
            self.store.put_if_absent(key, bytes),
        )
        .await
    }

    async fn swap(
        &self,
        key: &Key,
        bytes: Bytes,
        expected: &Version,
    ) -> Result<Version, StoreError> {
        let length = bytes.len() as u64;
        self.run(
            "swap",
            key.as_str(),
            length,
            self.store.swap(key, bytes, expected),
        )
        .await
    }

    async fn put_file(&self, key: &Key, source: &Source) -> Result<Option<u64>, StoreError> {
        let length = source.length();
        self.run(
            "put_file",
            key.as_str(),
            length,
            self.store.put_file(key, source),
        )
        .await
    }

    async fn drop_unfinished(
        &self,
        prefix: &str,
        is_dead: &IsDead<'_>,
    ) -> Result<usize, StoreError> {
        let dropped = self.store.drop_unfinished(prefix, is_dead);
        self.run("drop_unfinished", prefix, 60 * SLOWEST, dropped)
            .await
    }

    fn upload_requests(&self, length: u64) -> u64 {
        self.store.upload_requests(length)
    }

    fn local(&self, key: &Key) -> Option<PathBuf> {
        self.store.local(key)
    }

    async fn check_options(&self) -> Result<(), StoreError> {
        self.run("check", "options", 0, self.store.check_options())
            .await
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<(), StoreError> {
        // The size is not known here; a server-side copy of a segment takes seconds.
        self.run("copy", to.as_str(), 60 * SLOWEST, self.store.copy(from, to))
            .await
    }

    fn origin(&self) -> Option<Origin> {
        self.store.origin()
    }

    async fn bring(&self, from: &Origin, known: &Known<'_>) -> Result<Brought, StoreError> {
        let brought = self.store.bring(from, known);
        self.run("bring", known.key.as_str(), known.length, brought)
            .await
    }
}
