//! An idempotent producer at a steady rate, which nothing but its own client library helps through a fault.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    ClientContext, Message,
    error::KafkaError,
    message::DeliveryResult,
    producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode,
};
use tokio::task::JoinSet;
use whimbrel_runtime::{Clock, Shutdown};

use super::{PATIENCE, Target, WorkloadError, encode};
use crate::history::{Key, Outcome, Recorder, Send, Value};

/// A write on its way.
struct InFlight {
    key: Key,
    value: Value,
    invoked_ns: u64,
}

struct Reporter {
    process: String,
    recorder: Recorder,
}

impl ClientContext for Reporter {}

impl ProducerContext for Reporter {
    type DeliveryOpaque = Box<InFlight>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Box<InFlight>) {
        let outcome = match result {
            Ok(message) => Outcome::Acked {
                offset: message.offset(),
            },
            Err((error, _)) => judge(error),
        };
        self.recorder.send(Send {
            process: self.process.clone(),
            region: None,
            key: sent.key,
            value: sent.value,
            invoked_ns: sent.invoked_ns,
            completed_ns: self.recorder.now_ns(),
            outcome,
        });
    }
}

/// Certain only where the cluster refused the record itself.
fn judge(error: &KafkaError) -> Outcome {
    let why = error.to_string();
    match error.rdkafka_error_code() {
        Some(
            RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::InvalidTopic
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::InvalidRecord,
        ) => Outcome::Refused { why },
        _ => Outcome::Unknown { why },
    }
}

/// Writes until it is stopped.
pub struct Writer {
    producer: Arc<ThreadedProducer<Reporter>>,
    stop: Shutdown,
    work: JoinSet<Result<u64, WorkloadError>>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Writer")
    }
}

impl Writer {
    /// `rate` records a second, round robin over the partitions.
    pub fn start(
        target: &Target,
        name: &str,
        rate: u32,
        recorder: &Recorder,
        clock: &Clock,
    ) -> Result<Self, WorkloadError> {
        let reporter = Reporter {
            process: name.to_owned(),
            recorder: recorder.clone(),
        };
        let producer: Arc<ThreadedProducer<Reporter>> = Arc::new(
            target
                .config()
                .set("enable.idempotence", "true")
                .set("linger.ms", "2")
                .set("queue.buffering.max.messages", "500000")
                .create_with_context(reporter)?,
        );
        let stop = Shutdown::new();
        let mut work = JoinSet::new();
        work.spawn(write(
            producer.clone(),
            target.clone(),
            rate,
            recorder.clone(),
            clock.clone(),
            stop.clone(),
        ));
        Ok(Self {
            producer,
            stop,
            work,
        })
    }

    /// Stops writing and waits until every record has an outcome; answers how many were written.
    pub async fn stop(mut self) -> Result<u64, WorkloadError> {
        self.stop.request();
        let mut written = 0;
        while let Some(ended) = self.work.join_next().await {
            written += ended??;
        }
        let producer = self.producer.clone();
        tokio::task::spawn_blocking(move || producer.flush(PATIENCE)).await??;
        Ok(written)
    }
}

async fn write(
    producer: Arc<ThreadedProducer<Reporter>>,
    target: Target,
    rate: u32,
    recorder: Recorder,
    clock: Clock,
    stop: Shutdown,
) -> Result<u64, WorkloadError> {
    const EVERY: Duration = Duration::from_millis(10);
    let burst = (rate / 100).max(1);
    let mut written = 0_u64;
    while !stop.requested() {
        for _ in 0..burst {
            let partition =
                i32::try_from(written % u64::from(target.partitions.unsigned_abs().max(1)))
                    .unwrap_or(0);
            let sent = InFlight {
                key: target.key(partition),
                value: recorder.next_value(),
                invoked_ns: recorder.now_ns(),
            };
            queue(&producer, &target, &clock, sent).await?;
            written += 1;
        }
        clock.sleep(EVERY).await;
    }
    Ok(written)
}

async fn queue(
    producer: &ThreadedProducer<Reporter>,
    target: &Target,
    clock: &Clock,
    sent: InFlight,
) -> Result<(), WorkloadError> {
    let (partition, payload) = (sent.key.partition, encode(sent.value));
    let mut record =
        BaseRecord::<(), str, Box<InFlight>>::with_opaque_to(&target.topic, Box::new(sent))
            .payload(&payload)
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
