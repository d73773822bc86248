//! Roles as child processes: each with its configuration file and its log, stoppable and killable alone.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use whimbrel_fleet::{HostPort, RegionName, Role};

use crate::{ProcessEntry, ProcessSpec, admin};

/// A child could not be started or did not become ready.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    #[error("{name}: {source}")]
    Spawn { name: String, source: io::Error },
    #[error("{name} ended at once ({status}); the end of its log {log}:\n{tail}")]
    Ended {
        name: String,
        status: String,
        log: PathBuf,
        tail: String,
    },
    #[error("{name} is not ready after {seconds} s: {reason}; its log is {log}")]
    NotReady {
        name: String,
        seconds: u64,
        reason: String,
        log: PathBuf,
    },
}

#[derive(Debug)]
struct Running {
    name: String,
    role: Role,
    region: RegionName,
    admin: HostPort,
    command: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

/// All children of one fleet. Dropping it kills what still runs: no orphan process is left behind.
#[derive(Debug, Default)]
pub struct Children {
    running: Vec<Running>,
}

impl Children {
    /// Starts a process from its spec; `binary` is the `whimbrel` executable.
    pub fn start(&mut self, binary: &Path, spec: &ProcessSpec) -> Result<(), ChildError> {
        let command = vec![
            binary.display().to_string(),
            "start".to_owned(),
            role_name(spec.role).to_owned(),
            "-c".to_owned(),
            spec.config_path.display().to_string(),
        ];
        let mut running = Running {
            name: spec.name(),
            role: spec.role,
            region: spec.region.clone(),
            admin: spec.admin.clone(),
            command,
            log: spec.log_path.clone(),
            child: None,
        };
        running.spawn()?;
        self.running.push(running);
        Ok(())
    }

    /// Starts again what was killed in `region`.
    pub fn restart(&mut self, region: &RegionName) -> Result<Vec<u32>, ChildError> {
        let mut pids = Vec::new();
        for process in self
            .running
            .iter_mut()
            .filter(|p| p.region == *region && p.child.is_none())
        {
            process.spawn()?;
            pids.extend(process.child.as_ref().map(Child::id));
        }
        Ok(pids)
    }

    /// SIGKILL for every process of `region`, waited for; answers the pids.
    pub fn kill_region(&mut self, region: &RegionName) -> Vec<u32> {
        let mut pids = Vec::new();
        let mut killed: Vec<Child> = Vec::new();
        for process in self.running.iter_mut().filter(|p| p.region == *region) {
            if let Some(mut child) = process.child.take() {
                pids.push(child.id());
                let _already_gone = child.kill();
                killed.push(child);
            }
        }
        for mut child in killed {
            let _status = child.wait();
        }
        pids
    }

    /// Waits until every process answers `/readyz`, each within `deadline`.
    pub async fn ready(&mut self, deadline: Duration) -> Result<(), ChildError> {
        for process in &mut self.running {
            process.ready(deadline).await?;
        }
        Ok(())
    }

    pub fn entries(&self) -> Vec<ProcessEntry> {
        self.running
            .iter()
            .map(|p| ProcessEntry {
                role: p.role,
                region: p.region.clone(),
                pid: p.child.as_ref().map_or(0, Child::id),
                admin: p.admin.clone(),
                command: p.command.clone(),
            })
            .collect()
    }

    /// Names and exit states of processes that ended since the last look.
    pub fn reap(&mut self) -> Vec<String> {
        let mut ended = Vec::new();
        for process in &mut self.running {
            let Some(child) = &mut process.child else {
                continue;
            };
            if let Ok(Some(status)) = child.try_wait() {
                ended.push(format!(
                    "{} (pid {}) ended: {status}; log {}",
                    process.name,
                    child.id(),
                    process.log.display()
                ));
                process.child = None;
            }
        }
        ended
    }

    /// SIGTERM to all, roles that others lean on last; what has not ended within `grace` is killed and named.
    pub async fn stop(&mut self, grace: Duration) -> Vec<String> {
        let mut late = Vec::new();
        for roles in [
            &[Role::Mirror, Role::Tiering][..],
            &[Role::Broker],
            &[Role::Controller],
        ] {
            let mut leaving: Vec<&mut Running> = self
                .running
                .iter_mut()
                .filter(|p| roles.contains(&p.role))
                .collect();
            for process in &leaving {
                process.signal(Signal::TERM);
            }
            for process in &mut leaving {
                if !process.ended(grace).await {
                    late.push(process.name.clone());
                }
            }
        }
        late
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for process in &mut self.running {
            if let Some(mut child) = process.child.take() {
                let _already_gone = child.kill();
                let _status = child.wait();
            }
        }
    }
}

impl Running {
    fn spawn(&mut self) -> Result<(), ChildError> {
        let fail = |source| ChildError::Spawn {
            name: self.name.clone(),
            source,
        };
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(fail)?;
        let (program, arguments) = self
            .command
            .split_first()
            .ok_or_else(|| fail(io::ErrorKind::NotFound.into()))?;
        let child = Command::new(program)
            .args(arguments)
            // Nothing is ever written: its end, even by SIGKILL of this process, ends the child.
            .arg("--until-stdin-ends")
            .stdin(Stdio::piped())
            .stdout(log.try_clone().map_err(fail)?)
            .stderr(log)
            .spawn()
            .map_err(fail)?;
        self.child = Some(child);
        Ok(())
    }

    async fn ready(&mut self, deadline: Duration) -> Result<(), ChildError> {
        let begun = now();
        let mut reason = "not asked yet".to_owned();
        while now().duration_since(begun) < deadline {
            let Some(child) = &mut self.child else {
                return Ok(());
            };
            if let Ok(Some(status)) = child.try_wait() {
                self.child = None;
                let (name, log, tail) = (self.name.clone(), self.log.clone(), tail(&self.log));
                return Err(ChildError::Ended {
                    name,
                    status: status.to_string(),
                    log,
                    tail,
                });
            }
            match admin::text(&self.admin, "/readyz").await {
                Ok(_) => return Ok(()),
                Err(error) => reason = error.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(ChildError::NotReady {
            name: self.name.clone(),
            seconds: deadline.as_secs(),
            reason,
            log: self.log.clone(),
        })
    }

    fn signal(&self, signal: Signal) {
        let pid = self
            .child
            .as_ref()
            .and_then(|c| i32::try_from(c.id()).ok())
            .and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _already_gone = kill_process(pid, signal);
        }
    }

    async fn ended(&mut self, grace: Duration) -> bool {
        let begun = now();
        let Some(child) = &mut self.child else {
            return true;
        };
        while now().duration_since(begun) < grace {
            if !matches!(child.try_wait(), Ok(None)) {
                self.child = None;
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let _already_gone = child.kill();
        let _status = child.wait();
        self.child = None;
        false
    }
}

pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Broker => "broker",
        Role::Mirror => "mirror",
        Role::Tiering => "tiering",
        Role::Controller => "controller",
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

#[expect(
    clippy::disallowed_methods,
    reason = "waits for real processes: only real time counts"
)]
fn now() -> Instant {
    Instant::now()
}
