//! The transactional producer: records out, their offsets at the target back.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, ClientContext, Message,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer},
};
use tokio::sync::Notify;
use whimbrel_runtime::{Clock, Tasks};
use whimbrel_wire::Record;

use super::{error::FlowError, headers};

/// Taking the transactional id over, which ends a predecessor's transaction.
const INIT: Duration = Duration::from_secs(15);
/// These block a thread, which a process that ends has to wait for: no longer than this.
const END: Duration = Duration::from_secs(15);
/// Everything of a transaction acknowledged. The broker ends a transaction after 60 s by itself.
const DELIVERY: Duration = Duration::from_secs(50);
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(5);

/// A record on its way.
#[derive(Debug)]
pub struct Outgoing<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub record: &'a Record,
}

/// Delivery reports of the records of one [`Writer::write`].
#[derive(Debug, Default)]
struct Reports {
    round: Mutex<Round>,
    done: Notify,
}

#[derive(Debug, Default)]
struct Round {
    offsets: Vec<i64>,
    left: usize,
    failed: Option<KafkaError>,
}

impl ClientContext for Reports {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
    }
}

impl ProducerContext for Reports {
    /// The record's place in the round.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, place: usize) {
        let mut round = self.round.lock();
        match result {
            Ok(message) => {
                if let Some(offset) = round.offsets.get_mut(place) {
                    *offset = message.offset();
                }
            }
            Err((error, _)) => round.failed = Some(error.clone()),
        }
        round.left = round.left.saturating_sub(1);
        if round.left == 0 {
            self.done.notify_one();
        }
    }
}

pub struct Writer {
    producer: ThreadedProducer<Reports>,
    tasks: Tasks,
    clock: Clock,
}

impl Writer {
    /// Takes the transactional id over: a predecessor can write no more once this returns.
    pub async fn open(
        bootstrap: &str,
        transactional_id: &str,
        tasks: &Tasks,
        clock: &Clock,
    ) -> Result<Self, FlowError> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", bootstrap)
            .set("client.id", "whimbrel-mirror")
            .set("transactional.id", transactional_id)
            .set("acks", "all")
            .set("compression.type", "lz4")
            .set("linger.ms", "2")
            .set("message.max.bytes", "104857600")
            .set("queue.buffering.max.messages", "1000000")
            .set("broker.address.family", "v4");
        let producer: ThreadedProducer<Reports> = config.create_with_context(Reports::default())?;
        let writer = Self {
            producer,
            tasks: tasks.clone(),
            clock: clock.clone(),
        };
        writer
            .blocking(|producer| producer.init_transactions(INIT))
            .await?;
        Ok(writer)
    }

    async fn blocking(
        &self,
        call: impl FnOnce(&ThreadedProducer<Reports>) -> Result<(), KafkaError> + Send + 'static,
    ) -> Result<(), FlowError> {
        let producer = self.producer.clone();
        self.tasks
            .blocking(move || call(&producer))
            .await
            .map_err(FlowError::from)
    }

    pub fn begin(&self) -> Result<(), FlowError> {
        Ok(self.producer.begin_transaction()?)
    }

    /// An error leaves the outcome open: only the committed map tells.
    pub async fn commit(&self) -> Result<(), FlowError> {
        self.blocking(|producer| producer.commit_transaction(END))
            .await
    }

    /// Sends and waits until all are acknowledged. Returns their offsets, in the same order.
    pub async fn write(&self, records: &[Outgoing<'_>]) -> Result<Vec<i64>, FlowError> {
        let reports: &Arc<Reports> = self.producer.context();
        *reports.round.lock() = Round {
            offsets: vec![-1; records.len()],
            left: records.len(),
            failed: None,
        };
        for (place, outgoing) in records.iter().enumerate() {
            self.send(place, outgoing).await?;
        }
        let all = async {
            loop {
                let done = reports.done.notified();
                if reports.round.lock().left == 0 {
                    return;
                }
                done.await;
            }
        };
        self.clock
            .within(DELIVERY, all)
            .await
            .ok_or(FlowError::Undelivered)?;
        let round = std::mem::take(&mut *reports.round.lock());
        match round.failed {
            Some(error) => Err(error.into()),
            None if round.offsets.iter().any(|offset| *offset < 0) => Err(FlowError::Undelivered),
            None => Ok(round.offsets),
        }
    }

    async fn send(&self, place: usize, outgoing: &Outgoing<'_>) -> Result<(), FlowError> {
        let Outgoing {
            topic,
            partition,
            record,
        } = outgoing;
        let mut base = BaseRecord::<[u8], [u8], usize>::with_opaque_to(topic, place)
            .partition(*partition)
            .timestamp(record.timestamp_ms);
        base.key = record.key.as_deref();
        base.payload = record.value.as_deref();
        base.headers = headers::native(&record.headers)?;
        loop {
            match self.producer.send(base) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    base = back
                }
                Err((error, _)) => return Err(error.into()),
            }
            self.clock.sleep(QUEUE_FULL_PAUSE).await;
        }
    }
}
