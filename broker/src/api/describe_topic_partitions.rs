//! DescribeTopicPartitions: topics by name, a page of partitions at a time.

use std::{collections::BTreeSet, sync::Arc};

use whimbrel_fleet::{Topic, naming::is_valid_topic};
use whimbrel_wire::{
    ErrorCode,
    messages::describe_topic_partitions::{
        Cursor, DescribeTopicPartitionsResponsePartition as DescribedPartition,
        DescribeTopicPartitionsResponseTopic as DescribedTopic, Request, Response,
    },
};

use super::metadata::standing;
use crate::{broker::Broker, catalog::Catalog};

/// Kafka's `max.request.partition.size.limit`.
const PAGE: usize = 2_000;

pub fn handle(broker: &Arc<Broker>, request: &Request) -> Response {
    let catalog = broker.catalog();
    let page = usize::try_from(request.response_partition_limit)
        .unwrap_or(0)
        .clamp(1, PAGE);
    let all = request.topics.is_empty();
    let names: BTreeSet<&str> = if all {
        catalog.view.topics.keys().map(String::as_str).collect()
    } else {
        request.topics.iter().map(|t| t.name.as_str()).collect()
    };
    let Some((from, first)) = begin(request.cursor.as_ref()) else {
        let refused = names
            .iter()
            .map(|name| failed(name, ErrorCode::INVALID_REQUEST));
        return Response {
            topics: refused.collect(),
            ..Response::default()
        };
    };
    describe(&catalog, names.range(from..).copied(), from, first, page)
}

/// The topic and partition that a page begins with.
fn begin(cursor: Option<&Cursor>) -> Option<(&str, usize)> {
    match cursor {
        None => Some(("", 0)),
        Some(cursor) => {
            let first = usize::try_from(cursor.partition_index).ok()?;
            Some((cursor.topic_name.as_str(), first))
        }
    }
}

fn describe<'a>(
    catalog: &Catalog,
    names: impl Iterator<Item = &'a str>,
    from: &str,
    first: usize,
    page: usize,
) -> Response {
    let (mut response, mut left) = (Response::default(), page);
    for name in names {
        let begin = if name == from { first } else { 0 };
        if left == 0 {
            response.next_cursor = Some(cursor(name, begin));
            return response;
        }
        let Some(topic) = catalog.topic(name) else {
            let code = if is_valid_topic(name) {
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            } else {
                ErrorCode::INVALID_TOPIC_EXCEPTION
            };
            response.topics.push(failed(name, code));
            continue;
        };
        let described = described(catalog, topic, begin, left);
        left -= described.partitions.len();
        let next = begin + described.partitions.len();
        response.topics.push(described);
        if next < topic.partitions.len() {
            response.next_cursor = Some(cursor(name, next));
            return response;
        }
    }
    response
}

fn cursor(name: &str, partition: usize) -> Cursor {
    Cursor {
        topic_name: name.to_owned(),
        partition_index: i32::try_from(partition).unwrap_or(i32::MAX),
    }
}

fn failed(name: &str, error_code: ErrorCode) -> DescribedTopic {
    DescribedTopic {
        error_code,
        name: Some(name.to_owned()),
        ..DescribedTopic::default()
    }
}

fn described(catalog: &Catalog, topic: &Topic, first: usize, most: usize) -> DescribedTopic {
    let partitions = (0_i32..).zip(&topic.partitions).skip(first).take(most);
    let partitions = partitions.map(|(partition_index, placed)| {
        let standing = standing(catalog, topic, partition_index, placed);
        DescribedPartition {
            error_code: standing.error_code,
            partition_index,
            leader_id: standing.leader_id,
            leader_epoch: standing.leader_epoch,
            replica_nodes: standing.replica_nodes,
            isr_nodes: standing.isr_nodes,
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
            offline_replicas: standing.offline_replicas,
        }
    });
    DescribedTopic {
        name: Some(topic.name.clone()),
        topic_id: topic.id,
        is_internal: topic.internal,
        partitions: partitions.collect(),
        ..DescribedTopic::default()
    }
}
