//! A mirror that was away while a topic grew: how fast it catches up, from its start to the last byte. Kafka's column is MirrorMaker 2, tuned as
//! its documentation advises (1 MB batches, linger, larger fetches), from its first copied record on, because its start takes ten seconds.

use std::{fs, time::Duration};

use super::{
    System, SystemKind,
    kafka::Kafka,
    load::Load,
    process::{Running, now, wait_for},
    table::Table,
    usage::Usage,
    whimbrel::Whimbrel,
};

const TOPIC: &str = "catch-up";
const SIZE: u64 = 1024;
const DEADLINE: Duration = Duration::from_secs(300);

pub fn run(kind: SystemKind, load: &Load, table: &mut Table) -> anyhow::Result<()> {
    match kind {
        SystemKind::Whimbrel => replica_stream(kind, load, table),
        SystemKind::Kafka | SystemKind::KafkaFsync => mirror_maker(kind, load, table),
    }
}

/// Notes rate and cost of a copy that took so long.
fn note(kind: SystemKind, table: &mut Table, seconds: f64, megabytes: f64, cpu_s: f64) {
    table.set("mirror catch-up, MB/s", kind, megabytes / seconds);
    table.set_cost(
        "mirror catch-up, CPU-s/GB of mirror and target",
        kind,
        cpu_s / (megabytes / 1000.0),
    );
}

fn replica_stream(kind: SystemKind, load: &Load, table: &mut Table) -> anyhow::Result<()> {
    let folder = load.data.join("mirror");
    let mut fleet = Whimbrel::start(load, &folder)?;
    fleet.without(&["mirror", "tiering"])?;
    let bootstrap = fleet.bootstrap().to_owned();
    load.create_topic(&bootstrap, TOPIC, 1, &[])?;
    load.produce(&bootstrap, TOPIC, SIZE, load.count(SIZE))?;
    let (wanted, _) = fleet.local_segments("east", TOPIC)?;
    // What crossed before the mirror was killed does not count.
    let (held, _) = fleet.local_segments("west", TOPIC)?;

    let target = fleet.pid("broker", "west")?;
    let before = Usage::of(&[target])?;
    let start = now();
    let mirror = fleet.restart("mirror", "west")?;
    // Offsets and bytes are equal in both regions, so equal files are the whole copy.
    wait_for("west to hold what east holds", DEADLINE, || {
        Ok(fleet.local_segments("west", TOPIC)?.0 >= wanted)
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let used = Usage::of(&[target])?.cpu_since(&before) + Usage::of(&[mirror])?.cpu_s;
    note(kind, table, seconds, (wanted - held) as f64 / 1e6, used);
    drop(fleet);
    let _ = fs::remove_dir_all(&folder);
    Ok(())
}

fn mirror_maker(kind: SystemKind, load: &Load, table: &mut Table) -> anyhow::Result<()> {
    let folder = load.data.join("mirror");
    let source = Kafka::start(load, &folder.join("source"), &[])?;
    let target = Kafka::start(load, &folder.join("target"), &[])?;
    load.create_topic(source.bootstrap(), TOPIC, 1, &[])?;
    load.produce(source.bootstrap(), TOPIC, SIZE, load.count(SIZE))?;

    let config = folder.join("mm2.properties");
    let properties = [
        "clusters=a,b".to_owned(),
        format!("a.bootstrap.servers={}", source.bootstrap()),
        format!("b.bootstrap.servers={}", target.bootstrap()),
        "a->b.enabled=true".into(),
        format!("a->b.topics={TOPIC}"),
        "b->a.enabled=false".into(),
        "replication.factor=1".into(),
        "checkpoints.topic.replication.factor=1".into(),
        "heartbeats.topic.replication.factor=1".into(),
        "offset-syncs.topic.replication.factor=1".into(),
        "config.storage.replication.factor=1".into(),
        "offset.storage.replication.factor=1".into(),
        "status.storage.replication.factor=1".into(),
        "b.producer.batch.size=1000000".into(),
        "b.producer.linger.ms=20".into(),
        "b.producer.buffer.memory=134217728".into(),
        "a.consumer.max.poll.records=10000".into(),
        "a.consumer.max.partition.fetch.bytes=8388608".into(),
        "a.consumer.fetch.max.bytes=67108864".into(),
    ];
    fs::write(&config, properties.join("\n"))?;
    let mut command = load.java("org.apache.kafka.connect.mirror.MirrorMaker");
    let mirror = Running::start(command.arg(&config), &folder.join("mm2.log"))?;
    let copy = format!("a.{TOPIC}");
    Load::wait_for_end(target.bootstrap(), &copy, 1, DEADLINE)?;
    let before = Usage::of(&[target.broker_pids()[0], mirror.id()])?;
    let first = Load::end_offset(target.bootstrap(), &copy)?;
    let start = now();
    Load::wait_for_end(target.bootstrap(), &copy, load.count(SIZE), DEADLINE)?;
    let seconds = start.elapsed().as_secs_f64();
    let used = Usage::of(&[target.broker_pids()[0], mirror.id()])?.cpu_since(&before);
    note(
        kind,
        table,
        seconds,
        ((load.count(SIZE) - first) * SIZE) as f64 / 1e6,
        used,
    );
    drop((mirror, source, target));
    let _ = fs::remove_dir_all(&folder);
    Ok(())
}
