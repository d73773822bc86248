//! A client that asks whether a system serves: metadata, and one record into each of some partitions.

use std::time::Duration;

use anyhow::Context;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
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

/// Makes topics one after the other, without the start of a JVM for each.
pub fn create(bootstrap: &str, topics: &[&str], partitions: i32) -> anyhow::Result<()> {
    let admin: AdminClient<_> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .create()?;
    let options = AdminOptions::new().operation_timeout(Some(DEADLINE));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    for topic in topics {
        let wanted = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let made = runtime.block_on(admin.create_topics([&wanted], &options))?;
        for one in made {
            one.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
        }
    }
    Ok(())
}

/// How many partitions of topics whose names begin so have a leader; asks for everything there is.
pub fn led(client: &BaseProducer, prefix: &str) -> anyhow::Result<usize> {
    let metadata = client
        .client()
        .fetch_metadata(None, Duration::from_secs(30))?;
    Ok(metadata
        .topics()
        .iter()
        .filter(|topic| topic.name().starts_with(prefix))
        .flat_map(|topic| topic.partitions())
        .filter(|partition| partition.leader() >= 0 && partition.error().is_none())
        .count())
}

/// A record into each of these partitions; returns when all are acknowledged.
pub fn write(bootstrap: &str, partitions: &[(&str, i32)]) -> anyhow::Result<()> {
    let producer = client(bootstrap)?;
    for (topic, partition) in partitions {
        let record = BaseRecord::<(), str>::to(topic)
            .partition(*partition)
            .payload("here");
        producer.send(record).map_err(|(error, _)| error)?;
    }
    producer
        .flush(DEADLINE)
        .with_context(|| format!("writing to {partitions:?}"))
}
