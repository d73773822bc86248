//! The real clients of the tour: one producer and one group consumer that live through everything, and
//! plain consumers for reading back.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, ClientContext, Message, Offset, TopicPartitionList,
    consumer::{Consumer, StreamConsumer},
    error::KafkaError,
    message::DeliveryResult,
    producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode,
};
use whimbrel_runtime::Clock;

use super::{GROUP, PARTITIONS, PATIENCE, TOPIC, TourError};

/// What the cluster answered for one record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    pub acked_at_ms: u64,
}

/// Delivery reports by record number.
#[derive(Clone, Default)]
pub(crate) struct Deliveries(Arc<Mutex<Reports>>);

#[derive(Default)]
struct Reports {
    acked: BTreeMap<u64, Delivery>,
    failed: BTreeMap<u64, String>,
}

impl Deliveries {
    pub fn acked(&self) -> BTreeMap<u64, Delivery> {
        self.0.lock().acked.clone()
    }

    pub fn count(&self) -> u64 {
        self.0.lock().acked.len() as u64
    }

    pub fn first_failure(&self) -> Option<String> {
        self.0
            .lock()
            .failed
            .iter()
            .next()
            .map(|(record, error)| format!("record {record}: {error}"))
    }
}

pub(crate) struct Reporter {
    deliveries: Deliveries,
    clock: Clock,
}

impl ClientContext for Reporter {}

impl ProducerContext for Reporter {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, record: Box<u64>) {
        let mut reports = self.deliveries.0.lock();
        match result {
            Ok(_) => {
                reports.acked.insert(
                    *record,
                    Delivery {
                        acked_at_ms: self.clock.boot_ms(),
                    },
                );
            }
            Err((error, _)) => {
                reports.failed.insert(*record, error.to_string());
            }
        }
    }
}

pub(crate) struct Clients {
    bootstrap: String,
    pub producer: Arc<ThreadedProducer<Reporter>>,
    pub deliveries: Deliveries,
    pub group: StreamConsumer,
}

impl Clients {
    pub fn new(bootstrap: &str, clock: &Clock) -> Result<Self, KafkaError> {
        let deliveries = Deliveries::default();
        let reporter = Reporter {
            deliveries: deliveries.clone(),
            clock: clock.clone(),
        };
        let producer = base(bootstrap)
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            // The Java client's default; librdkafka's of 1 MB would put the whole input into three batches.
            .set("batch.size", "16384")
            .set("queue.buffering.max.messages", "500000")
            .create_with_context(reporter)?;
        let group: StreamConsumer = base(bootstrap)
            .set("group.id", GROUP)
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("session.timeout.ms", "10000")
            .create()?;
        Ok(Self {
            bootstrap: bootstrap.to_owned(),
            producer: Arc::new(producer),
            deliveries,
            group,
        })
    }

    /// Queues one record; waits while the client's queue is full.
    pub async fn send(
        producer: &ThreadedProducer<Reporter>,
        clock: &Clock,
        number: u64,
        value: &[u8],
    ) -> Result<(), TourError> {
        let partition = i32::try_from(number % u64::try_from(PARTITIONS).unwrap_or(1)).unwrap_or(0);
        let mut record = BaseRecord::<(), [u8], Box<u64>>::with_opaque_to(TOPIC, Box::new(number))
            .payload(value)
            .partition(partition);
        loop {
            match producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    clock.sleep(Duration::from_millis(5)).await;
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }

    pub fn flush(&self) -> Result<(), TourError> {
        Ok(self.producer.flush(PATIENCE)?)
    }

    /// Reads every partition from `from` (inclusive) up to `to` (exclusive) with a consumer of its own.
    pub async fn read(
        &self,
        from: &[i64],
        to: &[i64],
        mut each: impl FnMut(i32, i64, &[u8]),
    ) -> Result<(), TourError> {
        let consumer: StreamConsumer = base(&self.bootstrap)
            .set("group.id", "tour-plain")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .create()?;
        let mut wanted: BTreeMap<i32, i64> = BTreeMap::new();
        let mut assignment = TopicPartitionList::new();
        for (partition, (begin, end)) in (0..PARTITIONS).zip(from.iter().zip(to)) {
            if begin < end {
                wanted.insert(partition, *end);
                assignment.add_partition_offset(TOPIC, partition, Offset::Offset(*begin))?;
            }
        }
        consumer.assign(&assignment)?;
        while !wanted.is_empty() {
            let message = next(&consumer).await?;
            let Some(end) = wanted.get(&message.partition) else {
                continue;
            };
            if message.offset < *end {
                each(message.partition, message.offset, &message.value);
            }
            if message.offset + 1 >= *end {
                wanted.remove(&message.partition);
            }
        }
        Ok(())
    }

    /// End offsets as any client sees them.
    pub async fn ends(&self) -> Result<Vec<i64>, TourError> {
        let consumer: StreamConsumer = base(&self.bootstrap)
            .set("group.id", "tour-plain")
            .create()?;
        let ends = tokio::task::spawn_blocking(move || {
            (0..PARTITIONS)
                .map(|p| {
                    consumer
                        .fetch_watermarks(TOPIC, p, PATIENCE)
                        .map(|(_, high)| high)
                })
                .collect::<Result<Vec<_>, _>>()
        });
        Ok(ends.await.map_err(|e| TourError::Wrong(e.to_string()))??)
    }
}

/// One record as read.
pub(crate) struct Read {
    pub partition: i32,
    pub offset: i64,
    pub value: Bytes,
}

/// The next record; errors that a client retries by itself are waited out.
pub(crate) async fn next(consumer: &StreamConsumer) -> Result<Read, TourError> {
    let mut last = "nothing".to_owned();
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            match consumer.recv().await {
                Ok(m) => {
                    return Ok(Read {
                        partition: m.partition(),
                        offset: m.offset(),
                        value: Bytes::copy_from_slice(m.payload().unwrap_or_default()),
                    });
                }
                Err(error) if is_passing(&error) => last = error.to_string(),
                Err(error) => return Err(TourError::Kafka(error)),
            }
        }
    })
    .await;
    waited.unwrap_or(Err(TourError::Waited {
        what: "a record".to_owned(),
        seconds: PATIENCE.as_secs(),
        seen: last,
    }))
}

/// Errors that librdkafka reports for information and recovers from.
fn is_passing(error: &KafkaError) -> bool {
    let Some(code) = error.rdkafka_error_code() else {
        return false;
    };
    !matches!(
        code,
        RDKafkaErrorCode::Fatal
            | RDKafkaErrorCode::AutoOffsetReset
            | RDKafkaErrorCode::OffsetOutOfRange
            | RDKafkaErrorCode::TopicAuthorizationFailed
    )
}

fn base(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("log_level", "0");
    config
}
