//! What hostile connections cost a healthy client: its latency at a steady rate, calm and in a storm of them.
//!
//! The storm is a process of its own, of lower priority, so that what it takes is what it makes the broker do. It
//! comes from another address than the healthy client, as limits by address are part of what is measured.

use std::{process::Command, time::Duration};

use anyhow::Context;

use super::{
    SystemKind, latency,
    load::Load,
    open_loop::{self, Shape},
    process::{Running, wait_for},
    start,
    storm_writers::{COMPACTED, CONNECTIONS, written},
    table::Table,
    usage::Usage,
};

const TOPIC: &str = "healthy";
const NICE: &str = "10";

pub fn run(kind: SystemKind, load: &Load, table: &mut Table) -> anyhow::Result<()> {
    let folder = load.data.join("storm");
    let system = start(kind, load, &folder)?;
    let (bootstrap, pids) = (system.bootstrap(), system.broker_pids());
    let shape = Shape {
        partitions: 8,
        messages_per_s: 1_000,
        bytes: 1024,
        batch: 10_000,
        warm_up: Duration::from_secs(load.storm_seconds.div_ceil(4)),
        measured: Duration::from_secs(load.storm_seconds),
        patience: Duration::from_secs(60),
    };
    load.create_topic(bootstrap, TOPIC, shape.partitions, &[])?;
    load.create_topic(bootstrap, COMPACTED, 1, &["cleanup.policy=compact"])?;
    let what = "1,000 x 1 KiB/s over 8 partitions";
    let measure = |weather: &str, table: &mut Table| {
        let before = Usage::of(&pids)?;
        let latencies = open_loop::run(bootstrap, TOPIC, shape)?;
        let used = Usage::of(&pids)?.cpu_since(&before);
        let what = format!("{what}, {weather}");
        latency::note(kind, &what, shape, &latencies, table);
        table.set_cost(&format!("produce {what}, broker CPU-s"), kind, used);
        anyhow::Ok(())
    };
    measure("calm", table)?;

    let log = load.data.join("storm-writers.log");
    let mut command = Command::new("nice");
    command
        .args(["-n", NICE])
        .arg(std::env::current_exe().context("the path of this program")?)
        .args(["storm-writers", bootstrap]);
    let mut writers = Running::start(&mut command, &log)?;
    wait_for("the storm", Duration::from_secs(30), || {
        anyhow::ensure!(!writers.ended(), "the storm ended; see {}", log.display());
        Ok(written(&log)? > 0)
    })?;
    let before = written(&log)?;
    measure(&format!("{CONNECTIONS} hostile connections"), table)?;
    anyhow::ensure!(!writers.ended(), "the storm ended; see {}", log.display());
    let frames = written(&log)?.saturating_sub(before);
    let seconds = (shape.warm_up + shape.measured).as_secs_f64();
    table.set(
        "hostile writes a second meanwhile",
        kind,
        frames as f64 / seconds,
    );
    drop(writers);
    drop(system);
    let _ = std::fs::remove_dir_all(&folder);
    Ok(())
}
