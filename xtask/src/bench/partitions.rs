//! Ten thousand partitions on one broker, within the number of files this process may open: making them, asking for them, memory, and the start
//! after a kill until the first, the middle and the last of them take a record.

use std::time::Duration;

use anyhow::Context;

use super::{
    SystemKind,
    load::Load,
    probe::{DEADLINE, client, create, led, write},
    process::{now, wait_for},
    start,
    table::Table,
    usage::{Usage, open_files, resident_mb},
};

/// Kafka refuses one topic of 10,000 ("excessively large batch operation").
const TOPICS: [&str; 10] = [
    "many-0", "many-1", "many-2", "many-3", "many-4", "many-5", "many-6", "many-7", "many-8",
    "many-9",
];
const PARTITIONS_OF_EACH: i32 = 1_000;
const PARTITIONS: usize = TOPICS.len() * PARTITIONS_OF_EACH as usize;
/// The first, one in the middle and the last.
const ASKED_OF: [(&str, i32); 3] = [
    (TOPICS[0], 0),
    (TOPICS[5], PARTITIONS_OF_EACH / 2),
    (TOPICS[9], PARTITIONS_OF_EACH - 1),
];
/// Of the metadata requests whose median is told.
const ASKED: usize = 11;
/// Long enough for whatever a broker does every few seconds.
const IDLE: Duration = Duration::from_secs(15);

pub fn run(kind: SystemKind, load: &Load, table: &mut Table) -> anyhow::Result<()> {
    let folder = load.data.join("partitions");
    let mut system = start(kind, load, &folder)?;
    let bootstrap = system.bootstrap().to_owned();
    let begun = now();
    create(&bootstrap, &TOPICS, PARTITIONS_OF_EACH).context("creating 10,000 partitions")?;
    let client = client(&bootstrap)?;
    wait_for("every partition to have a leader", DEADLINE, || {
        Ok(led(&client, "many-").unwrap_or(0) == PARTITIONS)
    })?;
    write(&bootstrap, &ASKED_OF)?;
    table.set_cost(
        "10,000 partitions: created, s",
        kind,
        begun.elapsed().as_secs_f64(),
    );
    let mut asked_ms = Vec::new();
    for _ in 0..ASKED {
        let begun = now();
        led(&client, "many-")?;
        asked_ms.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    asked_ms.sort_unstable_by(f64::total_cmp);
    table.set_cost(
        "10,000 partitions: metadata of all, ms",
        kind,
        asked_ms[ASKED / 2],
    );
    let pids = system.broker_pids();
    table.set_cost("10,000 partitions: RSS MB", kind, resident_mb(&pids)?);
    table.set_cost(
        "10,000 partitions: open files",
        kind,
        open_files(&pids)? as f64,
    );
    let before = Usage::of(&pids)?;
    std::thread::sleep(IDLE);
    let used = Usage::of(&pids)?.cpu_since(&before);
    table.set_cost(
        "10,000 partitions: CPU idle, % of one",
        kind,
        100.0 * used / IDLE.as_secs_f64(),
    );
    drop(client);
    let begun = now();
    system.kill_and_start(load)?;
    write(&bootstrap, &ASKED_OF)?;
    table.set_cost(
        "10,000 partitions: serving again after kill -9, s",
        kind,
        begun.elapsed().as_secs_f64(),
    );
    drop(system);
    let _ = std::fs::remove_dir_all(&folder);
    Ok(())
}
