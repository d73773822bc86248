//! `tour`: starts a fleet of its own and shows what was promised, what was measured, what held.

use std::path::{Path, PathBuf};

use whimbrel_dev::tour::{self, Input, Options, Report};
use whimbrel_runtime::{OnError, Shutdown, Tasks, random, signals};

use crate::{
    args::{Format, Tour},
    exit::{Exit, Refusal},
    output,
    progress::Terminal,
};

/// Found beside the sources when run by cargo, else beside the executable.
const EXAMPLE: &str = "examples/access.log";

pub async fn run(args: Tour, format: Format) -> anyhow::Result<Exit> {
    let input = match &args.input {
        None => Input::File(example()?),
        Some(path) if path == Path::new("-") => Input::Stdin,
        Some(path) => Input::File(path.clone()),
    };
    let repeat = usize::try_from(args.repeat)?;
    let lines = input
        .lines(repeat)
        .map_err(|e| Refusal::error(Exit::Usage, e.to_string()))?;
    let data_dir = data_dir(args.keep.as_deref())?;
    let tasks = Tasks::new(Shutdown::new());
    let listener = tasks.clone();
    tasks.spawn("signals", OnError::Shutdown, async move {
        signals(&listener.shutdown()).await.map(|_| ())
    });
    let options = Options {
        input,
        repeat,
        binary: std::env::current_exe()?,
        data_dir: data_dir.clone(),
    };
    let report = tour::run(&options, lines, &mut Terminal::new(), &tasks).await;
    tasks.stop(std::time::Duration::from_secs(5)).await;
    if let Some(path) = &args.report {
        std::fs::write(path, serde_json::to_string_pretty(&report)?)?;
    }
    output::print(format, &report, table)?;
    if report.held {
        if args.keep.is_none() {
            std::fs::remove_dir_all(&data_dir)?;
        }
        return Ok(Exit::Ok);
    }
    output::note(&format!("logs and data are kept in {}", data_dir.display()));
    Ok(Exit::Failed)
}

fn example() -> anyhow::Result<PathBuf> {
    let mut places = vec![
        PathBuf::from(EXAMPLE),
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(EXAMPLE),
    ];
    if let Some(beside) = std::env::current_exe()?.parent() {
        places.push(beside.join(EXAMPLE));
    }
    let found = places.iter().find(|p| p.exists()).cloned();
    found.ok_or_else(|| {
        Refusal::error(
            Exit::Usage,
            format!("{EXAMPLE} is not here; name a file with --input FILE"),
        )
    })
}

fn data_dir(keep: Option<&Path>) -> anyhow::Result<PathBuf> {
    let dir = keep.map_or_else(
        || std::env::temp_dir().join(format!("whimbrel-tour-{:08x}", random::u64() & 0xffff_ffff)),
        Path::to_owned,
    );
    if dir
        .read_dir()
        .is_ok_and(|mut entries| entries.next().is_some())
    {
        return Err(Refusal::error(
            Exit::Usage,
            format!(
                "{} is not empty; the tour needs a folder of its own",
                dir.display()
            ),
        ));
    }
    Ok(dir)
}

fn table(report: &Report) -> String {
    let rows = report.promises.iter().map(|p| {
        [
            p.promise.clone(),
            p.measured.clone(),
            if p.held { "held" } else { "NOT HELD" }.to_owned(),
        ]
    });
    let mut text = output::table(["PROMISE", "MEASURED", ""], rows);
    if let Some(error) = &report.error {
        text.push_str(&format!("\n\nthe tour ended early: {error}"));
    }
    let seconds: f64 = report.steps.iter().map(|s| s.seconds).sum();
    text.push_str(&format!(
        "\n\n{} in {seconds:.1} s",
        if report.held {
            "all held"
        } else {
            "NOT ALL HELD"
        }
    ));
    text
}
