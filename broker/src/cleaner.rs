//! Compacts the logs that want it: one task, one log at a time, the dirtiest first, at a bounded rate.
//!
//! How far a log may be cleaned is decided here ([`bounds`]). A record that compaction removes is missed
//! by whoever is cut back, or filled, from below the newer one, so nothing is cleaned
//! - above the high watermark and the last stable offset,
//! - above what every other region's copy holds durably (the region is named while it holds a log up), which
//!   the home's leader tells all other copies; a region that stands still for `region-patience` is left behind,
//!   once the controller has recorded it,
//! - that is not in this region's bucket yet, where there is one.
//!
//! A log that cannot be cleaned is named with its reason (WB-113) and left alone until the next start; one that the
//! disk did not give, for [`RETRY_NS`].

mod bounds;

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use whimbrel_fleet::{RegionName, TopicPartition};
use whimbrel_log::{CleanBounds, CleanError, Cleaned, Dirt, Pace};
use whimbrel_runtime::{Clock, Shutdown};

use crate::{broker::Broker, catalog::Catalog, partition::Partition};

pub use bounds::{Patience, held};

use bounds::{Found, bounds};

/// The cleaner's part of the status.
#[derive(Debug, Default)]
pub struct Cleaner(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    now: Option<String>,
    rounds: u64,
    total: Cleaned,
    dirtiest_ppm: u64,
    /// Timestamp of the oldest record that was never looked at and could be.
    oldest_dirty_ms: Option<i64>,
    uncleanable: BTreeMap<TopicPartition, Left>,
    held: BTreeMap<String, RegionName>,
    /// Logs that were cleaned without waiting any longer for a region, and the last such region.
    left: BTreeMap<String, RegionName>,
}

/// A log that is left alone.
#[derive(Debug)]
struct Left {
    name: String,
    reason: String,
    /// On the boot clock.
    until_ns: Option<u64>,
}

/// Long enough that a sick disk is not asked for the same bytes all the time.
const RETRY_NS: u64 = 60_000_000_000;

/// What is known when metrics are scraped.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    pub dirty_ratio: f64,
    pub lag_ms: i64,
    pub uncleanable: usize,
    pub bytes_before: u64,
    pub bytes_after: u64,
}

impl Cleaner {
    pub fn status(&self, now_ms: i64) -> Value {
        let state = self.0.lock();
        let left = state.uncleanable.values();
        let uncleanable: BTreeMap<_, _> = left.map(|left| (&left.name, &left.reason)).collect();
        json!({
            "cleaning": state.now,
            "rounds": state.rounds,
            "bytes_before": state.total.bytes_before,
            "bytes_after": state.total.bytes_after,
            "dirtiest_ratio": state.dirtiest_ppm as f64 / 1e6,
            "oldest_dirty_age_ms": state.oldest_dirty_ms.map(|ms| now_ms.saturating_sub(ms)),
            "uncleanable": uncleanable,
            "held_by": state.held,
            "left_behind": state.left,
        })
    }

    pub fn figures(&self, now_ms: i64) -> Figures {
        let state = self.0.lock();
        Figures {
            dirty_ratio: state.dirtiest_ppm as f64 / 1e6,
            lag_ms: state
                .oldest_dirty_ms
                .map_or(0, |ms| now_ms.saturating_sub(ms).max(0)),
            uncleanable: state.uncleanable.len(),
            bytes_before: state.total.bytes_before,
            bytes_after: state.total.bytes_after,
        }
    }

    fn is_uncleanable(&self, at: TopicPartition, now_ns: u64) -> bool {
        let state = self.0.lock();
        let left = state.uncleanable.get(&at);
        left.is_some_and(|left| left.until_ns.is_none_or(|until| now_ns < until))
    }
}

pub async fn run(broker: Arc<Broker>) {
    let shutdown = broker.tasks.shutdown();
    let backoff = broker.options.cleaner.backoff.0;
    while shutdown.unless(broker.clock.sleep(backoff)).await.is_some() {
        while !shutdown.requested()
            && let Some((partition, bounds)) = dirtiest(&broker).await
        {
            if !clean(&broker, &partition, bounds).await {
                break;
            }
        }
    }
}

/// The log that most wants to be cleaned, of those that are due.
async fn dirtiest(broker: &Arc<Broker>) -> Option<(Arc<Partition>, CleanBounds)> {
    let (mut due, mut held, mut left) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    let (mut dirtiest_ppm, mut oldest_ms) = (0, None);
    let catalog = broker.catalog();
    let bucket = broker.options.tiering.is_some();
    let memory_bytes = broker.options.cleaner.memory.0;
    for partition in catalog.partitions() {
        let compacts = partition.log.config().cleanup_policy.compact;
        if !compacts
            || broker
                .cleaner
                .is_uncleanable(partition.at, broker.clock.boot_ns())
        {
            continue;
        }
        let found = bounds(
            &catalog,
            partition,
            Patience::of(broker),
            bucket,
            memory_bytes,
        );
        let Some(dirt) = dirt(broker, partition, found.bounds.upto).await else {
            continue;
        };
        leave_behind(broker, partition, &found).await;
        if let Some(region) = found.by {
            held.insert(partition.log.name(), region);
        }
        left.extend(left_behind(&catalog, partition));
        dirtiest_ppm = dirtiest_ppm.max(dirt.ratio_ppm());
        oldest_ms = [oldest_ms, dirt.oldest_dirty_ms]
            .into_iter()
            .flatten()
            .min();
        if dirt.due {
            due.push((
                dirt.overdue_ms,
                dirt.ratio_ppm(),
                Arc::clone(partition),
                found.bounds,
            ));
        }
    }
    let mut state = broker.cleaner.0.lock();
    (state.dirtiest_ppm, state.oldest_dirty_ms) = (dirtiest_ppm, oldest_ms);
    (state.held, state.left) = (held, left);
    drop(state);
    let most = due
        .into_iter()
        .max_by_key(|(overdue, ratio, ..)| (*overdue, *ratio));
    let (_, _, partition, bounds) = most?;
    Some((partition, bounds))
}

