//! Hosts the transactional ids of the partitions of `__transaction_state` led here.
//!
//! One shard per partition: its state under a lock that is never held across an await, and one task that loads the
//! partition and from then on writes what the requests queue. Each prepared transaction has a task that writes its
//! markers. One task drives the timers of all shards.

mod shard;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::RwLock;
use whimbrel_fleet::{naming, view::OffsetsBlock};
use whimbrel_runtime::{Clock, Tasks};
use whimbrel_wire::ErrorCode;

use self::shard::{Outcome, Shard};
use super::{
    machine::{Now, Producer, Record, Recovery, Step, Transaction},
    marker_gate::MarkerGate,
    markers::{Marker, Places},
};
use crate::{
    group::{MOST_OF_AN_ID, offsets::TopicPartition},
    state_log::StateLog,
};

/// What the coordinator may be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `transaction.max.timeout.ms`; Kafka's default of 15 minutes.
    pub max_timeout_ms: i32,
    /// `transactional.id.expiration.ms`; Kafka's default of seven days.
    pub retention_ms: i64,
    /// How often expired ids are looked for; Kafka's default of an hour.
    pub sweep_interval_ms: i64,
    /// How often timeouts are looked at. Kafka does every ten seconds; the look is cheap.
    pub tick_ms: u64,
    /// How long a request waits for the markers of the last transaction before it is told CONCURRENT_TRANSACTIONS.
    /// They are one sync away, much less than a client's back-off.
    pub patience_ms: u64,
    /// How long markers may be kept back while a cut is taken.
    pub most_held_ms: u64,
    /// Most ids of one partition: their number comes from outside.
    pub max_ids: usize,
    /// Most bytes of one batch, within the topic's `max.message.bytes`.
    pub max_batch_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_timeout_ms: 15 * 60_000,
            retention_ms: 7 * 24 * 3_600_000,
            sweep_interval_ms: 3_600_000,
            tick_ms: 200,
            patience_ms: 100,
            most_held_ms: 100,
            max_ids: 100_000,
            max_batch_bytes: 512 * 1024,
        }
    }
}

/// What the coordinator needs of the rest of the fleet.
#[async_trait]
pub trait Outside: Send + Sync + 'static {
    /// A producer id that nobody has.
    ///
    /// # Errors
    /// COORDINATOR_NOT_AVAILABLE while there is none to be had.
    async fn producer_id(&self) -> Result<i64, ErrorCode>;

    /// Ends a transaction in these partitions, durably. Returns those where that is still to be done.
    async fn write_markers(&self, marker: Marker, partitions: Places) -> Places;
}

/// The coordinator. All calls come back by themselves.
pub struct Coordinator {
    options: Options,
    block: OffsetsBlock,
    log: Arc<dyn StateLog>,
    outside: Arc<dyn Outside>,
    clock: Clock,
    tasks: Tasks,
    shards: RwLock<HashMap<i32, Arc<Shard>>>,
    gate: Arc<MarkerGate>,
}

