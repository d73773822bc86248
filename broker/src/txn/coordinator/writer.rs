//! The one task of a shard: load, then write batch after batch; and the tasks that write markers.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use whimbrel_runtime::Backoff;
use whimbrel_wire::{BatchBuilder, ErrorCode, RecordError, codec, record};

use super::{
    super::{
        machine::{BUMPS_EPOCH, Record, State},
        markers::Marker,
        records::{self, Entry, EntryError},
    },
    Coordinator,
    shard::{Contents, Shard, Work},
};
use crate::state_log::{self, ReplayError};

/// What the batch header and a record's frame take, roughly; only used to stay below the limit.
const RECORD_OVERHEAD_BYTES: usize = 100;

/// Runs until the shard is closed or the process ends.
pub(super) async fn run(coordinator: &Arc<Coordinator>, shard: &Arc<Shard>) {
    let (clock, shutdown) = (&coordinator.clock, coordinator.tasks.shutdown());
    let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
    while !shard.is_closed() && !shutdown.requested() {
        match load(coordinator, shard).await {
            Ok(loaded) => {
                backoff.reset();
                let (generation, prepared) = shard.open(loaded, coordinator.now());
                for id in prepared {
                    write_markers(coordinator, shard, id, generation);
                }
                let ended = shutdown.unless(write_all(coordinator, shard)).await;
                if ended.is_none() {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(partition = shard.partition(), epoch = shard.epoch(), %error, "transactions are not loaded yet");
                shutdown.unless(clock.sleep(backoff.next())).await;
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("the partition is not led in this epoch, or not under a lease")]
    NotLed,
    #[error(transparent)]
    Replay(#[from] ReplayError),
    #[error(transparent)]
    Records(#[from] RecordError),
    #[error(transparent)]
    Entry(#[from] EntryError),
}

async fn load(
    coordinator: &Coordinator,
    shard: &Shard,
) -> Result<HashMap<String, (Record, bool)>, LoadError> {
    // A log that is not here, or not ours, looks empty.
    if !coordinator.leads(shard) {
        return Err(LoadError::NotLed);
    }
    let mut loaded = HashMap::new();
    state_log::replay(&*coordinator.log, shard.partition(), |batch| {
        if batch.header.is_control() {
            return Ok::<(), LoadError>(());
        }
        for found in record::records(batch, codec::Limits::default())? {
            let found = found?;
            let stale = shard.stale_below.is_some_and(|end| found.offset < end);
            match records::decode(&found)? {
                Some((id, Some(record))) => drop(loaded.insert(id, (record, stale))),
                Some((id, None)) => drop(loaded.remove(&id)),
                None => {}
            }
        }
        Ok(())
    })
    .await?;
    if coordinator.leads(shard) {
        Ok(loaded)
    } else {
        Err(LoadError::NotLed)
    }
}

/// Writes until the shard is closed, or until the outcome of a write is unknown.
async fn write_all(coordinator: &Arc<Coordinator>, shard: &Arc<Shard>) {
    loop {
        let stirred = shard.stirred.notified();
        if shard.is_closed() {
            return;
        }
        let max_bytes = coordinator.options.max_batch_bytes;
        let Some(job) = shard.contents(|contents| gather(contents, max_bytes)) else {
            stirred.await;
            continue;
        };
        let Some(batch) = job.batch(coordinator.clock.wall_ms()) else {
            fail(shard, job, ErrorCode::RECORD_LIST_TOO_LARGE);
            continue;
        };
        match coordinator.log.append(shard.partition(), batch).await {
            Ok(_) => succeed(coordinator, shard, job),
            Err(error) if state_log::nothing_appended(error) => fail(shard, job, error),
            Err(error) => {
                tracing::warn!(
                    partition = shard.partition(),
                    error = error.name(),
                    "a write of transactions has an unknown outcome; reading the log again"
                );
                let told = told(error);
                shard.suspend(told);
                for (work, _) in job.0 {
                    work.answer(Some(told));
                }
                return;
            }
        }
    }
}

/// What is written in one batch.
struct Job(Vec<(Work, Entry)>);

/// As much as is queued and fits.
fn gather(contents: &mut Contents, max_bytes: usize) -> Option<Job> {
    let mut job = Vec::new();
    let mut bytes: usize = 0;
    while let Some(work) = contents.queue.front() {
        let transaction = contents.transactions.get(work.id());
        let entry = match work {
            Work::Forget { id } => transaction
                .filter(|transaction| transaction.pending().is_none())
                .map(|_| records::encode(id, None)),
            Work::Pending { id, .. } => transaction
                .and_then(|transaction| transaction.pending())
                .map(|pending| records::encode(id, Some(pending))),
        };
        let Some(entry) = entry else {
            // It came back to life before it was removed.
            contents.queue.pop_front();
            continue;
        };
        let size = entry.bytes() + RECORD_OVERHEAD_BYTES;
        if !job.is_empty() && bytes.saturating_add(size) > max_bytes {
            break;
        }
        bytes = bytes.saturating_add(size);
        if let Some(work) = contents.queue.pop_front() {
            job.push((work, entry));
        }
    }
    (!job.is_empty()).then_some(Job(job))
}

impl Job {
    fn batch(&self, now_ms: i64) -> Option<Bytes> {
        let mut builder = BatchBuilder::new(0);
        for (_, entry) in &self.0 {
            let (key, value) = (Some(&entry.key[..]), entry.value.as_deref());
            builder.add(now_ms, key, value, &entry.headers).ok()?;
        }
        builder.finish().ok()
    }
}

fn succeed(coordinator: &Arc<Coordinator>, shard: &Arc<Shard>, job: Job) {
    let now = coordinator.now();
    for (work, _) in job.0 {
        let (generation, prepared) = shard.contents(|contents| {
            let generation = contents.generation();
            let Some(transaction) = contents.transactions.get_mut(work.id()) else {
                return (generation, false);
            };
            match &work {
                Work::Pending { .. } => (generation, transaction.written(now)),
                Work::Forget { id } => {
                    // Whoever came meanwhile is written behind the removal.
                    if transaction.pending().is_none() {
                        contents.transactions.remove(id);
                    }
                    (generation, false)
                }
            }
        });
        if prepared {
            write_markers(coordinator, shard, work.id().to_owned(), generation);
        } else {
            shard.settled.notify_waiters();
        }
        work.answer(None);
    }
}

fn fail(shard: &Shard, job: Job, error: ErrorCode) {
    for (work, _) in job.0 {
        shard.contents(|contents| {
            if let Some(transaction) = contents.transactions.get_mut(work.id()) {
                transaction.dropped();
                if transaction.is_unwritten() {
                    contents.transactions.remove(work.id());
                }
            }
        });
        work.answer(Some(told(error)));
    }
    shard.settled.notify_waiters();
}

/// What a client is told when the record could not be written (Kafka's mapping).
fn told(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::NOT_ENOUGH_REPLICAS
        | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
        | ErrorCode::REQUEST_TIMED_OUT => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::KAFKA_STORAGE_ERROR => {
            ErrorCode::NOT_COORDINATOR
        }
        ErrorCode::MESSAGE_TOO_LARGE
        | ErrorCode::RECORD_LIST_TOO_LARGE
        | ErrorCode::INVALID_RECORD => ErrorCode::UNKNOWN_SERVER_ERROR,
        other => other,
    }
}

/// Writes a prepared transaction's markers until every partition has one, then completes it.
fn write_markers(coordinator: &Arc<Coordinator>, shard: &Arc<Shard>, id: String, generation: u64) {
    let (this, shard) = (Arc::clone(coordinator), Arc::clone(shard));
    coordinator
        .tasks
        .spawn_ok("transaction markers", async move {
            let shutdown = this.tasks.shutdown();
            // While it lives no cut is taken: the logs would hold the transaction's end in part.
            let Some(under_way) = shutdown.unless(this.gate.enter()).await else {
                return;
            };
            let Some(record) = shard.prepared(&id, generation) else {
                return;
            };
            let marker = Marker {
                producer: record.producer,
                commit: record.state == State::PrepareCommit,
                coordinator_epoch: shard.epoch(),
                strict: record.client_version >= BUMPS_EPOCH,
            };
            let mut left = record.places();
            let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
            while !left.is_empty() {
                let Some(still) = shutdown
                    .unless(this.outside.write_markers(marker, left))
                    .await
                else {
                    return;
                };
                left = still;
                if left.is_empty() {
                    break;
                }
                // Whoever leads next writes them.
                if shard.prepared(&id, generation).is_none() {
                    return;
                }
                shutdown.unless(this.clock.sleep(backoff.next())).await;
                if shutdown.requested() {
                    return;
                }
            }
            shard.complete(&id, generation, this.now());
            shutdown.unless(shard.completed(&id, generation)).await;
            drop(under_way);
        });
}
