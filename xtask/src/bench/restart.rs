//! A broker that is killed with gigabytes of log: how long until it takes a record into every partition again.
//!
//! The kill falls on a producer at full speed, so that what no checkpoint covers yet is as much as it can be.

use std::{fs, thread, time::Duration};

use super::{
    SystemKind,
    load::Load,
    probe::write,
    process::{now, wait_for},
    start,
    table::Table,
    whimbrel::segments,
};

const TOPIC: &str = "restart";
const PARTITIONS: i32 = 8;
const SIZE: u64 = 1024;
/// More than is needed: the producer never ends by itself.
const ASKED_MB: u64 = 1_000_000;
const DEADLINE: Duration = Duration::from_secs(900);
const BETWEEN_LOOKS: Duration = Duration::from_millis(300);
const AFTER_THE_KILL: Duration = Duration::from_millis(100);

pub fn run(kind: SystemKind, load: &Load, table: &mut Table) -> anyhow::Result<()> {
    let folder = load.data.join("restart");
    let mut system = start(kind, load, &folder)?;
    let bootstrap = system.bootstrap().to_owned();
    load.create_topic(&bootstrap, TOPIC, PARTITIONS, &[])?;
    let mut producer = load.producing(&bootstrap, TOPIC, SIZE, ASKED_MB * 1_000_000 / SIZE)?;
    let mut held = 0;
    wait_for("the log to grow", DEADLINE, || {
        thread::sleep(BETWEEN_LOOKS);
        held = log_bytes(kind, &folder)?;
        Ok(held >= load.log_megabytes * 1_000_000 || producer.ended())
    })?;
    anyhow::ensure!(!producer.ended(), "the producer ended early");
    let begun = now();
    let started = thread::scope(|scope| {
        // Its messages must not be in the way of the ones that are waited for.
        scope.spawn(|| {
            thread::sleep(AFTER_THE_KILL);
            drop(producer);
        });
        system.kill_and_start(load)
    });
    started?;
    let all: Vec<_> = (0..PARTITIONS)
        .map(|partition| (TOPIC, partition))
        .collect();
    write(&bootstrap, &all)?;
    table.set_cost(
        "restart after kill -9: all partitions serve, s",
        kind,
        begun.elapsed().as_secs_f64(),
    );
    table.set(
        "restart after kill -9: log at the kill, MB",
        kind,
        held as f64 / 1e6,
    );
    drop(system);
    let _ = fs::remove_dir_all(&folder);
    Ok(())
}

/// Bytes in the topic's `.log` files.
fn log_bytes(kind: SystemKind, folder: &std::path::Path) -> anyhow::Result<u64> {
    let data = if kind == SystemKind::Whimbrel {
        folder.join("east")
    } else {
        folder.join("data")
    };
    let mut sum = 0;
    for partition in 0..PARTITIONS {
        sum += segments(&data, &format!("{TOPIC}-{partition}"))?.0;
    }
    Ok(sum)
}