impl std::fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coordinator")
            .field("block", &self.block)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Coordinator {
    /// A coordinator that leads nothing yet; its tasks end with `tasks`.
    #[must_use]
    pub fn start(
        options: Options,
        block: OffsetsBlock,
        log: Arc<dyn StateLog>,
        outside: Arc<dyn Outside>,
        clock: Clock,
        tasks: Tasks,
    ) -> Arc<Self> {
        let this = Arc::new(Self {
            gate: MarkerGate::new(clock.clone(), Duration::from_millis(options.most_held_ms)),
            options,
            block,
            log,
            outside,
            clock,
            tasks,
            shards: RwLock::default(),
        });
        let ticking = Arc::clone(&this);
        this.tasks.spawn_ok("transaction-timers", async move {
            ticking.drive_timers().await;
        });
        this
    }

    /// This broker leads the partition from now on. Returns at once; COORDINATOR_LOAD_IN_PROGRESS until it is loaded.
    /// Again in the same epoch: nothing. Ids whose newest record stands below `stale_below`, where the newest lossy move
    /// cut the partition, are stale.
    pub fn lead(self: &Arc<Self>, partition: i32, leader_epoch: i32, stale_below: Option<i64>) {
        let mut shards = self.shards.write();
        if shards
            .get(&partition)
            .is_some_and(|shard| shard.epoch() >= leader_epoch)
        {
            return;
        }
        let shard = Arc::new(Shard::new(partition, leader_epoch, stale_below));
        if let Some(old) = shards.insert(partition, Arc::clone(&shard)) {
            old.close();
        }
        drop(shards);
        let this = Arc::clone(self);
        self.tasks
            .spawn_ok(format!("transaction-coordinator-{partition}"), async move {
                writer::run(&this, &shard).await;
            });
    }

    /// This broker no longer leads the partition: whoever waits is told NOT_COORDINATOR.
    pub fn resign(&self, partition: i32) {
        let shard = self.shards.write().remove(&partition);
        if let Some(shard) = shard {
            shard.close();
        }
    }

    /// What all markers go through.
    pub fn gate(&self) -> &MarkerGate {
        &self.gate
    }

    /// InitProducerId.
    ///
    /// # Errors
    /// Kafka's code.
    pub async fn init(
        &self,
        id: &str,
        timeout_ms: i32,
        recovery: Recovery,
    ) -> Result<Producer, ErrorCode> {
        if id.is_empty() || id.len() > MOST_OF_AN_ID {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        if !(1..=self.options.max_timeout_ms).contains(&timeout_ms) {
            return Err(ErrorCode::INVALID_TRANSACTION_TIMEOUT);
        }
        self.drive(id, Some(timeout_ms), |transaction, fresh, now| {
            transaction.init(timeout_ms, recovery, fresh, now)
        })
        .await
    }

    /// Puts partitions into a producer's transaction.
    ///
    /// # Errors
    /// Kafka's code, for all of them.
    pub async fn add(
        &self,
        id: &str,
        who: Producer,
        partitions: BTreeSet<TopicPartition>,
        version: i16,
    ) -> Result<(), ErrorCode> {
        let added = self.drive(id, None, |transaction, _, now| {
            transaction.add(who, partitions.clone(), version, now)
        });
        added.await.map(drop)
    }

    /// Whether the partition is part of the producer's transaction, nothing of which lies below `above` there.
    ///
    /// # Errors
    /// Kafka's code.
    pub fn verify(
        &self,
        id: &str,
        who: Producer,
        partition: &TopicPartition,
        above: i64,
    ) -> Result<(), ErrorCode> {
        self.active(id)?
            .look(id, |transaction| transaction.verify(who, partition, above))
            .unwrap_or(Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING))
    }

    /// Commits or aborts; with `bump` the answer is the producer to go on as.
    ///
    /// # Errors
    /// Kafka's code.
    pub async fn end(
        &self,
        id: &str,
        who: Producer,
        commit: bool,
        bump: bool,
    ) -> Result<Producer, ErrorCode> {
        self.drive(id, None, |transaction, fresh, now| {
            if bump {
                transaction.end_and_bump(who, commit, fresh, now)
            } else {
                transaction.end(who, commit, now)
            }
        })
        .await
    }

    /// What is known of an id; none if nothing is.
    ///
    /// # Errors
    /// Kafka's code.
    pub fn describe(&self, id: &str) -> Result<Option<Record>, ErrorCode> {
        let found = self.active(id)?.look(id, |transaction| {
            (!transaction.is_unwritten()).then(|| transaction.record().clone())
        });
        Ok(found.flatten())
    }

    /// The ids here; with an error beside them if some partition is not loaded yet.
    #[must_use]
    pub fn list(&self) -> (ErrorCode, Vec<(String, Record)>) {
        let mut error = ErrorCode::NONE;
        let mut all = Vec::new();
        for shard in self.shards.read().values() {
            match self.usable(shard) {
                Ok(()) => all.extend(shard.list()),
                Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS) => {
                    error = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS;
                }
                Err(_) => {}
            }
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        (error, all)
    }

    /// Asks the id's machine, as often as it takes: it may need a new producer id, or the markers of the last
    /// transaction may be a moment away. `creates`: an unknown id begins here, with this timeout.
    async fn drive(
        &self,
        id: &str,
        creates: Option<i32>,
        ask: impl Fn(&mut Transaction, Option<i64>, Now) -> Step,
    ) -> Result<Producer, ErrorCode> {
        let until_ms = self
            .clock
            .boot_ms()
            .saturating_add(self.options.patience_ms);
        let mut fresh = None;
        loop {
            let shard = self.active(id)?;
            let settled = shard.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            let now = self.now();
            match shard.ask(id, creates, fresh, &self.options, now, &ask) {
                Outcome::Answer(Err(ErrorCode::CONCURRENT_TRANSACTIONS)) => {
                    let left = until_ms.saturating_sub(self.clock.boot_ms());
                    let wait = self.clock.within(Duration::from_millis(left), settled);
                    if left == 0 || wait.await.is_none() {
                        return Err(ErrorCode::CONCURRENT_TRANSACTIONS);
                    }
                }
                Outcome::Answer(answer) => return answer,
                Outcome::Waits(answer) => {
                    return answer.await.unwrap_or(Err(ErrorCode::NOT_COORDINATOR));
                }
                Outcome::NeedsProducerId => fresh = Some(self.outside.producer_id().await?),
            }
        }
    }

    fn active(&self, id: &str) -> Result<Arc<Shard>, ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        let shards = self.shards.read();
        let shard = shards
            .get(&naming::state_partition(id, self.block))
            .ok_or(ErrorCode::NOT_COORDINATOR)?;
        self.usable(shard)?;
        Ok(Arc::clone(shard))
    }

    fn usable(&self, shard: &Shard) -> Result<(), ErrorCode> {
        if !self.leads(shard) {
            Err(ErrorCode::NOT_COORDINATOR)
        } else if shard.is_loaded() {
            Ok(())
        } else {
            Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)
        }
    }

    fn leads(&self, shard: &Shard) -> bool {
        self.log.led(shard.partition()) == Some(shard.epoch())
    }

    fn now(&self) -> Now {
        Now {
            mono_ms: i64::try_from(self.clock.boot_ms()).unwrap_or(i64::MAX),
            wall_ms: self.clock.wall_ms(),
        }
    }

    async fn drive_timers(&self) {
        let shutdown = self.tasks.shutdown();
        let interval_ms = self.options.sweep_interval_ms;
        let mut next_sweep_ms = self.now().mono_ms.saturating_add(interval_ms);
        let tick = Duration::from_millis(self.options.tick_ms.max(1));
        while shutdown.unless(self.clock.sleep(tick)).await.is_some() {
            let now = self.now();
            let sweep = now.mono_ms >= next_sweep_ms;
            if sweep {
                next_sweep_ms = now.mono_ms.saturating_add(interval_ms);
            }
            let shards: Vec<_> = self.shards.read().values().cloned().collect();
            for shard in shards.iter().filter(|shard| self.leads(shard)) {
                shard.time_out(now);
                if sweep {
                    shard.forget_expired(self.options.retention_ms, now);
                }
            }
        }
        // Nobody is left waiting for a process that ends.
        for shard in self.shards.write().drain().map(|(_, shard)| shard) {
            shard.close();
        }
    }
}
