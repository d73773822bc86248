//! Kafka 4.2 under test, started by `peers/run.py`.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use rustix::process::Signal;
use serde::Deserialize;

use super::{
    System,
    load::Load,
    process::{Running, signal, wait_for},
};

#[derive(Debug)]
pub struct Kafka {
    folder: PathBuf,
    port: u16,
    flags: Vec<String>,
    bootstrap: String,
    pid: u32,
    peer: Option<Running>,
}

/// What `peers/run.py` prints when the broker answers.
#[derive(Deserialize)]
struct Ready {
    pid: u32,
}

impl Kafka {
    /// Starts a broker with an empty data folder. `flags` are those of `peers/run.py kafka`.
    pub fn start(load: &Load, folder: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder)?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let mut kafka = Self {
            folder: folder.to_owned(),
            port,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            bootstrap: format!("127.0.0.1:{port}"),
            pid: 0,
            peer: None,
        };
        kafka.launch(load)?;
        Ok(kafka)
    }

    /// Starts a broker on what the folder holds.
    fn launch(&mut self, load: &Load) -> anyhow::Result<()> {
        let log = self.folder.join("run.log");
        let mut command = load.peers();
        command
            .args(["kafka", "--port", &self.port.to_string(), "--dir"])
            .arg(&self.folder)
            .args(&self.flags);
        let mut peer = Running::start(&mut command, &log)?;
        let mut line = String::new();
        wait_for("Kafka to be ready", Duration::from_secs(180), || {
            line = fs::read_to_string(&log)?;
            anyhow::ensure!(!peer.ended(), "peers/run.py ended: {line}");
            Ok(line.ends_with('\n'))
        })?;
        let ready: Ready = serde_json::from_str(line.trim()).with_context(|| line.clone())?;
        self.pid = ready.pid;
        self.peer = Some(peer);
        Ok(())
    }
}

impl System for Kafka {
    fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    fn broker_pids(&self) -> Vec<u32> {
        vec![self.pid]
    }

    fn kill_and_start(&mut self, load: &Load) -> anyhow::Result<()> {
        signal(self.pid, Signal::KILL)?;
        self.peer = None;
        self.launch(load)
    }
}
