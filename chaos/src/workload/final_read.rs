//! What is there when all is over: every partition from offset 0 to its end, by a consumer that saw none of it.

use std::collections::BTreeMap;

use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, StreamConsumer},
};
use whimbrel_runtime::Clock;

use super::{PATIENCE, Target, WorkloadError, decode};
use crate::history::Final;

/// Reads everything there is now.
pub async fn final_read(target: &Target, clock: &Clock) -> Result<Vec<Final>, WorkloadError> {
    let ends = ends(target).await?;
    let consumer: StreamConsumer = target
        .config()
        .set("group.id", "chaos-final")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .create()?;
    let mut wanted: BTreeMap<i32, i64> = BTreeMap::new();
    let mut assignment = TopicPartitionList::new();
    for (partition, end) in ends {
        if end > 0 {
            wanted.insert(partition, end);
            assignment.add_partition_offset(&target.topic, partition, Offset::Offset(0))?;
        }
    }
    consumer.assign(&assignment)?;
    let mut records = Vec::new();
    let mut seen = "nothing".to_owned();
    while !wanted.is_empty() {
        let received = clock.within(PATIENCE, consumer.recv()).await;
        let message = match received {
            Some(Ok(message)) => message,
            Some(Err(error)) => {
                seen = error.to_string();
                continue;
            }
            None => {
                return Err(WorkloadError::Late {
                    what: "the final read",
                    seconds: PATIENCE.as_secs(),
                    seen: format!("{seen}; missing up to {wanted:?}"),
                });
            }
        };
        let (partition, offset) = (message.partition(), message.offset());
        let Some(end) = wanted.get(&partition).copied() else {
            continue;
        };
        if offset < end {
            let foreign = || WorkloadError::Foreign {
                topic: target.topic.clone(),
                partition,
                offset,
            };
            records.push(Final {
                key: target.key(partition),
                offset,
                value: decode(message.payload()).ok_or_else(foreign)?,
            });
        }
        if offset + 1 >= end {
            wanted.remove(&partition);
        }
    }
    Ok(records)
}

async fn ends(target: &Target) -> Result<Vec<(i32, i64)>, WorkloadError> {
    let target = target.clone();
    let asked = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = target.config().set("group.id", "chaos-final").create()?;
        (0..target.partitions)
            .map(|partition| {
                consumer
                    .fetch_watermarks(&target.topic, partition, PATIENCE)
                    .map(|(_, end)| (partition, end))
            })
            .collect::<Result<Vec<_>, _>>()
    });
    Ok(asked.await??)
}
