//! One piece of work per key at a time: whoever comes later waits for the same outcome.

use std::{
    collections::HashMap,
    fmt::{Debug, Display},
    hash::Hash,
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::watch;
use whimbrel_runtime::Tasks;

type Outcome<V> = watch::Receiver<Option<V>>;

/// Work runs as a task of its own, so that it goes on when the one who asked has gone.
#[derive(Debug)]
pub struct Flights<K, V> {
    tasks: Tasks,
    running: Arc<Mutex<HashMap<K, Outcome<V>>>>,
}

impl<K, V> Clone for Flights<K, V> {
    fn clone(&self) -> Self {
        Self {
            tasks: self.tasks.clone(),
            running: Arc::clone(&self.running),
        }
    }
}

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Debug + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub fn new(tasks: Tasks) -> Self {
        Self {
            tasks,
            running: Arc::default(),
        }
    }

    /// Starts the work unless it is under way.
    pub fn start(
        &self,
        name: &dyn Display,
        key: &K,
        work: impl Future<Output = V> + Send + 'static,
    ) -> Outcome<V> {
        let mut running = self.running.lock();
        if let Some(outcome) = running.get(key) {
            return outcome.clone();
        }
        let (sender, outcome) = watch::channel(None);
        running.insert(key.clone(), outcome.clone());
        drop(running);
        let (running, key) = (Arc::clone(&self.running), key.clone());
        let shutdown = self.tasks.shutdown();
        self.tasks.spawn_ok(name.to_string(), async move {
            // A store that never answers must not keep the process.
            let done = shutdown.unless(work).await;
            running.lock().remove(&key);
            sender.send_replace(done);
        });
        outcome
    }
}

/// The outcome of a flight; `None` when the daemon is stopping.
pub async fn landed<V: Clone>(mut outcome: Outcome<V>) -> Option<V> {
    outcome
        .wait_for(Option::is_some)
        .await
        .ok()
        .and_then(|done| done.clone())
}
