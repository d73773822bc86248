//! Ends transactions in the partitions led here.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use whimbrel_fleet::{Node, NodeId, naming::CONSUMER_OFFSETS};
use whimbrel_wire::{
    ErrorCode,
    control::{ControlType, Marker as ControlMarker, MarkerBatch},
    messages::write_txn_markers,
};

use super::{coordinator::Outside, machine::Producer};
use crate::{
    broker::Broker,
    group::offsets::TopicPartition,
    partition::{InFlight, Partition},
    peers,
};

/// Markers that are not durable after so long are written again; Kafka's `request.timeout.ms` of brokers.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The version in which brokers ask each other.
const BY_BROKERS: i16 = 2;
/// `transaction.version` of a strict marker there.
const STRICT: i8 = 2;

/// Partitions of a transaction, each with an offset that nothing of it lies below there; 0 where none is known.
pub type Places = BTreeMap<TopicPartition, i64>;

/// How a producer's transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    pub producer: Producer,
    pub commit: bool,
    /// Leader epoch of the coordinator's partition.
    pub coordinator_epoch: i32,
    /// The producer gets a new epoch with every transaction, so a marker of the present one is late.
    pub strict: bool,
}

impl Marker {
    /// The epoch in which the producer wrote what this ends; an abort may come in any later one too.
    #[must_use]
    pub fn ended_epoch(&self) -> i16 {
        let epoch = self.producer.epoch;
        if self.strict {
            epoch.saturating_sub(1)
        } else {
            epoch
        }
    }

    /// The control batch; its offset and leader epoch are the log's to set.
    ///
    /// # Errors
    /// INVALID_RECORD for a time that cannot be written.
    pub fn batch(self, now_ms: i64) -> Result<Bytes, ErrorCode> {
        let batch = MarkerBatch {
            base_offset: 0,
            leader_epoch: 0,
            timestamp_ms: now_ms,
            producer_id: self.producer.id,
            producer_epoch: self.producer.epoch,
            marker: ControlMarker {
                control_type: if self.commit {
                    ControlType::Commit
                } else {
                    ControlType::Abort
                },
                coordinator_epoch: self.coordinator_epoch,
            },
        };
        batch.build().map_err(|_| ErrorCode::INVALID_RECORD)
    }

    /// As brokers tell each other.
    fn to_wire(self, partitions: &Places) -> write_txn_markers::WritableTxnMarker {
        let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for at in partitions.keys() {
            topics.entry(&at.topic).or_default().push(at.partition);
        }
        let topic = |(name, partition_indexes): (&str, Vec<i32>)| {
            write_txn_markers::WritableTxnMarkerTopic {
                name: name.to_owned(),
                partition_indexes,
            }
        };
        write_txn_markers::WritableTxnMarker {
            producer_id: self.producer.id,
            producer_epoch: self.producer.epoch,
            transaction_result: self.commit,
            topics: topics.into_iter().map(topic).collect(),
            coordinator_epoch: self.coordinator_epoch,
            transaction_version: if self.strict { STRICT } else { 0 },
        }
    }
}

/// Ends a transaction in partitions led here; one code for each. NONE means that the marker is durable and shown.
pub async fn write(
    broker: &Arc<Broker>,
    marker: Marker,
    partitions: impl IntoIterator<Item = (TopicPartition, i64)>,
) -> Vec<(TopicPartition, ErrorCode)> {
    // All are appended before any is waited for, so that they share a sync.
    let (mut done, mut waiting, mut groups) = (Vec::new(), Vec::new(), Vec::new());
    for (at, above) in partitions {
        if at.topic == CONSUMER_OFFSETS {
            groups.push((at, above));
            continue;
        }
        match append(broker, marker, &at, above) {
            Ok((partition, in_flight)) => waiting.push((at, partition, in_flight)),
            Err(error) => done.push((at, error)),
        }
    }
    for (at, above) in groups {
        let ended = end_positions(broker, marker, &at, above).await;
        done.push((at, ended.err().unwrap_or(ErrorCode::NONE)));
    }
    for (at, partition, mut in_flight) in waiting {
        let acked = broker
            .clock
            .within(TIMEOUT, in_flight.acknowledged(&partition, &broker.lease))
            .await;
        done.push((at, acked.unwrap_or(ErrorCode::REQUEST_TIMED_OUT)));
    }
    done
}

async fn end_positions(
    broker: &Broker,
    marker: Marker,
    at: &TopicPartition,
    above: i64,
) -> Result<(), ErrorCode> {
    let not_led = ErrorCode::NOT_LEADER_OR_FOLLOWER;
    let catalog = broker.catalog();
    let partition = catalog
        .local_of(&at.topic, at.partition)
        .filter(|partition| partition.leads().is_some())
        .ok_or(not_led)?;
    let marker = partition.judge(marker, above);
    let coordinator = broker.coordination.coordinator().ok_or(not_led)?;
    coordinator.end_transaction(at.partition, marker).await
}

