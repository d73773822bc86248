//! OffsetForLeaderEpoch: where an epoch ended (KIP-320). Clients use it after a leader change to notice
//! that what they read is gone; so it is answered from the log's own lineage and never guessed.

use std::sync::Arc;

use whimbrel_wire::{
    ErrorCode,
    messages::offset_for_leader_epoch::{
        EpochEndOffset, OffsetForLeaderPartition, OffsetForLeaderTopicResult, Request, Response,
    },
};

use super::refusal;
use crate::{broker::Broker, catalog::Catalog};

pub fn handle(broker: &Arc<Broker>, request: Request) -> Response {
    let catalog = broker.catalog();
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic
            .partitions
            .iter()
            .map(|asked| one(&catalog, &topic.topic, asked))
            .collect();
        OffsetForLeaderTopicResult {
            topic: topic.topic,
            partitions,
        }
    });
    Response {
        topics: topics.collect(),
        ..Response::default()
    }
}

fn one(catalog: &Catalog, name: &str, asked: &OffsetForLeaderPartition) -> EpochEndOffset {
    let partition = asked.partition;
    match find(catalog, name, asked) {
        Ok((leader_epoch, end_offset)) => EpochEndOffset {
            partition,
            leader_epoch,
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

fn find(
    catalog: &Catalog,
    name: &str,
    asked: &OffsetForLeaderPartition,
) -> Result<(i32, i64), ErrorCode> {
    let topic = refusal::topic(catalog, name, uuid::Uuid::nil(), false)?;
    let (partition, epoch) = refusal::leader(catalog, topic, asked.partition)?;
    refusal::fence(asked.current_leader_epoch, epoch)?;
    let end = partition.log.end_for_epoch(asked.leader_epoch);
    Ok((end.epoch, end.end_offset))
}
