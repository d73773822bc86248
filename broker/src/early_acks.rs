//! Which partitions may acknowledge before the sync, as their topics ask for it by name (`flush.messages`), and what
//! a power cut may have taken of such acks.

use std::{collections::HashMap, sync::Arc};

use serde_json::{Value, json};
use whimbrel_fleet::{Topic, TopicId, TopicPartition};
use whimbrel_log::{Disk, MayBeLost};

use crate::{broker::Broker, partition::Partition, topic_config};

/// Gives each partition its topic's bound. A higher one is on the disk before it counts; where that fails, everything
/// is synced first as before.
pub async fn bound(
    broker: &Broker,
    topics: &HashMap<TopicId, &Topic>,
    local: &HashMap<TopicPartition, Arc<Partition>>,
) {
    let mut changed = Vec::new();
    for partition in local.values() {
        let topic = topics.get(&partition.at.topic_id);
        let bound = topic.map_or(crate::partition::SYNCED, |t| {
            topic_config::unsynced_bound(t)
        });
        if bound != partition.unsynced_bound() {
            changed.push((Arc::clone(partition), bound));
        }
    }
    if changed.is_empty() {
        return;
    }
    let noted: Vec<_> = changed
        .iter()
        .map(|(partition, bound)| (Arc::clone(&partition.log), bound.unsigned_abs()))
        .collect();
    let disk = Arc::clone(&broker.disk);
    let allowed = broker
        .tasks
        .blocking(move || disk.allow_early_acks(&noted))
        .await;
    match allowed {
        Ok(()) => {
            for (partition, bound) in changed {
                partition.bound_unsynced(bound);
                broker.flusher.advance(&partition);
            }
        }
        Err(error) => {
            for (partition, bound) in &changed {
                partition.bound_unsynced((*bound).min(partition.unsynced_bound()));
            }
            tracing::error!(%error, "flush.messages cannot be noted on the disk and does not count yet");
        }
    }
}

/// Says once what a power cut may have taken.
pub fn report(disk: &Disk) {
    for lost in disk.may_be_lost() {
        let MayBeLost {
            topic,
            partition,
            recovered_end,
            records_at_most,
            set_aside,
        } = lost;
        tracing::error!(
            code = "WB-126",
            topic,
            partition,
            recovered_end,
            records_at_most,
            set_aside,
            "a power cut may have taken acknowledged records of a topic with flush.messages"
        );
    }
}

/// For the status: as of this start, per partition.
pub fn lost(disk: &Disk) -> Vec<Value> {
    let one = |lost: &MayBeLost| {
        json!({
            "topic": lost.topic,
            "partition": lost.partition,
            "recovered_end": lost.recovered_end,
            "records_at_most": lost.records_at_most,
            "set_aside": lost.set_aside,
        })
    };
    disk.may_be_lost().iter().map(one).collect()
}
