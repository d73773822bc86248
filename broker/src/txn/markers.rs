//! Ends transactions in the partitions led here.

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use whimbrel_fleet::naming::CONSUMER_OFFSETS;
use whimbrel_wire::{
    ErrorCode,
    control::{ControlType, Marker as ControlMarker, MarkerBatch},
};

use super::{coordinator::Outside, machine::Producer};
use crate::{
    broker::Broker,
    group::offsets::TopicPartition,
    partition::{InFlight, Partition},
};

/// Markers that are not durable after so long are written again; Kafka's `request.timeout.ms` of brokers.
const TIMEOUT: Duration = Duration::from_secs(30);

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
}

/// Ends a transaction in partitions led here; one code for each. NONE means that the marker is durable and shown.
pub async fn write(
    broker: &Arc<Broker>,
    marker: Marker,
    partitions: impl IntoIterator<Item = TopicPartition>,
) -> Vec<(TopicPartition, ErrorCode)> {
    // All are appended before any is waited for, so that they share a sync.
    let (mut done, mut waiting, mut groups) = (Vec::new(), Vec::new(), Vec::new());
    for at in partitions {
        if at.topic == CONSUMER_OFFSETS {
            groups.push(at);
            continue;
        }
        match append(broker, marker, &at) {
            Ok((partition, in_flight)) => waiting.push((at, partition, in_flight)),
            Err(error) => done.push((at, error)),
        }
    }
    for at in groups {
        let ended = match broker.coordination.coordinator() {
            Some(coordinator) => coordinator.end_transaction(at.partition, marker).await,
            None => Err(ErrorCode::NOT_LEADER_OR_FOLLOWER),
        };
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

fn append(
    broker: &Broker,
    marker: Marker,
    at: &TopicPartition,
) -> Result<(Arc<Partition>, InFlight), ErrorCode> {
    let catalog = broker.catalog();
    if catalog.topic(&at.topic).is_none() {
        return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
    let partition = catalog
        .local_of(&at.topic, at.partition)
        .ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
    let in_flight = partition.append_marker(&broker.lease, marker, broker.clock.wall_ms())?;
    broker.flusher.list(partition);
    Ok((Arc::clone(partition), in_flight))
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

    async fn write_markers(
        &self,
        marker: Marker,
        partitions: BTreeSet<TopicPartition>,
    ) -> BTreeSet<TopicPartition> {
        let Some(broker) = self.0.upgrade() else {
            return partitions;
        };
        let written = write(&broker, marker, partitions).await;
        let left = written.into_iter().filter(|(at, error)| {
            if error.is_error() {
                tracing::debug!(topic = at.topic, partition = at.partition, %error, "a marker is not written");
            }
            !is_done(*error)
        });
        left.map(|(at, _)| at).collect()
    }
}
