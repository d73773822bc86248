//! Produce latency at a steady rate, acks=all, and the memory the broker needs idle and under that load.

use std::time::Duration;

use super::{
    SystemKind,
    load::Load,
    open_loop::{self, Latencies, Shape},
    single_records, start,
    table::Table,
    usage::{Usage, resident_mb},
};

const EIGHT: Shape = Shape {
    partitions: 8,
    messages_per_s: 15_000,
    bytes: 1024,
    batch: 10_000,
    warm_up: Duration::from_secs(10),
    measured: Duration::from_secs(30),
    patience: Duration::from_secs(60),
};

/// Every record alone: as many requests, and as many files to make durable.
const THOUSAND: Shape = Shape {
    partitions: 1_000,
    messages_per_s: 20_000,
    bytes: 1024,
    batch: 1,
    warm_up: Duration::from_secs(5),
    measured: Duration::from_secs(15),
    patience: Duration::from_secs(60),
};

const TOPIC: &str = "steady";

const SHARES: [(f64, &str); 4] = [(0.5, "p50"), (0.95, "p95"), (0.99, "p99"), (0.999, "p99.9")];

pub fn steady(kind: SystemKind, load: &Load, table: &mut Table) -> anyhow::Result<()> {
    let folder = load.data.join("latency");
    let system = start(kind, load, &folder)?;
    let pids = system.broker_pids();
    table.set_cost("broker memory idle, RSS MB", kind, resident_mb(&pids)?);
    let what = "15,000 x 1 KiB/s over 8 partitions";
    let bootstrap = system.bootstrap();
    load.create_topic(bootstrap, TOPIC, EIGHT.partitions, &[])?;
    note(
        kind,
        what,
        EIGHT,
        &open_loop::run(bootstrap, TOPIC, EIGHT)?,
        table,
    );
    table.set_cost(
        &format!("broker memory at {what}, peak RSS MB"),
        kind,
        Usage::of(&pids)?.rss_peak_mb,
    );
    drop(system);
    let _ = std::fs::remove_dir_all(&folder);
    Ok(())
}

pub fn busy_partitions(kind: SystemKind, load: &Load, table: &mut Table) -> anyhow::Result<()> {
    let folder = load.data.join("busy");
    let system = start(kind, load, &folder)?;
    let what = "20,000 x 1 KiB/s, a batch each, over 1,000 partitions";
    let (bootstrap, pids) = (system.bootstrap(), system.broker_pids());
    load.create_topic(bootstrap, TOPIC, THOUSAND.partitions, &[])?;
    let before = Usage::of(&pids)?;
    let latencies = single_records::run(bootstrap, TOPIC, THOUSAND)?;
    let used = Usage::of(&pids)?.cpu_since(&before);
    note(kind, what, THOUSAND, &latencies, table);
    table.set_cost(&format!("produce {what}, broker CPU-s"), kind, used);
    drop(system);
    let _ = std::fs::remove_dir_all(&folder);
    Ok(())
}

pub fn note(kind: SystemKind, what: &str, shape: Shape, latencies: &Latencies, table: &mut Table) {
    let (acknowledged, lost) = (latencies.acknowledged(), latencies.lost);
    let mb = (acknowledged * shape.bytes) as f64 / 1e6;
    table.set(
        &format!("produce {what}, acknowledged MB/s"),
        kind,
        mb / latencies.took.as_secs_f64(),
    );
    for (share, name) in SHARES {
        let (row, ms) = (format!("produce {what}, {name} ms"), latencies.ms(share));
        if ms.is_finite() {
            table.set_cost(&row, kind, ms);
        } else {
            let asked = acknowledged + lost;
            let why = format!("{lost} of {asked} messages had no answer");
            table.fail(&row, kind, &why);
        }
    }
}
