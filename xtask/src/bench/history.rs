//! What was measured, when, on what: one JSON file a run in `benches/history/`, to be committed with the change it speaks for.

use std::{fs, process::Command, time::UNIX_EPOCH};

use serde::Serialize;

use super::{
    Options,
    process::output,
    table::{Row, Table},
};

const FOLDER: &str = "benches/history";

#[derive(Serialize)]
struct Run<'a> {
    unix_s: u64,
    commit: String,
    cpus: usize,
    cpu_model: String,
    /// Of the last minute before the end: the run's own and whatever else the machine did.
    load_average: f64,
    megabytes: u64,
    note: &'a str,
    rows: &'a [Row],
}

#[expect(
    clippy::disallowed_methods,
    reason = "the date of a run is the machine's own"
)]
#[expect(clippy::print_stdout, reason = "says where the result is")]
pub fn write(options: &Options, table: &Table) -> anyhow::Result<()> {
    let unix_s = std::time::SystemTime::now()
        .duration_since(UNIX_EPOCH)?
        .as_secs();
    let commit =
        output(Command::new("git").args(["describe", "--always", "--dirty"])).unwrap_or_default();
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or_default();
    let loadavg = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let run = Run {
        unix_s,
        commit: commit.trim().to_owned(),
        cpus: std::thread::available_parallelism()?.get(),
        cpu_model: model.trim_start_matches([' ', '\t', ':']).to_owned(),
        load_average: loadavg
            .split(' ')
            .next()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0.0),
        megabytes: options.megabytes,
        note: &options.note,
        rows: table.rows(),
    };
    fs::create_dir_all(FOLDER)?;
    let path = format!("{FOLDER}/{unix_s}.json");
    fs::write(&path, serde_json::to_string_pretty(&run)? + "\n")?;
    println!("kept in {path}");
    Ok(())
}
