//! A client that asks whether a system serves: metadata, and one record into each of some partitions.

use std::time::Duration;

use anyhow::Context;
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer},
};

/// Longest wait for an answer.
pub const DEADLINE: Duration = Duration::from_secs(180);

pub fn client(bootstrap: &str) -> anyhow::Result<BaseProducer> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("acks", "all")
        // A start is to be measured, not the pauses of a client that waits for it.
        .set("reconnect.backoff.ms", "20")
        .set("reconnect.backoff.max.ms", "50")
        .set("retry.backoff.ms", "20")
        .set("message.timeout.ms", DEADLINE.as_millis().to_string());
    Ok(config.create()?)
}

/// How many partitions of `topic` have a leader.
pub fn led(client: &BaseProducer, topic: &str) -> anyhow::Result<usize> {
    let metadata = client
        .client()
        .fetch_metadata(Some(topic), Duration::from_secs(30))?;
    let topic = metadata.topics().first().context("no topic in metadata")?;
    Ok(topic
        .partitions()
        .iter()
        .filter(|partition| partition.leader() >= 0 && partition.error().is_none())
        .count())
}

/// A record into each of `partitions`; returns when all are acknowledged.
pub fn write(bootstrap: &str, topic: &str, partitions: &[i32]) -> anyhow::Result<()> {
    let producer = client(bootstrap)?;
    for partition in partitions {
        let record = BaseRecord::<(), str>::to(topic)
            .partition(*partition)
            .payload("here");
        producer.send(record).map_err(|(error, _)| error)?;
    }
    producer
        .flush(DEADLINE)
        .with_context(|| format!("writing to {topic}"))
}
