//! Helpers that stay in the tree and are not shipped: `cargo xtask tidy` checks what no compiler checks, `cargo xtask bench` measures us beside
//! Apache Kafka. Both are black boxes on files and processes; of our crates only `wire` is linked, to write bytes that no client writes.

mod bench;
mod tidy;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(about = "Whimbrel's own chores")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Check the rules of the house: file sizes, no plans or machine paths in the tree.
    Tidy,
    /// Measure Whimbrel and Kafka 4.2 side by side; prints one table, appends to benches/history.
    Bench(bench::Options),
    /// The storm of the bench's scenario of that name; runs until it is killed.
    #[command(hide = true)]
    StormWriters { bootstrap: String },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().chore {
        Chore::Tidy => tidy::run(),
        Chore::Bench(options) => bench::run(&options),
        Chore::StormWriters { bootstrap } => bench::storm_writers::run(&bootstrap),
    }
}
