//! Ten thousand partitions on one broker, within the number of files this process may open: making them, asking for them, memory, and the start
//! after a kill until the first, the middle and the last of them take a record.

use std::time::Duration;

use anyhow::Context;
use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer},
};

use super::{
    SystemKind,
    load::Load,
    process::{now, wait_for},
    start,
    table::Table,
    usage::resident_mb,
};

const TOPIC: &str = "many";
const PARTITIONS: i32 = 10_000;
const DEADLINE: Duration = Duration::from_secs(180);
/// Of the metadata requests whose median is told.
const ASKED: usize = 11;

pub fn run(kind: SystemKind, load: &Load, table: &mut Table) -> anyhow::Result<()> {
    let folder = load.data.join("partitions");
    let mut system = start(kind, load, &folder)?;
    let bootstrap = system.bootstrap().to_owned();
    let begun = now();
    load.create_topic(&bootstrap, TOPIC, PARTITIONS, &[])
        .context("creating 10,000 partitions")?;
    let client = client(&bootstrap)?;
    wait_for("every partition to have a leader", DEADLINE, || {
        Ok(led(&client).unwrap_or(0) == PARTITIONS as usize)
    })?;
    write(&bootstrap)?;
    table.set_cost(
        "10,000 partitions: created, s",
        kind,
        begun.elapsed().as_secs_f64(),
    );
    let mut asked_ms = Vec::new();
    for _ in 0..ASKED {
        let begun = now();
        led(&client)?;
        asked_ms.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    asked_ms.sort_unstable_by(f64::total_cmp);
    table.set_cost(
        "10,000 partitions: metadata of all, ms",
        kind,
        asked_ms[ASKED / 2],
    );
    table.set_cost(
        "10,000 partitions: RSS MB",
        kind,
        resident_mb(&system.broker_pids())?,
    );
    drop(client);
    let begun = now();
    system.kill_and_start(load)?;
    write(&bootstrap)?;
    table.set_cost(
        "10,000 partitions: serving again after kill -9, s",
        kind,
        begun.elapsed().as_secs_f64(),
    );
    drop(system);
    let _ = std::fs::remove_dir_all(&folder);
    Ok(())
}

fn client(bootstrap: &str) -> anyhow::Result<BaseProducer> {
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

/// How many partitions have a leader.
fn led(client: &BaseProducer) -> anyhow::Result<usize> {
    let metadata = client
        .client()
        .fetch_metadata(Some(TOPIC), Duration::from_secs(30))?;
    let topic = metadata.topics().first().context("no topic in metadata")?;
    Ok(topic
        .partitions()
        .iter()
        .filter(|partition| partition.leader() >= 0 && partition.error().is_none())
        .count())
}

/// A record in the first, the middle and the last partition; returns when all are acknowledged.
fn write(bootstrap: &str) -> anyhow::Result<()> {
    let producer = client(bootstrap)?;
    for partition in [0, PARTITIONS / 2, PARTITIONS - 1] {
        let record = BaseRecord::<(), str>::to(TOPIC)
            .partition(partition)
            .payload("here");
        producer.send(record).map_err(|(error, _)| error)?;
    }
    producer.flush(DEADLINE).context("writing to three of them")
}
