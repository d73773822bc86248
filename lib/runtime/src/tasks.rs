//! Supervised tasks: each has a name and a policy, none is detached.

use std::{collections::BTreeMap, fmt::Display, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;

use crate::Shutdown;

/// What the failure of a task means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// It is logged; the process goes on without the task.
    Log,
    /// It is logged and the process ends: it cannot do its work without this task.
    Shutdown,
}

/// Spawns tasks and waits for them. Clones share the tasks.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    shutdown: Shutdown,
    running: Arc<Mutex<Running>>,
}

#[derive(Debug, Default)]
struct Running {
    next: u64,
    tasks: BTreeMap<u64, (String, AbortHandle)>,
    failed: Option<String>,
}

impl Tasks {
    pub fn new(shutdown: Shutdown) -> Self {
        Self {
            tracker: TaskTracker::new(),
            shutdown,
            running: Arc::default(),
        }
    }

    /// The wish these tasks must obey: they end by themselves soon after it was requested.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Runs `work` to its end. An error after a shutdown was requested is not worth a word.
    pub fn spawn<E: Display + Send>(
        &self,
        name: impl Into<String>,
        on_error: OnError,
        work: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let (this, label) = (self.clone(), name.into());
        let task_name = label.clone();
        self.track(label, async move {
            let Err(error) = work.await else { return };
            if this.shutdown.requested() {
                tracing::debug!(task = task_name, %error, "task ended during shutdown");
                return;
            }
            tracing::error!(task = task_name, %error, "task failed");
            if on_error == OnError::Shutdown {
                this.running
                    .lock()
                    .failed
                    .get_or_insert(format!("{task_name}: {error}"));
                this.shutdown.request();
            }
        });
    }

    /// Runs a task that has no error of its own.
    pub fn spawn_ok(
        &self,
        name: impl Into<String>,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        self.track(name.into(), work);
    }

    fn track(&self, name: String, work: impl Future<Output = ()> + Send + 'static) {
        let mut running = self.running.lock();
        let id = running.next;
        running.next += 1;
        let this = self.clone();
        #[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
        let task = tokio::spawn(self.tracker.track_future(async move {
            let _done = Done { tasks: this, id };
            work.await;
        }));
        running.tasks.insert(id, (name, task.abort_handle()));
    }

    /// Runs blocking work on a thread of its own and waits for it. A panic there is passed on.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // It never began because the runtime is ending, and nobody who waits here goes on.
                Err(_ending) => std::future::pending().await,
            },
        }
    }

    /// Why the process is ending by itself, if a task's failure asked for it.
    pub fn failure(&self) -> Option<String> {
        self.running.lock().failed.clone()
    }

    /// Asks all tasks to end, waits up to `grace`, aborts the rest and names them.
    pub async fn stop(&self, grace: Duration) -> Vec<String> {
        self.shutdown.request();
        self.tracker.close();
        if tokio::time::timeout(grace, self.tracker.wait())
            .await
            .is_ok()
        {
            return Vec::new();
        }
        let late: Vec<_> = self.running.lock().tasks.values().cloned().collect();
        for (_, task) in &late {
            task.abort();
        }
        late.into_iter().map(|(name, _)| name).collect()
    }
}

/// Runs long work on this thread and in this task, after the thread's other tasks were handed to another one. Where there is
/// no other (a test's runtime of one thread), they wait.
pub fn in_place<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Strikes a task off the list also when it panics or is aborted.
struct Done {
    tasks: Tasks,
    id: u64,
}

impl Drop for Done {
    fn drop(&mut self) {
        self.tasks.running.lock().tasks.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_that_matters_ends_the_process() {
        let tasks = Tasks::new(Shutdown::new());
        tasks.spawn("uploader", OnError::Shutdown, async { Err("disk gone") });
        tasks.shutdown().wait().await;
        assert_eq!(tasks.failure().as_deref(), Some("uploader: disk gone"));
        assert!(tasks.stop(Duration::from_secs(5)).await.is_empty());
    }

    #[tokio::test]
    async fn a_failure_that_does_not_matter_leaves_the_others_alone() {
        let tasks = Tasks::new(Shutdown::new());
        let (sent, done) = tokio::sync::oneshot::channel();
        tasks.spawn("scrape", OnError::Log, async move {
            let _ = sent.send(());
            Err("no route")
        });
        done.await.unwrap();
        tokio::task::yield_now().await;
        assert!(!tasks.shutdown().requested());
    }

    #[tokio::test]
    async fn a_task_that_does_not_end_is_named_and_aborted() {
        let tasks = Tasks::new(Shutdown::new());
        tasks.spawn_ok("stubborn", std::future::pending());
        assert_eq!(tasks.stop(Duration::from_millis(1)).await, ["stubborn"]);
    }
}
