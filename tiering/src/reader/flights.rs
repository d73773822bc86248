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

/// Work under way.
#[derive(Clone, Debug)]
pub struct Flight<V> {
    outcome: watch::Receiver<Option<V>>,
    wanted: Arc<watch::Sender<bool>>,
}

impl<V: Clone> Flight<V> {
    /// The outcome; `None` when the daemon is stopping. From now on the work knows that somebody waits for it.
    pub async fn landed(mut self) -> Option<V> {
        self.wanted.send_replace(true);
        let outcome = self.outcome.wait_for(Option::is_some).await;
        outcome.ok().and_then(|done| done.clone())
    }
}

/// Tells work whether somebody waits for it.
#[derive(Clone, Debug)]
pub struct Wanted(watch::Receiver<bool>);

impl Wanted {
    /// Returns once somebody waits for the outcome.
    pub async fn wait(mut self) {
        // Nobody can come any more once the flight is over; then nothing depends on it.
        let _ = self.0.wait_for(|wanted| *wanted).await;
    }
}

/// Work runs as a task of its own, so that it goes on when the one who asked has gone.
#[derive(Debug)]
pub struct Flights<K, V> {
    tasks: Tasks,
    running: Arc<Mutex<HashMap<K, Flight<V>>>>,
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
    pub fn start<F>(&self, name: &dyn Display, key: &K, work: impl FnOnce(Wanted) -> F) -> Flight<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut running = self.running.lock();
        if let Some(flight) = running.get(key) {
            return flight.clone();
        }
        let (sender, outcome) = watch::channel(None);
        let (wanted, is_wanted) = watch::channel(false);
        let flight = Flight {
            outcome,
            wanted: Arc::new(wanted),
        };
        running.insert(key.clone(), flight.clone());
        drop(running);
        let (running, key) = (Arc::clone(&self.running), key.clone());
        let work = work(Wanted(is_wanted));
        let shutdown = self.tasks.shutdown();
        self.tasks.spawn_ok(name.to_string(), async move {
            // A store that never answers must not keep the process.
            let done = shutdown.unless(work).await;
            running.lock().remove(&key);
            sender.send_replace(done);
        });
        flight
    }
}