/// `None` where the log cannot be cleaned.
async fn dirt(broker: &Broker, partition: &Partition, upto: i64) -> Option<Dirt> {
    let (log, now_ms) = (Arc::clone(&partition.log), broker.clock.wall_ms());
    let looked = broker.tasks.blocking(move || log.dirt(upto, now_ms)).await;
    looked
        .inspect_err(|error| give_up(broker, partition, error))
        .ok()
}

/// Has it recorded that regions which stood still for too long are gone past, where there is something to clean beyond.
async fn leave_behind(broker: &Broker, partition: &Partition, found: &Found) {
    let upto = found.upto_without;
    if found.left.is_empty()
        || upto <= found.bounds.upto
        || !dirt(broker, partition, upto)
            .await
            .is_some_and(|dirt| dirt.due)
    {
        return;
    }
    for region in &found.left {
        if partition.pass_by(region, upto) {
            let log = partition.log.name();
            tracing::error!(code = "WB-114", log, %region, upto, "a region that stood still is not waited for any more: its copy will not be filled on");
        }
    }
    broker.isr.notify_one();
}

/// The region that the controller remembers to be left behind, one of them at least.
fn left_behind(catalog: &Catalog, partition: &Partition) -> Option<(String, RegionName)> {
    let (_, placed) = catalog.placed(partition.at)?;
    let (region, _) = placed.standing.iter().find(|(_, s)| s.left_at.is_some())?;
    Some((partition.log.name(), region.clone()))
}

/// False if another try would not help now.
async fn clean(broker: &Arc<Broker>, partition: &Arc<Partition>, bounds: CleanBounds) -> bool {
    let mut pace = Throttle {
        clock: broker.clock.clone(),
        shutdown: broker.tasks.shutdown(),
        runtime: Handle::current(),
        begun_ns: broker.clock.boot_ns(),
        moved: 0,
        rate: broker.options.cleaner.bytes_per_second.0.max(1),
    };
    broker.cleaner.0.lock().now = Some(partition.log.name());
    let (log, now_ms) = (Arc::clone(&partition.log), broker.clock.wall_ms());
    let done = broker
        .tasks
        .blocking(move || log.clean(bounds, now_ms, &mut pace))
        .await;
    broker.cleaner.0.lock().now = None;
    match done {
        Ok(cleaned) => {
            let mut state = broker.cleaner.0.lock();
            state.rounds += 1;
            state.total.bytes_before += cleaned.bytes_before;
            state.total.bytes_after += cleaned.bytes_after;
            state.uncleanable.remove(&partition.at);
            drop(state);
            tracing::debug!(log = partition.log.name(), ?cleaned, "log cleaned");
            true
        }
        Err(error) if error.is_retryable() && !error.is_unreadable() => {
            tracing::debug!(log = partition.log.name(), %error, "log not cleaned now");
            false
        }
        Err(error) => {
            give_up(broker, partition, &error);
            true
        }
    }
}

fn give_up(broker: &Broker, partition: &Partition, error: &CleanError) {
    let name = partition.log.name();
    tracing::error!(code = "WB-113", log = name, %error, "a log cannot be cleaned and is left alone");
    let now_ns = broker.clock.boot_ns();
    let left = Left {
        name,
        reason: format!("WB-113: {error}"),
        until_ns: error
            .is_unreadable()
            .then(|| now_ns.saturating_add(RETRY_NS)),
    };
    let mut state = broker.cleaner.0.lock();
    state.uncleanable.insert(partition.at, left);
}

/// Sleeps whenever more was moved than the rate allows.
struct Throttle {
    clock: Clock,
    shutdown: Shutdown,
    runtime: Handle,
    begun_ns: u64,
    moved: u64,
    rate: u64,
}

impl Pace for Throttle {
    fn moved(&mut self, bytes: u64) -> bool {
        self.moved = self.moved.saturating_add(bytes);
        let due = u128::from(self.moved) * 1_000_000_000 / u128::from(self.rate);
        let due_ns = u64::try_from(due).unwrap_or(u64::MAX);
        let ahead_ns = due_ns.saturating_sub(self.clock.boot_ns().saturating_sub(self.begun_ns));
        // Short naps are not worth a timer.
        if ahead_ns > 20_000_000 {
            let nap = self.clock.sleep(std::time::Duration::from_nanos(ahead_ns));
            let _ = self.runtime.block_on(self.shutdown.unless(nap));
        }
        !self.shutdown.requested()
    }
}
