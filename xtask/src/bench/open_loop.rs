//! Load at a rate that does not wait for answers: every message has the moment at which it is due, and its latency counts from there, whatever
//! held the client up. librdkafka's own load generator cannot do this: it takes its pause from the end of the last call.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::Context;
use rdkafka::{
    ClientConfig, ClientContext,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext},
};

use super::process::now;

/// What is asked of the system.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub partitions: i32,
    pub messages_per_s: u64,
    pub bytes: usize,
    /// Most messages in a batch.
    pub batch: u32,
    /// Not counted: a JVM compiles, caches fill.
    pub warm_up: Duration,
    pub measured: Duration,
    /// How long to wait for what is still under way at the end.
    pub patience: Duration,
}

/// Latencies of the messages that were due in the measured time, in microseconds, sorted.
#[derive(Debug)]
pub struct Latencies {
    pub sorted_us: Vec<u32>,
    /// Messages without an acknowledgement when patience ended, or refused.
    pub lost: usize,
    /// From the end of the warm-up to the last answer, or to the end of patience.
    pub took: Duration,
}

impl Latencies {
    pub fn acknowledged(&self) -> usize {
        self.sorted_us.len()
    }

    /// The latency in milliseconds that this share of all messages did not exceed. A message that was lost exceeded every one.
    pub fn ms(&self, share: f64) -> f64 {
        let all = self.sorted_us.len() + self.lost;
        let index = ((all as f64 * share).ceil() as usize).saturating_sub(1);
        self.sorted_us
            .get(index)
            .map_or(f64::INFINITY, |us| f64::from(*us) / 1000.0)
    }
}

/// Notes each delivery; the opaque value of a message is when it was due, in microseconds since the start.
struct Reports {
    start: Instant,
    counted_from_us: usize,
    latencies_us: Mutex<Vec<u32>>,
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, due_us: usize) {
        let took_us = self.start.elapsed().as_micros() as usize - due_us;
        if due_us >= self.counted_from_us
            && result.is_ok()
            && let Ok(mut latencies) = self.latencies_us.lock()
        {
            latencies.push(u32::try_from(took_us).unwrap_or(u32::MAX));
        }
    }
}

/// How often messages that have become due are handed over.
const TICK: Duration = Duration::from_millis(1);

pub fn run(bootstrap: &str, topic: &str, shape: Shape) -> anyhow::Result<Latencies> {
    let reports = Reports {
        start: now(),
        counted_from_us: shape.warm_up.as_micros() as usize,
        latencies_us: Mutex::new(Vec::new()),
    };
    let start = reports.start;
    let producer: BaseProducer<Reports> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("acks", "all")
        .set("linger.ms", "1")
        .set("batch.num.messages", shape.batch.to_string())
        .set("queue.buffering.max.messages", "2000000")
        .set("queue.buffering.max.kbytes", "2097151")
        .create_with_context(reports)?;
    let payload = vec![b'x'; shape.bytes];
    let all = shape.warm_up + shape.measured;
    let count = |span: Duration| (span.as_secs_f64() * shape.messages_per_s as f64) as u64;
    let total = count(all);
    let mut sent = 0;
    while sent < total {
        let due = count(start.elapsed()).min(total);
        while sent < due {
            let due_us = (sent * 1_000_000 / shape.messages_per_s) as usize;
            let partition = i32::try_from(sent % u64::try_from(shape.partitions)?)?;
            let record = BaseRecord::<(), [u8], usize>::with_opaque_to(topic, due_us)
                .partition(partition)
                .payload(&payload);
            match producer.send(record) {
                Ok(()) => sent += 1,
                // The client's queue holds minutes of this load; a system this far behind is measured by what it leaves unanswered.
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    producer.poll(TICK);
                }
                Err((error, _)) => return Err(error).context("sending"),
            }
        }
        producer.poll(TICK);
    }
    // Else dropping the producer would wait for what is left.
    if producer.flush(shape.patience).is_err() {
        producer.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
    }
    let wanted = usize::try_from(total - count(shape.warm_up))?;
    let mut sorted_us = match producer.context().latencies_us.lock() {
        Ok(mut latencies) => std::mem::take(&mut *latencies),
        Err(_) => anyhow::bail!("a delivery report panicked"),
    };
    sorted_us.sort_unstable();
    Ok(Latencies {
        lost: wanted.saturating_sub(sorted_us.len()),
        sorted_us,
        took: start.elapsed().saturating_sub(shape.warm_up),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_smallest_latency_that_covers_the_share() {
        let mut latencies = Latencies {
            sorted_us: (1..=1000).map(|ms| ms * 1000).collect(),
            lost: 0,
            took: Duration::from_secs(1),
        };
        assert_eq!(latencies.ms(0.5), 500.0);
        assert_eq!(latencies.ms(0.999), 999.0);
        assert_eq!(latencies.ms(1.0), 1000.0);
        latencies.lost = 1000;
        assert_eq!(latencies.ms(0.5), 1000.0);
        assert_eq!(latencies.ms(0.51), f64::INFINITY);
    }
}
