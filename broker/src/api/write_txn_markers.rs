//! WriteTxnMarkers: ends transactions in partitions led here. From other brokers, and from operators who end one that
//! nobody else will.

use std::{collections::BTreeMap, sync::Arc};

use whimbrel_wire::messages::write_txn_markers::{
    Request, Response, WritableTxnMarker, WritableTxnMarkerPartitionResult,
    WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};

use super::refusal;
use crate::{
    broker::Broker,
    group::offsets::TopicPartition,
    txn::{Marker, Places, Producer, machine::BUMPS_EPOCH, markers},
};

/// `known`: where the transactions lie, as far as another broker says.
pub async fn handle(broker: &Arc<Broker>, request: Request, known: &Places) -> Response {
    let all = request
        .markers
        .into_iter()
        .map(|marker| one(broker, marker, known));
    Response {
        markers: futures::future::join_all(all).await,
    }
}

async fn one(
    broker: &Arc<Broker>,
    marker: WritableTxnMarker,
    known: &Places,
) -> WritableTxnMarkerResult {
    let places = marker.topics.into_iter().flat_map(|topic| {
        let name = refusal::short(topic.name);
        topic
            .partition_indexes
            .into_iter()
            .map(move |partition| TopicPartition {
                topic: name.clone(),
                partition,
            })
    });
    let places = places.map(|at| {
        let above = known.get(&at).copied().unwrap_or(0);
        (at, above)
    });
    let ends = Marker {
        producer: Producer {
            id: marker.producer_id,
            epoch: marker.producer_epoch,
        },
        commit: marker.transaction_result,
        coordinator_epoch: marker.coordinator_epoch,
        strict: i16::from(marker.transaction_version) >= BUMPS_EPOCH,
    };
    let mut topics: BTreeMap<String, Vec<WritableTxnMarkerPartitionResult>> = BTreeMap::new();
    for (at, error_code) in markers::write(broker, ends, places).await {
        let result = WritableTxnMarkerPartitionResult {
            partition_index: at.partition,
            error_code,
        };
        topics.entry(at.topic).or_default().push(result);
    }
    let topics = topics
        .into_iter()
        .map(|(name, partitions)| WritableTxnMarkerTopicResult { name, partitions });
    WritableTxnMarkerResult {
        producer_id: marker.producer_id,
        topics: topics.collect(),
    }
}
