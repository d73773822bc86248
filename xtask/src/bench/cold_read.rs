//! A topic read from its beginning when all but its active segment are only in the tiered store: a local folder on both sides
//! (LocalTieredStorage there, our folder store here).
//!
//! The systems stand side by side and are read from in turns, so that whatever else the machine does meets them alike. The figure of a
//! system is the median of its turns; each turn stands in the history.

use std::{fs, path::PathBuf, time::Duration};

use super::{
    System, SystemKind,
    kafka::Kafka,
    load::Load,
    process::wait_for,
    table::Table,
    usage::Usage,
    whimbrel::{self, Whimbrel},
};

const TOPIC: &str = "cold";
const SIZE: u64 = 1024;
const DEADLINE: Duration = Duration::from_secs(300);
const SEGMENT: &str = "segment.bytes=67108864";
/// Everything that is closed and uploaded may go.
const KEEP_NOTHING: &str = "local.retention.bytes=1";
const TIERED: &str = "remote.storage.enable=true";

/// One system with its topic in the tiered store.
struct Side {
    kind: SystemKind,
    system: Box<dyn System>,
    /// What serves the reads: brokers, and with us the tiering daemon beside them.
    serving: Vec<u32>,
    /// Every process of the system.
    all: Vec<u32>,
    turns: Vec<Turn>,
}

/// One read of the whole topic.
#[derive(Clone, Copy)]
struct Turn {
    mb_per_s: f64,
    serving_cpu_s: f64,
    all_cpu_s: f64,
}

/// Reads `turns` times from each of `kinds`, one after the other.
pub fn run(
    kinds: &[SystemKind],
    turns: usize,
    load: &Load,
    table: &mut Table,
) -> anyhow::Result<()> {
    let mut sides = Vec::new();
    let mut failed = None;
    for kind in kinds {
        match Side::start(*kind, load) {
            Ok(side) => sides.push(side),
            Err(error) => failed = Some(error.context(format!("{kind:?}"))),
        }
    }
    for _ in 0..turns {
        for side in &mut sides {
            side.read(load)?;
        }
    }
    for side in &sides {
        side.report(load, table);
    }
    drop(sides);
    for kind in kinds {
        let _ = fs::remove_dir_all(folder(*kind, load));
    }
    failed.map_or(Ok(()), Err)
}

fn folder(kind: SystemKind, load: &Load) -> PathBuf {
    load.data.join(format!("cold-{kind:?}"))
}

impl Side {
    fn start(kind: SystemKind, load: &Load) -> anyhow::Result<Self> {
        let folder = folder(kind, load);
        let count = load.count(SIZE);
        let (system, serving, all): (Box<dyn System>, _, _) = if kind == SystemKind::Whimbrel {
            let fleet = Whimbrel::start(load, &folder)?;
            load.create_topic(fleet.bootstrap(), TOPIC, 1, &[SEGMENT, KEEP_NOTHING])?;
            let serving = vec![fleet.pid("broker", "east")?, fleet.pid("tiering", "east")?];
            let all = fleet.pids();
            (Box::new(fleet), serving, all)
        } else {
            let kafka = Kafka::start(load, &folder, &["--tiered"])?;
            load.create_topic(
                kafka.bootstrap(),
                TOPIC,
                1,
                &[TIERED, SEGMENT, KEEP_NOTHING],
            )?;
            let pids = kafka.broker_pids();
            (Box::new(kafka), pids.clone(), pids)
        };
        load.produce(system.bootstrap(), TOPIC, SIZE, count)?;
        // Kafka's deleted files linger for a minute as .deleted; the .log ones are what can still be read.
        let local = if kind == SystemKind::Whimbrel {
            folder.join("east")
        } else {
            folder.join("data")
        };
        wait_for("closed segments to leave the disk", DEADLINE, || {
            Ok(whimbrel::segments(&local, &format!("{TOPIC}-0"))?.1 <= 1)
        })?;
        Ok(Self {
            kind,
            system,
            serving,
            all,
            turns: Vec::new(),
        })
    }

    fn read(&mut self, load: &Load) -> anyhow::Result<()> {
        let (serving, all) = (Usage::of(&self.serving)?, Usage::of(&self.all)?);
        let rate = load.consume(self.system.bootstrap(), TOPIC, load.count(SIZE))?;
        self.turns.push(Turn {
            mb_per_s: rate.mb_per_s,
            serving_cpu_s: Usage::of(&self.serving)?.cpu_since(&serving),
            all_cpu_s: Usage::of(&self.all)?.cpu_since(&all),
        });
        Ok(())
    }

    fn report(&self, load: &Load, table: &mut Table) {
        let median = |of: fn(&Turn) -> f64| {
            let mut values: Vec<f64> = self.turns.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied()
        };
        let gb = load.megabytes as f64 / 1000.0;
        if let Some(rate) = median(|t| t.mb_per_s) {
            table.set("cold read, MB/s", self.kind, rate);
        }
        let serving = "cold read, broker and tiering CPU-s/GB";
        if let Some(cpu) = median(|t| t.serving_cpu_s) {
            table.set_cost(serving, self.kind, cpu / gb);
        }
        if let Some(cpu) = median(|t| t.all_cpu_s) {
            table.set_cost("cold read, CPU-s/GB of all processes", self.kind, cpu / gb);
        }
        for (n, turn) in self.turns.iter().enumerate() {
            let what = format!("cold read, MB/s, turn {}", n + 1);
            table.set(&what, self.kind, turn.mb_per_s);
        }
    }
}
