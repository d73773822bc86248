//! Whimbrel and Kafka 4.2 side by side, one after the other (cold reads: in turns) on the same machine in the same run, driven by librdkafka's own load generator.
//!
//! Three columns: Kafka as it comes (acknowledges before the disk has it), Kafka with `flush.messages=1`, and Whimbrel (fsync before ack). The
//! ratio compares the last two, which promise the same. A cell that could not be measured says so; nothing is estimated.

mod cold_read;
mod cold_store;
mod disk;
mod flush;
mod history;
mod kafka;
mod latency;
mod load;
mod mirror_catch_up;
mod open_loop;
mod partitions;
mod probe;
mod process;
mod restart;
mod single_records;
mod storm;
pub mod storm_writers;
mod table;
mod throughput;
mod usage;
mod whimbrel;

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use kafka::Kafka;
use load::Load;
use table::Table;
use whimbrel::Whimbrel;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only these scenarios (default: all).
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Scenario>,
    /// Only these systems (default: all).
    #[arg(long, value_enum, value_delimiter = ',')]
    systems: Vec<SystemKind>,
    /// Bytes of payload each scenario moves, in MB (10^6).
    #[arg(long, default_value_t = 1000)]
    megabytes: u64,
    /// Megabytes of log at the kill of the restart scenario.
    #[arg(long, default_value_t = 10_000)]
    log_megabytes: u64,
    /// Where fetched parts lie, as peers/fetch.sh has it.
    #[arg(long, env = "WHIMBREL_CACHE")]
    cache: Option<PathBuf>,
    /// The release binary (default: target/release/whimbrel).
    #[arg(long, env = "WHIMBREL_BIN")]
    binary: Option<PathBuf>,
    /// Data of the systems under test; removed afterwards. It must be on the disk that is to be measured.
    #[arg(long, default_value = "target/bench")]
    data: PathBuf,
    /// Seconds that the storm scenario measures, calm and in the storm.
    #[arg(long, default_value_t = 20)]
    storm_seconds: u64,
    /// How often each system is read from; the median counts.
    #[arg(long, default_value_t = 3)]
    turns: usize,
    /// A word about this run, kept in the history.
    #[arg(long, default_value = "")]
    note: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Produce and consume 1 KiB and 100 B records, one partition.
    Throughput,
    /// Produce latency at 15,000 messages a second, never waiting for answers; memory idle and under that load.
    Latency,
    /// The same with 1,000 busy partitions and one record a batch.
    Busy,
    /// Produce latency at 1,000 messages a second, calm and among hostile connections.
    Storm,
    /// Ten thousand partitions: making, metadata, memory, start.
    Partitions,
    /// A broker with 10 GB of log is killed and started again.
    Restart,
    /// A mirror that was away catches up.
    Mirror,
    /// Read a topic whose closed segments are only in the tiered store.
    Cold,
    /// The same from MinIO on these cores, the first record at random offsets, and what produce feels of it.
    ColdStore,
    /// The ways to make many small appends durable, on bare files.
    Flush,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SystemKind {
    Kafka,
    KafkaFsync,
    Whimbrel,
}

type Measure = fn(SystemKind, &Load, &mut Table) -> anyhow::Result<()>;

/// What is measured on one system after the other.
const SIDE_BY_SIDE: [(Scenario, Measure); 7] = [
    (Scenario::Throughput, throughput::run),
    (Scenario::Latency, latency::steady),
    (Scenario::Busy, latency::busy_partitions),
    (Scenario::Storm, storm::run),
    (Scenario::Partitions, partitions::run),
    (Scenario::Restart, restart::run),
    (Scenario::Mirror, mirror_catch_up::run),
];

impl Scenario {
    /// Whether syncing before the acknowledgement makes a difference: elsewhere one column of Kafka is enough.
    fn writes(self) -> bool {
        matches!(
            self,
            Self::Throughput | Self::Latency | Self::Busy | Self::Storm
        )
    }
}

