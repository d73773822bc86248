//! `dev`: a fleet on this machine that stays up.

use std::{
    fs::File,
    io::{Read, Seek, Write},
    path::Path,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use whimbrel_dev::{
    Children, Layout, Manifest, ProcessEntry, ProcessSpec, children, embedded, layout,
};
use whimbrel_fleet::RegionName;
use whimbrel_runtime::{Clock, OnError, Shutdown, Tasks, random, signals};

use crate::{
    args::Dev,
    config,
    exit::{Exit, Refusal},
    output,
};

const GRACE: Duration = Duration::from_secs(10);
const READY: Duration = Duration::from_secs(60);

pub async fn run(args: Dev) -> anyhow::Result<Exit> {
    let mut layout = Layout::new(args.data_dir.clone(), args.port)?.with_brokers(args.brokers)?;
    for bucket in &args.bucket {
        set_bucket(&mut layout, bucket)?;
    }
    layout.settings = args.settings;
    layout.one_region = args.one_region;
    let _lock = lock(&layout.data_dir)?;
    layout
        .check_ports()
        .map_err(|taken| Refusal::coded(Exit::Failed, "WB-009", taken.to_string()))?;
    let specs = layout.processes(&fleet_id(&layout.data_dir)?)?;
    layout.write_configs(&specs)?;
    let wrong = specs
        .iter()
        .filter_map(|s| config::load(&s.config_path).err());
    let wrong: Vec<String> = wrong.map(|problems| problems.to_string()).collect();
    if !wrong.is_empty() {
        output::note(&wrong.join("\n"));
        return Ok(Exit::BadConfig);
    }
    let tasks = Tasks::new(Shutdown::new());
    let listener = tasks.clone();
    tasks.spawn("signals", OnError::Shutdown, async move {
        signals(&listener.shutdown()).await.map(|_| ())
    });
    if args.separate {
        separate(&layout, &specs, &tasks).await
    } else {
        together(&layout, &specs, &tasks).await
    }
}

fn set_bucket(layout: &mut Layout, text: &str) -> anyhow::Result<()> {
    let named = text
        .split_once('=')
        .filter(|(name, _)| layout.buckets.contains_key(&RegionName::from(*name)));
    match named {
        Some((region, url)) => {
            layout.buckets.insert(region.into(), url.to_owned());
        }
        None if text.contains("://") => layout
            .buckets
            .values_mut()
            .for_each(|url| text.clone_into(url)),
        None => {
            return Err(Refusal::error(
                Exit::Usage,
                format!("--bucket {text}: write URL or REGION=URL with a region of east, west"),
            ));
        }
    }
    Ok(())
}

/// Held as long as this fleet runs.
fn lock(data_dir: &Path) -> anyhow::Result<File> {
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(data_dir.join("dev.lock"))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        file.read_to_string(&mut pid)?;
        let message = format!(
            "{} is in use by another `whimbrel dev` (pid {})",
            data_dir.display(),
            pid.trim()
        );
        return Err(Refusal::coded(Exit::Failed, "WB-008", message));
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

/// One id for the life of the data directory.
fn fleet_id(data_dir: &Path) -> anyhow::Result<String> {
    let path = data_dir.join("fleet-id");
    match std::fs::read_to_string(&path) {
        Ok(id) => Ok(id.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let id = whimbrel_fleet::naming::cluster_id(random::uuid());
            std::fs::write(path, &id)?;
            Ok(id)
        }
        Err(error) => Err(error.into()),
    }
}

fn announce(layout: &Layout, manifest: &Manifest) -> anyhow::Result<()> {
    manifest.write(&layout.data_dir)?;
    let fleet = layout.data_dir.display();
    let [home, other] = layout::regions();
    let mut lines = vec![
        format!("whimbrel dev is up: bootstrap {}", manifest.bootstrap),
        format!(
            "  east (home)  {}   bucket {}",
            layout.kafka(0),
            layout.buckets[&home]
        ),
    ];
    if !layout.one_region {
        lines.push(format!(
            "  west         {}   bucket {}",
            layout.kafka(1),
            layout.buckets[&other]
        ));
    }
    lines.push(format!("next:\n  whimbrel --fleet {fleet} status"));
    if !layout.one_region {
        lines.push(format!(
            "  whimbrel --fleet {fleet} mirror status\n  whimbrel --fleet {fleet} failover plan default --to west"
        ));
    }
    lines.push(format!("stop with Ctrl-C; everything is kept in {fleet}"));
    output::line(&lines.join("\n"))
}

async fn separate(layout: &Layout, specs: &[ProcessSpec], tasks: &Tasks) -> anyhow::Result<Exit> {
    let binary = std::env::current_exe()?;
    let mut children = Children::default();
    for spec in specs {
        children.start(&binary, spec)?;
    }
    let shutdown = tasks.shutdown();
    if let Some(ready) = shutdown.unless(children.ready(READY)).await {
        ready?;
        announce(
            layout,
            &Manifest {
                processes: children.entries(),
                ..layout.manifest()
            },
        )?;
        while shutdown
            .unless(Clock::system().sleep(Duration::from_millis(200)))
            .await
            .is_some()
        {
            for ended in children.reap() {
                output::note(&ended);
            }
        }
    }
    for late in children.stop(GRACE).await {
        output::note(&format!(
            "{late} did not end within {} s and was killed",
            GRACE.as_secs()
        ));
    }
    finish(layout, tasks).await
}

async fn together(layout: &Layout, specs: &[ProcessSpec], tasks: &Tasks) -> anyhow::Result<Exit> {
    super::log_to_stderr(false);
    let shutdown = tasks.shutdown();
    if let Some(started) = shutdown
        .unless(embedded::start_all(specs, tasks, &Clock::system()))
        .await
    {
        let handles = match started {
            Ok(handles) => handles,
            Err(error) => {
                tasks.stop(GRACE).await;
                return Err(Refusal::coded(
                    Exit::Failed,
                    error.code(),
                    error.to_string(),
                ));
            }
        };
        announce(
            layout,
            &Manifest {
                processes: entries(specs)?,
                ..layout.manifest()
            },
        )?;
        shutdown.wait().await;
        let stopped = finish(layout, tasks).await;
        for started in handles {
            started.close().await;
        }
        return stopped;
    }
    finish(layout, tasks).await
}

/// In one process every role has this pid; `command` would start the role alone.
fn entries(specs: &[ProcessSpec]) -> anyhow::Result<Vec<ProcessEntry>> {
    let binary = std::env::current_exe()?.display().to_string();
    let entry = |spec: &ProcessSpec| ProcessEntry {
        role: spec.role,
        region: spec.region.clone(),
        pid: std::process::id(),
        admin: spec.admin.clone(),
        command: [
            &binary,
            "start",
            children::role_name(spec.role),
            "-c",
            &spec.config_path.display().to_string(),
        ]
        .map(str::to_owned)
        .to_vec(),
    };
    Ok(specs.iter().map(entry).collect())
}

async fn finish(layout: &Layout, tasks: &Tasks) -> anyhow::Result<Exit> {
    for late in tasks.stop(GRACE).await {
        output::note(&format!(
            "{late} did not end within {} s and was dropped",
            GRACE.as_secs()
        ));
    }
    match tasks.failure() {
        Some(failure) => Err(Refusal::error(Exit::Failed, failure)),
        None => {
            output::note(&format!(
                "stopped; data is kept in {}",
                layout.data_dir.display()
            ));
            Ok(Exit::Ok)
        }
    }
}
