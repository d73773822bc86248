//! A producer that keeps writing while regions come and go.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use rdkafka::producer::ThreadedProducer;
use tokio::task::JoinSet;
use whimbrel_runtime::{Clock, Shutdown};

use super::{
    TourError,
    clients::{Clients, Reporter},
};

/// Records a second: enough that the kill hits some in every state.
const BATCH: u64 = 20;
const EVERY: std::time::Duration = std::time::Duration::from_millis(10);

/// Numbered records from `first` on, until stopped.
pub(crate) struct Writer {
    stop: Shutdown,
    next: Arc<AtomicU64>,
    work: JoinSet<Result<(), TourError>>,
}

impl Writer {
    pub fn start(producer: &Arc<ThreadedProducer<Reporter>>, clock: &Clock, first: u64) -> Self {
        let (stop, next) = (Shutdown::new(), Arc::new(AtomicU64::new(first)));
        let mut work = JoinSet::new();
        work.spawn(write(
            producer.clone(),
            clock.clone(),
            stop.clone(),
            next.clone(),
        ));
        Self { stop, next, work }
    }

    /// Number of the next record that would be written.
    pub fn next(&self) -> u64 {
        self.next.load(Ordering::SeqCst)
    }

    /// Stops writing; what was queued is still delivered. Answers the number after the last record.
    pub async fn stop(mut self) -> Result<u64, TourError> {
        self.stop.request();
        while let Some(ended) = self.work.join_next().await {
            ended.map_err(|e| TourError::Wrong(e.to_string()))??;
        }
        Ok(self.next())
    }
}

/// What a numbered record says.
pub(crate) fn value(number: u64) -> String {
    format!("live-{number}")
}

/// The number in a record that [`value`] made.
pub(crate) fn number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value)
        .ok()?
        .strip_prefix("live-")?
        .parse()
        .ok()
}

async fn write(
    producer: Arc<ThreadedProducer<Reporter>>,
    clock: Clock,
    stop: Shutdown,
    next: Arc<AtomicU64>,
) -> Result<(), TourError> {
    while !stop.requested() {
        for _ in 0..BATCH {
            let record = next.load(Ordering::SeqCst);
            Clients::send(&producer, &clock, record, value(record).as_bytes()).await?;
            next.store(record + 1, Ordering::SeqCst);
        }
        clock.sleep(EVERY).await;
    }
    Ok(())
}
