//! Ten thousand partitions on one broker, within the number of files this process may open: making them, asking for them, memory, and the start
//! after a kill until the first, the middle and the last of them take a record.

use std::time::Duration;

use anyhow::Context;

use super::{
    SystemKind,
    load::Load,
    probe::{DEADLINE, client, led, write},
    process::{now, wait_for},
    start,
    table::Table,
    usage::{Usage, open_files, resident_mb},
};

const TOPIC: &str = "many";
const PARTITIONS: i32 = 10_000;
/// The first, the middle and the last.
const ASKED_OF: [i32; 3] = [0, PARTITIONS / 2, PARTITIONS - 1];
/// Of the metadata requests whose median is told.
const ASKED: usize = 11;
/// Long enough for whatever a broker does every few seconds.
const IDLE: Duration = Duration::from_secs(15);

pub fn run(kind: SystemKind, load: &Load, table: &mut Table) -> anyhow::Result<()> {
    let folder = load.data.join("partitions");
    let mut system = start(kind, load, &folder)?;
    let bootstrap = system.bootstrap().to_owned();
    let begun = now();
    load.create_topic(&bootstrap, TOPIC, PARTITIONS, &[])
        .context("creating 10,000 partitions")?;
    let client = client(&bootstrap)?;
    wait_for("every partition to have a leader", DEADLINE, || {
        Ok(led(&client, TOPIC).unwrap_or(0) == PARTITIONS as usize)
    })?;
    write(&bootstrap, TOPIC, &ASKED_OF)?;
    table.set_cost(
        "10,000 partitions: created, s",
        kind,
        begun.elapsed().as_secs_f64(),
    );
    let mut asked_ms = Vec::new();
    for _ in 0..ASKED {
        let begun = now();
        led(&client, TOPIC)?;
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
    write(&bootstrap, TOPIC, &ASKED_OF)?;
    table.set_cost(
        "10,000 partitions: serving again after kill -9, s",
        kind,
        begun.elapsed().as_secs_f64(),
    );
    drop(system);
    let _ = std::fs::remove_dir_all(&folder);
    Ok(())
}
