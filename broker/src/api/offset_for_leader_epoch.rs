//! OffsetForLeaderEpoch: where an epoch ended (KIP-320). Clients use it after a leader change to notice
//! that what they read is gone; so it is answered from the log's own lineage and never guessed. What that does
//! not reach back to is asked of the bucket, which holds the records.

use std::{sync::Arc, time::Duration};

use whimbrel_log::{EpochEnd, EpochStart};
use whimbrel_wire::{
    ErrorCode,
    messages::offset_for_leader_epoch::{
        EpochEndOffset, OffsetForLeaderPartition, OffsetForLeaderTopicResult, Request, Response,
    },
};

use super::refusal;
use crate::{broker::Broker, cold::LOOKUP_WAIT};

pub async fn handle(broker: &Arc<Broker>, request: Request) -> Response {
    let begun_ns = broker.clock.boot_ns();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let waited = Duration::from_nanos(broker.clock.boot_ns().saturating_sub(begun_ns));
            let wait = LOOKUP_WAIT.saturating_sub(waited);
            partitions.push(one(broker, &topic.topic, asked, wait).await);
        }
        topics.push(OffsetForLeaderTopicResult {
            topic: topic.topic,
            partitions,
        });
    }
    Response {
        topics,
        ..Response::default()
    }
}

async fn one(
    broker: &Arc<Broker>,
    name: &str,
    asked: &OffsetForLeaderPartition,
    wait: Duration,
) -> EpochEndOffset {
    let partition = asked.partition;
    match find(broker, name, asked, wait).await {
        Ok(EpochEnd { epoch, end_offset }) => EpochEndOffset {
            partition,
            leader_epoch: epoch,
            end_offset,
            ..EpochEndOffset::default()
        },
        Err(error_code) => EpochEndOffset {
            partition,
            error_code,
            ..EpochEndOffset::default()
        },
    }
}

async fn find(
    broker: &Arc<Broker>,
    name: &str,
    asked: &OffsetForLeaderPartition,
    wait: Duration,
) -> Result<EpochEnd, ErrorCode> {
    let catalog = broker.catalog();
    let topic = refusal::topic(&catalog, name, uuid::Uuid::nil(), false)?;
    let (partition, epoch) = refusal::leader(&catalog, topic, asked.partition)?;
    refusal::fence(asked.current_leader_epoch, epoch)?;
    let known_from = partition.log.lineage_known_from();
    match known_from.filter(|first| asked.leader_epoch < first.epoch) {
        Some(first) if broker.cold.is_configured() => {
            let tiered = broker.cold.lineage(partition.at, wait).await.map_err(|error| {
                tracing::debug!(at = %partition.at, %error, "the bucket's lineage is not to be had now");
                ErrorCode::OFFSET_NOT_AVAILABLE
            })?;
            Ok(end_in(&tiered, first, asked.leader_epoch))
        }
        _ => Ok(partition.log.end_for_epoch(asked.leader_epoch)),
    }
}

/// Where the largest epoch not above `asked` ended, which is older than `first`.
fn end_in(tiered: &[EpochStart], first: EpochStart, asked: i32) -> EpochEnd {
    let start_of = |from: i32| {
        let next = tiered.iter().find(|e| e.epoch > from);
        next.filter(|e| e.epoch <= first.epoch && e.start_offset <= first.start_offset)
            .map_or(first.start_offset, |e| e.start_offset)
    };
    let floor = tiered.iter().rfind(|e| e.epoch <= asked);
    EpochEnd {
        epoch: floor.map_or(asked, |e| e.epoch),
        end_offset: start_of(asked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(epoch: i32, start_offset: i64) -> EpochStart {
        EpochStart {
            epoch,
            start_offset,
        }
    }

    #[test]
    fn an_epoch_that_only_the_bucket_knows_ends_where_the_next_one_began() {
        let tiered = [start(1, 0), start(3, 10), start(6, 40)];
        let end = |asked| {
            let end = end_in(&tiered, start(6, 70), asked);
            (end.epoch, end.end_offset)
        };
        assert_eq!(end(1), (1, 10));
        assert_eq!(end(2), (1, 10));
        assert_eq!(end(5), (3, 40));
        assert_eq!(end(0), (0, 0), "below all: where the first began");
        let alone = end_in(&[], start(6, 70), 4);
        assert_eq!((alone.epoch, alone.end_offset), (4, 70));
    }
}
