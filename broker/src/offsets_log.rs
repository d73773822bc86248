//! What the group coordinator sees of this broker: the led partitions of `__consumer_offsets`, and names.
//!
//! Held weakly: the broker owns the coordinator, not the other way round.

use std::{sync::Weak, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;
use whimbrel_fleet::naming::CONSUMER_OFFSETS;
use whimbrel_rpc::controller::NewTopic;
use whimbrel_wire::ErrorCode;

use crate::{
    broker::Broker,
    group::{Directory, Endpoint, OffsetsLog, Topics},
    partition::Partition,
};

/// A commit waits no longer for its ack than Kafka's `offsets.commit.timeout.ms`.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);
/// Until the new topic has leaders.
const CREATE_TIMEOUT: Duration = Duration::from_secs(5);
/// Kafka's `offsets.topic.num.partitions`: a failover group's block.
const OFFSETS_PARTITIONS: i32 = 50;

#[derive(Clone, Debug)]
pub struct Seam(pub Weak<Broker>);

impl Seam {
    fn partition(
        &self,
        partition: i32,
    ) -> Option<(std::sync::Arc<Broker>, std::sync::Arc<Partition>)> {
        let broker = self.0.upgrade()?;
        let local = broker
            .catalog()
            .local_of(CONSUMER_OFFSETS, partition)
            .cloned()?;
        Some((broker, local))
    }
}

#[async_trait]
impl OffsetsLog for Seam {
    async fn append(&self, partition: i32, batch: Bytes) -> Result<i64, ErrorCode> {
        let (broker, partition) = self
            .partition(partition)
            .ok_or(ErrorCode::NOT_COORDINATOR)?;
        let writable = broker
            .clock
            .within(
                broker.options.limits.park_time.0,
                partition.writable(&broker.lease),
            )
            .await;
        writable.unwrap_or(Err(ErrorCode::NOT_COORDINATOR))?;
        let mut in_flight = partition.append(&broker.lease, batch, broker.clock.wall_ms())?;
        broker.flusher.list(&partition);
        let acked = broker
            .clock
            .within(
                COMMIT_TIMEOUT,
                in_flight.acknowledged(&partition, &broker.lease),
            )
            .await;
        match acked.unwrap_or(ErrorCode::REQUEST_TIMED_OUT) {
            ErrorCode::NONE => Ok(in_flight.appended.base_offset),
            error => Err(error),
        }
    }

    async fn read(
        &self,
        partition: i32,
        from: i64,
        max_bytes: usize,
    ) -> Result<(Bytes, i64), ErrorCode> {
        let (_, partition) = self
            .partition(partition)
            .ok_or(ErrorCode::NOT_COORDINATOR)?;
        let offsets = partition.log.offsets();
        let from = from.max(offsets.log_start);
        if from >= offsets.durable_end {
            return Ok((Bytes::new(), from));
        }
        let slice = partition
            .log
            .read(from, max_bytes, true, offsets.durable_end)
            .map_err(|e| e.error_code())?;
        Ok((slice.records, slice.next_offset))
    }

    fn start(&self, partition: i32) -> i64 {
        self.partition(partition)
            .map_or(0, |(_, p)| p.log.offsets().log_start)
    }

    fn end(&self, partition: i32) -> i64 {
        self.partition(partition)
            .map_or(0, |(_, p)| p.log.offsets().log_end)
    }

    fn led(&self, partition: i32) -> Option<i32> {
        let (broker, partition) = self.partition(partition)?;
        let terms = partition.leads()?;
        terms
            .held(&broker.lease, &partition.home)
            .then_some(terms.leader_epoch)
    }
}

impl Topics for Seam {
    fn name(&self, id: Uuid) -> Option<String> {
        Some(self.0.upgrade()?.catalog().topic_by_id(id)?.name.clone())
    }

    fn id(&self, name: &str) -> Option<Uuid> {
        Some(self.0.upgrade()?.catalog().topic(name)?.id)
    }

    fn partitions(&self, name: &str) -> Option<i32> {
        i32::try_from(self.0.upgrade()?.catalog().topic(name)?.partitions.len()).ok()
    }
}

#[async_trait]
impl Directory for Broker {
    async fn offsets_leader(&self, partition: i32) -> Result<Endpoint, ErrorCode> {
        if self.catalog().topic(CONSUMER_OFFSETS).is_none() {
            let topic = NewTopic {
                configs: [
                    ("cleanup.policy", "compact"),
                    ("segment.bytes", "104857600"),
                ]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
                internal: true,
                ..NewTopic::new(CONSUMER_OFFSETS, OFFSETS_PARTITIONS)
            };
            match self.controller.create_topic(topic).await {
                Ok(created) => self.until_applied(created.version, CREATE_TIMEOUT).await,
                // Another broker may have been faster: the view will tell.
                Err(error) => tracing::debug!(%error, "{CONSUMER_OFFSETS} was not created"),
            }
        }
        let catalog = self.catalog();
        let topic = catalog
            .topic(CONSUMER_OFFSETS)
            .ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
        let (node, _) = catalog
            .leader(topic, partition)
            .ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
        Ok(Endpoint {
            node_id: node.id.0,
            host: node.kafka.host.clone(),
            port: i32::from(node.kafka.port),
        })
    }
}
