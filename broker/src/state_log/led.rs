//! The partitions of one internal topic that this broker leads.
//!
//! Holds the broker weakly: the broker owns the coordinators, not the other way round.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use whimbrel_wire::ErrorCode;

use super::StateLog;
use crate::{broker::Broker, partition::Partition};

/// A write waits no longer for its ack than Kafka's `offsets.commit.timeout.ms`.
const APPEND_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct Led {
    pub broker: Weak<Broker>,
    pub topic: &'static str,
}

impl Led {
    fn partition(&self, partition: i32) -> Option<(Arc<Broker>, Arc<Partition>)> {
        let broker = self.broker.upgrade()?;
        let local = broker.catalog().local_of(self.topic, partition).cloned()?;
        Some((broker, local))
    }
}

#[async_trait]
impl StateLog for Led {
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
                APPEND_TIMEOUT,
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
