//! `cargo run -p whimbrel-sim --bin fuzz -- --seconds 60`: see `docs/bad-input.md`.
#![expect(clippy::print_stdout, reason = "what it found is what it is for")]

use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use whimbrel_runtime::{Clock, random};
use whimbrel_sim::fuzz::{Counting, Failure, Fuzzer, targets};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Debug, Parser)]
#[command(about = "Damaged and invented input for decoders")]
struct Arguments {
    /// How long; without a number of inputs.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Ends after so many inputs, however long they take.
    #[arg(long)]
    inputs: Option<u64>,
    /// The same seed and number of inputs give the same inputs. Drawn when not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Only the decoder of this name.
    #[arg(long)]
    only: Option<String>,
    /// Runs one input, in hex as it was printed.
    #[arg(long)]
    replay: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    // Caught panics are told with their input, once.
    std::panic::set_hook(Box::new(|_| {}));
    let mut all = targets::all();
    if let Some(only) = &arguments.only {
        all.retain(|target| target.name == only);
        anyhow::ensure!(!all.is_empty(), "there is no decoder `{only}`");
    }
    let seed = arguments
        .seed
        .unwrap_or_else(|| random::uuid().as_u64_pair().0);
    let mut fuzzer = Fuzzer::new(all, seed);
    if let Some(hex) = &arguments.replay {
        let said = fuzzer.replay(&bytes(hex)?);
        println!("{}", said.map_err(|failure| told(&failure, seed))?);
        return Ok(());
    }
    let clock = Clock::system();
    let until_ms = clock.boot_ms() + arguments.seconds * 1_000;
    let goes_on = |inputs| match arguments.inputs {
        Some(most) => inputs < most,
        None => clock.boot_ms() < until_ms,
    };
    let (mut slowest, mut next_ms) = (Duration::ZERO, clock.boot_ms() + 10_000);
    while goes_on(fuzzer.inputs) {
        let before_ns = clock.boot_ns();
        if let Err(failure) = fuzzer.step() {
            return Err(told(&failure, seed));
        }
        slowest = slowest.max(Duration::from_nanos(clock.boot_ns() - before_ns));
        if clock.boot_ms() >= next_ms {
            next_ms += 10_000;
            println!("{} inputs, {} outcomes", fuzzer.inputs, fuzzer.outcomes());
        }
    }
    println!(
        "seed {seed}: {} inputs, {} outcomes, the slowest took {slowest:?}; nothing broke",
        fuzzer.inputs,
        fuzzer.outcomes()
    );
    Ok(())
}

fn told(failure: &Failure, seed: u64) -> anyhow::Error {
    let hex: String = failure
        .input
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    anyhow::anyhow!(
        "{}: {:?}\nseed {seed}, input {hex}",
        failure.target,
        failure.what
    )
}

fn bytes(hex: &str) -> anyhow::Result<Vec<u8>> {
    if !hex.len().is_multiple_of(2) || !hex.is_ascii() {
        bail!("an input is pairs of hex digits");
    }
    let pair = |at| u8::from_str_radix(&hex[at..at + 2], 16).context("a pair of hex digits");
    (0..hex.len()).step_by(2).map(pair).collect()
}
