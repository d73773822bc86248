//! DescribeProducers: what the partitions led here know of those who wrote to them.

use whimbrel_wire::{
    ErrorCode,
    messages::describe_producers::{
        PartitionResponse, ProducerState, Request, Response, TopicResponse,
    },
};

use super::{once, refusal};
use crate::{broker::Broker, catalog::Catalog};

pub fn handle(broker: &Broker, mut request: Request) -> Response {
    let catalog = broker.catalog();
    let marked = once::firsts(request.topics.iter().map(|topic| topic.name.as_str()));
    once::keep(&mut request.topics, &marked);
    for topic in &mut request.topics {
        once::each(&mut topic.partition_indexes);
    }
    let topics = request.topics.into_iter().map(|topic| TopicResponse {
        partitions: topic
            .partition_indexes
            .iter()
            .map(|index| describe(&catalog, &topic.name, *index))
            .collect(),
        name: topic.name,
    });
    Response {
        throttle_time_ms: 0,
        topics: topics.collect(),
    }
}

fn describe(catalog: &Catalog, topic: &str, partition_index: i32) -> PartitionResponse {
    match producers(catalog, topic, partition_index) {
        Ok(active_producers) => PartitionResponse {
            partition_index,
            active_producers,
            ..PartitionResponse::default()
        },
        Err(error_code) => PartitionResponse {
            partition_index,
            error_code,
            error_message: Some(error_code.name().to_owned()),
            ..PartitionResponse::default()
        },
    }
}

fn producers(
    catalog: &Catalog,
    topic: &str,
    partition: i32,
) -> Result<Vec<ProducerState>, ErrorCode> {
    let topic = catalog
        .topic(topic)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let (partition, _) = refusal::leader(catalog, topic, partition)?;
    let state = |producer: &whimbrel_log::ProducerState| ProducerState {
        producer_id: producer.producer_id,
        producer_epoch: i32::from(producer.producer_epoch),
        last_sequence: producer.last_sequence(),
        last_timestamp: producer.last_timestamp_ms,
        coordinator_epoch: producer.coordinator_epoch,
        current_txn_start_offset: producer.current_txn_first_offset.unwrap_or(-1),
    };
    Ok(partition.log.producers().iter().map(state).collect())
}
