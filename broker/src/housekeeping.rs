//! What happens to logs with time: segments are closed, retention moves log starts, local copies of what
//! the bucket holds are freed, idle producers are forgotten, checkpoints are written.
//!
//! Local bytes go only below the verified extent of the bucket (P7). A log start moves only at the home
//! leader under its lease; followers are told by the replica stream.

use std::{sync::Arc, time::Duration};

use whimbrel_log::Health;

use crate::{broker::Broker, partition::Partition};

const PERIOD: Duration = Duration::from_secs(1);
/// Kafka's `replica.high.watermark.checkpoint.interval.ms`: what was acknowledged is told from what was not
/// by it, should this region come back with an orphan tail.
const CHECKPOINT_EVERY: u32 = 5;
/// Kafka's `producer.id.expiration.ms`.
const PRODUCER_EXPIRY_MS: i64 = 86_400_000;

pub async fn run(broker: Arc<Broker>) {
    let shutdown = broker.tasks.shutdown();
    let mut round = 0_u32;
    let mut retained_ms = broker.clock.boot_ms();
    let retention_every = broker.options.retention_check_interval.0;
    while shutdown.unless(broker.clock.sleep(PERIOD)).await.is_some() {
        round = round.wrapping_add(1);
        look_at_disk(&broker);
        let since = Duration::from_millis(broker.clock.boot_ms().saturating_sub(retained_ms));
        let retain = since >= retention_every;
        if retain {
            retained_ms = broker.clock.boot_ms();
        }
        for partition in broker.catalog().partitions() {
            keep(&broker, partition, retain).await;
        }
        if round.is_multiple_of(CHECKPOINT_EVERY) || broker.disk.checkpoint_is_due() {
            let now_ms = broker.clock.wall_ms();
            for partition in broker.catalog().partitions() {
                partition
                    .log
                    .expire_producers(now_ms.saturating_sub(PRODUCER_EXPIRY_MS));
            }
            let (disk, kept) = (Arc::clone(&broker.disk), Arc::clone(&broker));
            let written = broker.tasks.blocking(move || {
                kept.orphans.store_changed();
                disk.checkpoint()
            });
            if let Err(error) = written.await {
                tracing::warn!(%error, "checkpoints were not written");
            }
        }
    }
}

/// A disk that failed in the middle of nothing ends the process too; a short one is said once.
fn look_at_disk(broker: &Broker) {
    if broker.disk.failed().is_some() {
        broker.flusher.nudge();
    }
    let before = broker.disk.is_short();
    let free_bytes = broker.disk.free_bytes().unwrap_or(0);
    match (before, broker.disk.is_short()) {
        (false, true) => {
            tracing::error!(
                code = "WB-112",
                free_bytes,
                "the disk is nearly full: produce is refused"
            );
        }
        (true, false) => tracing::info!(free_bytes, "the disk has room again: produce is taken"),
        _ => {}
    }
}

/// `retain`: whether retention is due as well.
async fn keep(broker: &Arc<Broker>, partition: &Arc<Partition>, retain: bool) {
    if partition.log.health() != Health::Good {
        return;
    }
    let now_ms = broker.clock.wall_ms();
    let retain = retain && partition.leads().is_some();
    let expired = retain && partition.log.is_wholly_expired(now_ms);
    close_by_time(broker, partition, now_ms, expired).await;
    if retain {
        move_by_retention(broker, partition, now_ms).await;
    }
    free_local(broker, partition).await;
}

async fn move_by_retention(broker: &Broker, partition: &Arc<Partition>, now_ms: i64) {
    let offsets = partition.log.offsets();
    // What is in the bucket alone is the tiering daemon's to propose.
    if offsets.known_log_start != Some(offsets.local_log_start) {
        return;
    }
    if let Some(start) = partition.log.retention_start(now_ms) {
        let start = start.min(partition.high_watermark());
        let _ = move_log_start(broker, partition, start).await;
    }
}

/// Closes an active segment older than `segment.ms`, or one that is `expired`.
async fn close_by_time(broker: &Broker, partition: &Arc<Partition>, now_ms: i64, expired: bool) {
    if !expired && !partition.log.is_old(now_ms) {
        return;
    }
    let log = Arc::clone(&partition.log);
    if let Err(error) = broker.tasks.blocking(move || log.roll()).await {
        tracing::warn!(topic = partition.log.topic(), partition = partition.at.partition, %error, "a segment was not closed");
    }
}

/// Frees local segments that the bucket holds, verified, as far as local retention wants it. Internal
/// topics stay whole: coordinators read them from the disk.
pub async fn free_local(broker: &Broker, partition: &Arc<Partition>) {
    // What a compacted log holds is not in the bucket in the same form.
    let compacts = partition.log.config().cleanup_policy.compact;
    if compacts || partition.log.topic().starts_with("__") {
        return;
    }
    let Some(wanted) = partition.log.local_retention_start(broker.clock.wall_ms()) else {
        return;
    };
    let upto = wanted
        .min(partition.tiered_end())
        .min(partition.stream_end());
    if upto <= partition.log.offsets().local_log_start {
        return;
    }
    let log = Arc::clone(&partition.log);
    match broker
        .tasks
        .blocking(move || log.free_local_before(upto))
        .await
    {
        Ok(freed) if freed.segments > 0 => {
            broker.meters.local_freed_bytes.increment(freed.bytes);
            tracing::debug!(
                topic = partition.log.topic(),
                partition = partition.at.partition,
                ?freed,
                "local segments freed"
            );
        }
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(topic = partition.log.topic(), partition = partition.at.partition, %error, "local segments were not freed")
        }
    }
}

/// Moves the log start of a led partition; what it is then. `None` when it is not this broker's to move.
pub async fn move_log_start(
    broker: &Broker,
    partition: &Arc<Partition>,
    offset: i64,
) -> Option<i64> {
    partition
        .leads()
        .filter(|terms| terms.held(&broker.lease, &partition.home))?;
    let now = partition.log.offsets().log_start;
    if offset <= now {
        return Some(now);
    }
    let log = Arc::clone(&partition.log);
    match broker
        .tasks
        .blocking(move || log.set_log_start(offset))
        .await
    {
        Ok(_) => partition.waiters.wake(),
        Err(error) => {
            tracing::warn!(topic = partition.log.topic(), partition = partition.at.partition, %error, "the log start was not moved")
        }
    }
    broker.flusher.advance(partition);
    Some(partition.log.offsets().log_start)
}
