//! Produce and consume, one partition, acks=all, no compression; the broker alone, without mirror and tiering beside it. A topic is read
//! several times, and the median counts.

use super::{
    SystemKind,
    load::{Load, Rate},
    start,
    table::Table,
    usage::Usage,
};

/// Payload that warms a JVM's compiler, and our caches for fairness.
const WARM_UP_MESSAGES: u64 = 200_000;

pub fn run(kind: SystemKind, load: &Load, table: &mut Table) -> anyhow::Result<()> {
    let folder = load.data.join("throughput");
    let system = start(kind, load, &folder)?;
    let bootstrap = system.bootstrap();
    load.create_topic(bootstrap, "warm", 1, &[])?;
    load.produce(bootstrap, "warm", 1024, WARM_UP_MESSAGES)?;
    load.consume(bootstrap, "warm", WARM_UP_MESSAGES)?;

    for size in [1024, 100] {
        let topic = format!("size-{size}");
        let count = load.count(size);
        load.create_topic(bootstrap, &topic, 1, &[])?;
        let mut measure = |what: &str,
                           turns: usize,
                           work: &dyn Fn() -> anyhow::Result<Rate>|
         -> anyhow::Result<()> {
            let before = Usage::of(&system.broker_pids())?;
            let client = Usage::of_clients()?;
            let mut rates = Vec::new();
            for _ in 0..turns {
                rates.push(work()?);
            }
            let used = Usage::of(&system.broker_pids())?.cpu_since(&before);
            let client = Usage::of_clients()? - client;
            let gb = load.megabytes as f64 / 1000.0 * turns as f64;
            rates.sort_by(|a, b| a.mb_per_s.total_cmp(&b.mb_per_s));
            let rate = rates[turns / 2];
            table.set(&format!("{what} {size} B, MB/s"), kind, rate.mb_per_s);
            table.set(
                &format!("{what} {size} B, thousand messages/s"),
                kind,
                rate.messages_per_s / 1000.0,
            );
            table.set_cost(
                &format!("{what} {size} B, broker CPU-s/GB"),
                kind,
                used / gb,
            );
            // Where client and broker together keep every CPU busy, the client is the limit.
            table.set_cost(
                &format!("{what} {size} B, client CPU-s/GB"),
                kind,
                client / gb,
            );
            Ok(())
        };
        let produce = || load.produce(bootstrap, &topic, size, count);
        measure("produce", 1, &produce)?;
        let consume = || load.consume(bootstrap, &topic, count);
        measure("consume", load.turns, &consume)?;
    }
    table.set_cost(
        "broker memory, peak RSS MB",
        kind,
        Usage::of(&system.broker_pids())?.rss_peak_mb,
    );
    drop(system);
    let _ = std::fs::remove_dir_all(&folder);
    Ok(())
}