fn append(
    broker: &Broker,
    marker: Marker,
    at: &TopicPartition,
    above: i64,
) -> Result<(Arc<Partition>, InFlight), ErrorCode> {
    let catalog = broker.catalog();
    if catalog.topic(&at.topic).is_none() {
        return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
    let partition = catalog
        .local_of(&at.topic, at.partition)
        .ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
    let in_flight =
        partition.append_marker(&broker.lease, marker, above, broker.clock.wall_ms())?;
    broker.flusher.list(partition);
    Ok((Arc::clone(partition), in_flight))
}

/// Has another broker end a transaction in partitions that it leads.
async fn write_there(
    broker: &Arc<Broker>,
    node: Node,
    marker: Marker,
    partitions: Places,
) -> Vec<(TopicPartition, ErrorCode)> {
    let request = write_txn_markers::Request {
        markers: vec![marker.to_wire(&partitions)],
    };
    let answer = peers::ask_about(broker, &node, BY_BROKERS, &request, &partitions).await;
    let codes: HashMap<TopicPartition, ErrorCode> = match &answer {
        Err(_) => HashMap::new(),
        Ok(answer) => {
            let topics = answer.markers.iter().flat_map(|marker| &marker.topics);
            let of_topic = |topic: &write_txn_markers::WritableTxnMarkerTopicResult| {
                let name = topic.name.clone();
                let places = topic.partitions.clone();
                places.into_iter().map(move |p| {
                    let at = TopicPartition {
                        topic: name.clone(),
                        partition: p.partition_index,
                    };
                    (at, p.error_code)
                })
            };
            topics.flat_map(of_topic).collect()
        }
    };
    // What was not answered is not known.
    let unanswered = answer.err().unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR);
    let code = |at: TopicPartition| {
        let code = codes.get(&at).copied().unwrap_or(unanswered);
        (at, code)
    };
    partitions.into_keys().map(code).collect()
}

/// Whether after this answer the marker need not be written any more.
fn is_done(error: ErrorCode) -> bool {
    matches!(
        error,
        ErrorCode::NONE
            // The topic was deleted.
            | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            // The partition knows a later epoch, which began only because this transaction had ended.
            | ErrorCode::INVALID_PRODUCER_EPOCH
    )
}

/// What the transaction coordinator sees of this broker and its peers.
#[derive(Clone, Debug)]
pub struct Fleet(pub Weak<Broker>);

#[async_trait]
impl Outside for Fleet {
    async fn producer_id(&self) -> Result<i64, ErrorCode> {
        let broker = self.0.upgrade().ok_or(ErrorCode::NOT_COORDINATOR)?;
        let next = broker.producer_ids.next(&broker.controller, broker.node);
        next.await.map_err(|error| {
            tracing::warn!(%error, "no producer id");
            ErrorCode::COORDINATOR_NOT_AVAILABLE
        })
    }

    async fn write_markers(&self, marker: Marker, partitions: Places) -> Places {
        let Some(broker) = self.0.upgrade() else {
            return partitions;
        };
        let catalog = broker.catalog();
        // A topic that is gone has nobody to be written to; that is found out here as well as anywhere.
        let all = partitions.clone();
        let (mut here, mut nobody) = (Places::new(), Places::new());
        let mut there: BTreeMap<NodeId, (Node, Places)> = BTreeMap::new();
        for (at, above) in partitions {
            let leader = catalog
                .topic(&at.topic)
                .map(|topic| catalog.leader(topic, at.partition));
            match leader {
                Some(Some((node, _))) if node.id != broker.node => {
                    let (_, places) = there
                        .entry(node.id)
                        .or_insert_with(|| (node.clone(), Places::new()));
                    places.insert(at, above);
                }
                Some(None) => drop(nobody.insert(at, above)),
                _ => drop(here.insert(at, above)),
            }
        }
        let elsewhere = there
            .into_values()
            .map(|(node, places)| write_there(&broker, node, marker, places));
        let (mut written, others) = tokio::join!(
            write(&broker, marker, here),
            futures::future::join_all(elsewhere)
        );
        written.extend(others.into_iter().flatten());
        let left = written.into_iter().filter(|(at, error)| {
            if error.is_error() {
                tracing::debug!(topic = at.topic, partition = at.partition, %error, "a marker is not written");
            }
            !is_done(*error)
        });
        let place = |at: TopicPartition| {
            let above = all.get(&at).copied().unwrap_or(0);
            (at, above)
        };
        left.map(|(at, _)| place(at)).chain(nobody).collect()
    }
}
