//! Kafka 4.2 under test, started by `peers/run.py`.

use std::{fs, net::TcpListener, path::Path, time::Duration};

use anyhow::Context;
use serde::Deserialize;

use super::{
    System,
    load::Load,
    process::{Running, wait_for},
};

#[derive(Debug)]
pub struct Kafka {
    bootstrap: String,
    pid: u32,
    _peer: Running,
}

/// What `peers/run.py` prints when the broker answers.
#[derive(Deserialize)]
struct Ready {
    pid: u32,
    port: u16,
}

impl Kafka {
    /// Starts a broker with an empty data folder. `flags` are those of `peers/run.py kafka`.
    pub fn start(load: &Load, folder: &Path, flags: &[&str]) -> anyhow::Result<Self> {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder)?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let log = folder.join("run.log");
        let mut command = load.peers();
        command
            .args(["kafka", "--port", &port.to_string(), "--dir"])
            .arg(folder)
            .args(flags);
        let mut peer = Running::start(&mut command, &log)?;
        let mut line = String::new();
        wait_for("Kafka to be ready", Duration::from_secs(60), || {
            line = fs::read_to_string(&log)?;
            anyhow::ensure!(!peer.ended(), "peers/run.py ended: {line}");
            Ok(line.ends_with('\n'))
        })?;
        let ready: Ready = serde_json::from_str(line.trim()).with_context(|| line.clone())?;
        Ok(Self {
            bootstrap: format!("127.0.0.1:{}", ready.port),
            pid: ready.pid,
            _peer: peer,
        })
    }
}

impl System for Kafka {
    fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    fn broker_pids(&self) -> Vec<u32> {
        vec![self.pid]
    }
}
