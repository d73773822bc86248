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
    /// How the client was built: an unoptimised one is slower than some of what it measures.
    client: &'static str,
    note: &'a str,
    rows: &'a [Row],
}

/// When the run began: its name in the history.
#[expect(
    clippy::disallowed_methods,
    reason = "the date of a run is the machine's own"
)]
pub fn begun() -> anyhow::Result<u64> {
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(since.as_secs())
}

/// Writes what is known so far; a later call replaces it, so that a run that is cut short keeps what it had. Returns where it is.
pub fn write(unix_s: u64, options: &Options, table: &Table) -> anyhow::Result<String> {
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
        client: if cfg!(debug_assertions) {
            "unoptimised"
        } else {
            "release"
        },
        note: &options.note,
        rows: table.rows(),
    };
    fs::create_dir_all(FOLDER)?;
    let path = format!("{FOLDER}/{unix_s}.json");
    fs::write(&path, serde_json::to_string_pretty(&run)? + "\n")?;
    Ok(path)
}
