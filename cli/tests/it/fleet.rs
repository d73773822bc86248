//! A fleet of one region in a process of its own, for verbs that are typed against it.

use std::{
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use whimbrel_dev::{FreePorts, Manifest};

use crate::whimbrel::command;

/// Dropping it kills the process.
pub struct Fleet {
    pub folder: tempfile::TempDir,
    dev: Child,
    _ports: FreePorts,
    /// For each wait.
    deadline: Duration,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _already_gone = self.dev.kill();
        let _status = self.dev.wait();
    }
}

impl Fleet {
    /// It is up.
    pub fn start(deadline: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = FreePorts::find().unwrap();
        let dev = command(&["dev", "--one-region", "--port", &ports.base().to_string()])
            .arg("--data-dir")
            .arg(folder.path().join("fleet"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let fleet = Self {
            folder,
            dev,
            _ports: ports,
            deadline,
        };
        fleet.wait("the fleet to be up", || {
            Manifest::read(&fleet.path("fleet")).is_ok()
        });
        fleet
    }

    /// In the folder that goes with it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn typed(&self, arguments: &[&str]) -> Command {
        let mut command = command(arguments);
        command.env("WHIMBREL_FLEET", self.path("fleet"));
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.typed(arguments).output().unwrap()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "waits for real processes: only real time counts"
    )]
    #[track_caller]
    pub fn wait(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < self.deadline, "not in time: {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
