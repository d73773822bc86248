//! Our fleet under test: the release binary's `dev --separate`, looked at only through `dev.json`, its processes and its files.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, ensure};
use rustix::process::Signal;
use serde::Deserialize;

use super::{
    System,
    load::Load,
    process::{Running, signal, wait_for},
};

/// Ten ports for each of east, west and the witness, a hundred apart.
const SITES: [u16; 3] = [0, 100, 200];
const PORTS_A_SITE: u16 = 10;

#[derive(Debug)]
pub struct Whimbrel {
    folder: PathBuf,
    description: Description,
    /// What the fleet was given besides its arguments.
    environment: Vec<(OsString, OsString)>,
    _dev: Running,
    restarted: Vec<Running>,
}

#[derive(Debug, Deserialize)]
struct Description {
    bootstrap: String,
    regions: BTreeMap<String, Region>,
    processes: Vec<Process>,
}

#[derive(Debug, Deserialize)]
struct Region {
    brokers: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Process {
    role: String,
    region: String,
    pid: u32,
    command: Vec<String>,
}

impl Whimbrel {
    pub fn start(load: &Load, folder: &Path) -> anyhow::Result<Self> {
        Self::start_with(load, folder, |_| ())
    }

    /// `more` adds arguments of `whimbrel dev` and environment.
    pub fn start_with(
        load: &Load,
        folder: &Path,
        more: impl FnOnce(&mut Command),
    ) -> anyhow::Result<Self> {
        ensure!(
            load.binary.exists(),
            "{} is missing: cargo build --release",
            load.binary.display()
        );
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder)?;
        let port = free_base()?;
        let mut command = Command::new(&load.binary);
        command
            .args([
                "dev",
                "--separate",
                "--port",
                &port.to_string(),
                "--data-dir",
            ])
            .arg(folder);
        more(&mut command);
        let own =
            |(name, value): (&OsStr, Option<&OsStr>)| Some((name.to_owned(), value?.to_owned()));
        let environment = command.get_envs().filter_map(own).collect();
        let log = folder.with_extension("log");
        let mut dev = Running::start(&mut command, &log)?;
        let file = folder.join("dev.json");
        let mut description = None;
        wait_for("the fleet to listen", Duration::from_secs(90), || {
            ensure!(!dev.ended(), "whimbrel dev ended; see {}", log.display());
            description = fs::read_to_string(&file)
                .ok()
                .and_then(|text| serde_json::from_str::<Description>(&text).ok());
            Ok(description.as_ref().is_some_and(Description::listens))
        })?;
        let description = description.context("no dev.json")?;
        Ok(Self {
            folder: folder.to_owned(),
            description,
            environment,
            _dev: dev,
            restarted: Vec::new(),
        })
    }

    fn process(&self, role: &str, region: &str) -> anyhow::Result<Process> {
        let found = self
            .description
            .processes
            .iter()
            .find(|p| p.role == role && p.region == region);
        found
            .cloned()
            .with_context(|| format!("no {role} of {region} in dev.json"))
    }

    /// Kills every process of a role, so that it does not take part in what is measured.
    pub fn without(&self, roles: &[&str]) -> anyhow::Result<()> {
        for process in self
            .description
            .processes
            .iter()
            .filter(|p| roles.contains(&p.role.as_str()))
        {
            signal(process.pid, Signal::KILL)?;
        }
        Ok(())
    }

    /// Starts a killed process again; its pid.
    pub fn restart(&mut self, role: &str, region: &str) -> anyhow::Result<u32> {
        let process = self.process(role, region)?;
        let (program, arguments) = process
            .command
            .split_first()
            .context("an empty command in dev.json")?;
        let running = Running::start(
            Command::new(program)
                .args(arguments)
                .envs(self.environment.iter().cloned()),
            &self.folder.join(format!("{role}-{region}-again.log")),
        )?;
        let pid = running.id();
        self.restarted.push(running);
        Ok(pid)
    }

    pub fn pid(&self, role: &str, region: &str) -> anyhow::Result<u32> {
        Ok(self.process(role, region)?.pid)
    }

    /// Every process of the fleet that runs under its own id.
    pub fn pids(&self) -> Vec<u32> {
        self.description.processes.iter().map(|p| p.pid).collect()
    }

    /// Bytes and number of the segments a region's broker holds of a topic's partition 0.
    pub fn local_segments(&self, region: &str, topic: &str) -> anyhow::Result<(u64, usize)> {
        segments(&self.folder.join(region), &format!("{topic}-0"))
    }
}

impl Description {
    fn listens(&self) -> bool {
        self.regions
            .values()
            .flat_map(|region| &region.brokers)
            .all(|broker| TcpStream::connect(broker).is_ok())
    }
}

impl System for Whimbrel {
    fn bootstrap(&self) -> &str {
        &self.description.bootstrap
    }

    fn broker_pids(&self) -> Vec<u32> {
        self.pid("broker", "east").into_iter().collect()
    }

    fn kill_and_start(&mut self, _load: &Load) -> anyhow::Result<()> {
        let pid = self.pid("broker", "east")?;
        signal(pid, Signal::KILL)?;
        // Its port and its lock on the disk are free when the kernel has taken it apart.
        wait_for(
            "the killed broker to be gone",
            Duration::from_secs(30),
            || Ok(is_gone(pid)),
        )?;
        self.restart("broker", "east").map(drop)
    }
}

/// True for a process that nobody has asked after yet, too. Its first thread may be dead while others still close its
/// files.
pub fn is_gone(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let is_dead = stat
        .rsplit_once(") ")
        .is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']));
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    is_dead && threads <= 1
}

fn free_base() -> anyhow::Result<u16> {
    let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
    let all_free = |base: &u16| {
        SITES
            .iter()
            .all(|site| (0..PORTS_A_SITE).all(|port| free(base + site + port)))
    };
    (22_000..31_000)
        .step_by(300)
        .find(all_free)
        .context("no free range of ports")
}

/// Sums the `.log` files of the folder `partition`, wherever below `root` it stands.
pub fn segments(root: &Path, partition: &str) -> anyhow::Result<(u64, usize)> {
    let mut sum = (0, 0);
    for entry in fs::read_dir(root).with_context(|| root.display().to_string())? {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        if path.file_name().is_some_and(|name| name == partition) {
            for file in fs::read_dir(&path)? {
                let file = file?;
                if file.path().extension().is_some_and(|e| e == "log") {
                    // A segment may be freed between listing and looking.
                    sum.0 += file.metadata().map_or(0, |m| m.len());
                    sum.1 += 1;
                }
            }
        } else {
            let (bytes, count) = segments(&path, partition)?;
            sum = (sum.0 + bytes, sum.1 + count);
        }
    }
    Ok(sum)
}
