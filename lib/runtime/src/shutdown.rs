//! The wish that a process, or a part of it, ends.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Clones see the same wish; a child sees its parent's too.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    pub fn request(&self) {
        self.0.cancel();
    }

    pub fn requested(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Returns once it was requested.
    pub async fn wait(&self) {
        self.0.cancelled().await;
    }

    /// Runs `work` until it is done or a shutdown is requested (`None`).
    pub async fn unless<F: Future>(&self, work: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            () = self.wait() => None,
            done = work => Some(done),
        }
    }
}

/// Requests a shutdown on SIGTERM or SIGINT; returns the signal's name once one came.
pub async fn signals(shutdown: &Shutdown) -> std::io::Result<Option<&'static str>> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let name = tokio::select! {
        () = shutdown.wait() => return Ok(None),
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    };
    shutdown.request();
    Ok(Some(name))
}
