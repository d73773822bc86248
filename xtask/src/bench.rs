//! Whimbrel and Kafka 4.2 side by side, one after the other (cold reads: in turns) on the same machine in the same run, driven by librdkafka's own load generator.
//!
//! Three columns: Kafka as it comes (acknowledges before the disk has it), Kafka with `flush.messages=1`, and Whimbrel (fsync before ack). The
//! ratio compares the last two, which promise the same. A cell that could not be measured says so; nothing is estimated.

mod cold_read;
mod history;
mod kafka;
mod load;
mod mirror_catch_up;
mod process;
mod table;
mod throughput;
mod usage;
mod whimbrel;

use std::path::PathBuf;

use clap::ValueEnum;

use load::Load;
use table::Table;

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
    /// Where fetched parts lie, as peers/fetch.sh has it.
    #[arg(long, env = "WHIMBREL_CACHE")]
    cache: Option<PathBuf>,
    /// The release binary (default: target/release/whimbrel).
    #[arg(long, env = "WHIMBREL_BIN")]
    binary: Option<PathBuf>,
    /// Data of the systems under test; removed afterwards. It must be on the disk that is to be measured.
    #[arg(long, default_value = "target/bench")]
    data: PathBuf,
    /// How often each system is read from, in turns, where turns are taken.
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
    /// A mirror that was away catches up.
    Mirror,
    /// Read a topic whose closed segments are only in the tiered store.
    Cold,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SystemKind {
    Kafka,
    KafkaFsync,
    Whimbrel,
}

/// A started system. Dropping it stops its processes.
trait System {
    /// Where clients connect.
    fn bootstrap(&self) -> &str;
    /// The processes whose CPU time and memory count: brokers.
    fn broker_pids(&self) -> Vec<u32>;
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    let load = Load::new(options)?;
    let mut table = Table::default();
    let wants = |scenario| options.only.is_empty() || options.only.contains(&scenario);
    for kind in [
        SystemKind::Kafka,
        SystemKind::KafkaFsync,
        SystemKind::Whimbrel,
    ] {
        if !options.systems.is_empty() && !options.systems.contains(&kind) {
            continue;
        }
        if wants(Scenario::Throughput) {
            record(
                &format!("{kind:?} throughput"),
                throughput::run(kind, &load, &mut table),
            );
        }
        // With fsync or without is no question when reading: one Kafka column is enough.
        if kind == SystemKind::KafkaFsync {
            continue;
        }
        if wants(Scenario::Mirror) {
            record(
                &format!("{kind:?} mirror"),
                mirror_catch_up::run(kind, &load, &mut table),
            );
        }
    }
    if wants(Scenario::Cold) {
        let kinds: Vec<_> = [SystemKind::Kafka, SystemKind::Whimbrel]
            .into_iter()
            .filter(|kind| options.systems.is_empty() || options.systems.contains(kind))
            .collect();
        let outcome = cold_read::run(&kinds, options.turns, &load, &mut table);
        record("cold read", outcome);
    }
    table.print();
    history::write(options, &table)
}

/// A scenario that fails leaves its cells empty and its reason on standard error; the others still run.
#[expect(
    clippy::print_stderr,
    reason = "progress of a program that runs for minutes"
)]
fn record(scenario: &str, outcome: anyhow::Result<()>) {
    match outcome {
        Ok(()) => eprintln!("bench: {scenario}: done"),
        Err(error) => eprintln!("bench: {scenario}: {error:#}"),
    }
}
