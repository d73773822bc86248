//! A fixture's process: started with its output in a file, killed when it is dropped.

use std::{
    fs::File,
    io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use whimbrel_fleet::HostPort;
use whimbrel_runtime::Clock;

use crate::http;

/// A fixture that did not come up.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("{program}: {source}")]
    Spawn { program: PathBuf, source: io::Error },
    #[error("{program} does not answer {path} after {seconds} s; its output is in {log}")]
    NotUp {
        program: PathBuf,
        path: String,
        seconds: u64,
        log: PathBuf,
    },
}

/// What to start, and how to see that it is up.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub environment: Vec<(&'static str, String)>,
    pub log: PathBuf,
    pub at: HostPort,
    /// Answers with a success once it is up.
    pub ready: &'static str,
}

/// A running fixture.
#[derive(Debug)]
pub(crate) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _already_gone = self.0.kill();
        let _status = self.0.wait();
    }
}

impl Server {
    pub async fn start(&self, clock: &Clock) -> Result<Running, ServerError> {
        const DEADLINE: Duration = Duration::from_secs(30);
        let running = self.spawn().map_err(|source| ServerError::Spawn {
            program: self.program.clone(),
            source,
        })?;
        let up = clock
            .within(DEADLINE, async {
                while !http::answers(&self.at, self.ready).await {
                    clock.sleep(Duration::from_millis(50)).await;
                }
            })
            .await;
        match up {
            Some(()) => Ok(running),
            None => Err(ServerError::NotUp {
                program: self.program.clone(),
                path: self.ready.to_owned(),
                seconds: DEADLINE.as_secs(),
                log: self.log.clone(),
            }),
        }
    }

    fn spawn(&self) -> io::Result<Running> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Running(child))
    }
}

/// A port of loopback that nobody listens on now.
pub(crate) fn free_port() -> io::Result<HostPort> {
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    Ok(HostPort::new("127.0.0.1", port))
}

/// A fixture's binary, named by an environment variable.
pub(crate) fn named_by(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| Path::new(path).exists())
}
