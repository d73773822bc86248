//! DeleteRecords: moves log starts. Only the home leader does, under its lease.

use std::sync::Arc;

use whimbrel_wire::{
    ErrorCode,
    messages::delete_records::{
        DeleteRecordsPartitionResult, DeleteRecordsTopicResult, Request, Response,
    },
};

use super::refusal;
use crate::broker::Broker;

/// Up to the high watermark.
const ALL: i64 = -1;

pub async fn handle(broker: &Arc<Broker>, request: Request) -> Response {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let moved = delete(
                broker,
                &topic.name,
                partition.partition_index,
                partition.offset,
            )
            .await;
            let (low_watermark, error_code) =
                moved.map_or_else(|error| (-1, error), |start| (start, ErrorCode::NONE));
            partitions.push(DeleteRecordsPartitionResult {
                partition_index: partition.partition_index,
                low_watermark,
                error_code,
            });
        }
        topics.push(DeleteRecordsTopicResult {
            name: topic.name,
            partitions,
        });
    }
    Response {
        topics,
        ..Response::default()
    }
}

async fn delete(
    broker: &Arc<Broker>,
    name: &str,
    index: i32,
    offset: i64,
) -> Result<i64, ErrorCode> {
    let catalog = broker.catalog();
    let topic = refusal::topic(&catalog, name, uuid::Uuid::nil(), false)?;
    if topic.internal {
        return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
    }
    let (partition, _) = refusal::leader(&catalog, topic, index)?;
    let policy = partition.log.config().cleanup_policy;
    if policy.compact && !policy.delete {
        // Its keys' last values are to be kept.
        return Err(ErrorCode::POLICY_VIOLATION);
    }
    let high_watermark = partition.high_watermark();
    let offset = if offset == ALL {
        high_watermark
    } else {
        offset
    };
    if offset < 0 || offset > high_watermark {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    crate::housekeeping::move_log_start(broker, partition, offset)
        .await
        .ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)
}