/// A started system. Dropping it stops its processes.
trait System {
    /// Where clients connect.
    fn bootstrap(&self) -> &str;
    /// The processes whose CPU time and memory count: brokers.
    fn broker_pids(&self) -> Vec<u32>;
    /// SIGKILL to the broker, and a new one on the same data and port; returns when it has been started, not when it serves.
    fn kill_and_start(&mut self, load: &Load) -> anyhow::Result<()>;
}

/// The broker alone, on an empty folder: of a fleet, without mirror and tiering beside it.
fn start(kind: SystemKind, load: &Load, folder: &Path) -> anyhow::Result<Box<dyn System>> {
    Ok(match kind {
        SystemKind::Kafka => Box::new(Kafka::start(load, folder, &[])?),
        SystemKind::KafkaFsync => Box::new(Kafka::start(load, folder, &["--fsync"])?),
        SystemKind::Whimbrel => {
            let fleet = Whimbrel::start(load, folder)?;
            fleet.without(&["mirror", "tiering"])?;
            Box::new(fleet)
        }
    })
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let load = Load::new(options)?;
    let mut run = Run {
        begun: history::begun()?,
        options,
        table: Table::default(),
    };
    let wants = |scenario| options.only.is_empty() || options.only.contains(&scenario);
    let takes = |kind| options.systems.is_empty() || options.systems.contains(&kind);
    disk::run(&load.data, &mut run.table)?;
    if wants(Scenario::Flush) && takes(SystemKind::Whimbrel) {
        let outcome = flush::run(&load.data, &mut run.table);
        run.record(SystemKind::Whimbrel, Scenario::Flush, outcome)?;
    }
    for kind in SYSTEMS {
        for (scenario, measure) in SIDE_BY_SIDE {
            let differs = kind != SystemKind::KafkaFsync || scenario.writes();
            if takes(kind) && wants(scenario) && differs {
                let outcome = measure(kind, &load, &mut run.table);
                run.record(kind, scenario, outcome)?;
            }
        }
    }
    if wants(Scenario::Cold) {
        let kinds: Vec<_> = [SystemKind::Kafka, SystemKind::Whimbrel]
            .into_iter()
            .filter(|kind| takes(*kind))
            .collect();
        let outcome = cold_read::run(&kinds, options.turns, &load, &mut run.table);
        run.record(SystemKind::Whimbrel, Scenario::Cold, outcome)?;
    }
    if wants(Scenario::ColdStore) && takes(SystemKind::Whimbrel) {
        let outcome = cold_store::run(options.turns, &load, &mut run.table);
        run.record(SystemKind::Whimbrel, Scenario::ColdStore, outcome)?;
    }
    run.table.print();
    run.say_where()
}

const SYSTEMS: [SystemKind; 3] = [
    SystemKind::Kafka,
    SystemKind::KafkaFsync,
    SystemKind::Whimbrel,
];

/// One run of the benchmark and what it has found so far.
struct Run<'a> {
    begun: u64,
    options: &'a Options,
    table: Table,
}

impl Run<'_> {
    /// A scenario that fails leaves its reason in the table; the others still run. What is known is kept after each.
    #[expect(
        clippy::print_stderr,
        reason = "progress of a program that runs for minutes"
    )]
    fn record(
        &mut self,
        kind: SystemKind,
        scenario: Scenario,
        outcome: anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        match outcome {
            Ok(()) => eprintln!("bench: {kind:?} {scenario:?}: done"),
            Err(error) => {
                eprintln!("bench: {kind:?} {scenario:?}: {error:#}");
                let what = format!("{scenario:?}, as a whole");
                self.table.fail(&what, kind, &format!("{error:#}"));
            }
        }
        history::write(self.begun, self.options, &self.table).map(drop)
    }

    #[expect(clippy::print_stdout, reason = "says where the result is")]
    fn say_where(&self) -> anyhow::Result<()> {
        let path = history::write(self.begun, self.options, &self.table)?;
        println!("kept in {path}");
        Ok(())
    }
}
