//! Child processes and waiting for them to answer.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

/// A process that is stopped when this is dropped: SIGTERM first, so that what it started ends too.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    pub fn start(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let out = File::create(log).with_context(|| log.display().to_string())?;
        let errors = out.try_clone()?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(errors)
            .spawn();
        Ok(Self(
            child.with_context(|| format!("starting {command:?}"))?,
        ))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(30);
        let _ = signal(self.0.id(), Signal::TERM);
        if wait_for("the process to end", PATIENCE, || Ok(self.ended())).is_err() {
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}

pub fn signal(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let pid = Pid::from_raw(pid.try_into()?).context("pid 0")?;
    kill_process(pid, signal).with_context(|| format!("signal to {pid:?}"))
}

/// Asks until the answer is yes. Coarse on purpose: a poll costs the systems under test their CPU.
pub fn wait_for(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let start = now();
    while !condition()? {
        if start.elapsed() > deadline {
            bail!("waited {deadline:?} for {what}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures the machine's own time; nothing here is simulated"
)]
pub fn now() -> Instant {
    Instant::now()
}

/// A tool that takes longer hangs on a system that does not answer.
const LONGEST_TOOL: Duration = Duration::from_secs(600);

/// Runs a program to its end, or kills it; its standard output and error together.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{command:?}"))?;
    let pid = child.id();
    let (ended, wait) = mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if wait.recv_timeout(LONGEST_TOOL) == Err(RecvTimeoutError::Timeout) {
            let _ = signal(pid, Signal::KILL);
        }
    });
    let done = child.wait_with_output();
    drop(ended);
    let _ = watch.join();
    let done = done.with_context(|| format!("{command:?}"))?;
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    anyhow::ensure!(
        done.status.success(),
        "{command:?} ended with {}\n{text}",
        done.status
    );
    Ok(text)
}
