//! Reads one partition of the source, committed records only, into a bounded channel.

use std::time::Duration;

use tokio::sync::mpsc;
use whimbrel_client::{Client, ClientError, Fetch, Isolation, When, committed};
use whimbrel_runtime::{Backoff, Clock};
use whimbrel_wire::Record;

use super::state::{At, Shared};
use crate::codes;

/// Of one partition at a time: a transaction mixes many.
const FETCH_BYTES: i32 = 1 << 20;
/// A broker serves the requests of one connection one after another, so a reader that waited at the
/// broker would hold up all others; it waits here instead.
const IDLE_PAUSE: Duration = Duration::from_millis(50);
/// So often in a row an answer may be unsound before it is the source that is: a wire may damage one.
const UNSOUND_TRIES: usize = 4;

/// Committed records of one partition, and how far it was looked through to find them.
#[derive(Debug)]
pub struct Reading {
    pub at: At,
    pub records: Vec<Record>,
    pub scanned: i64,
}

pub struct Reader {
    pub at: At,
    /// Next offset to read.
    pub offset: i64,
    /// Nothing of it was copied yet: it may begin where the source begins.
    pub fresh: bool,
    pub source: Client,
    pub shared: Shared,
    pub clock: Clock,
}

impl Reader {
    /// Reads until the channel closes or an anomaly stops this partition.
    pub async fn run(mut self, out: mpsc::Sender<Reading>) {
        let mut pause = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        let mut unsound = 0;
        loop {
            let done = self.once(&out).await;
            match &done {
                Ok(_) => unsound = 0,
                Err(error) => unsound += usize::from(error.is_unsound()),
            }
            let wait = match done {
                Ok(true) => {
                    pause.reset();
                    continue;
                }
                Err(error) if error.is_unsound() && unsound >= UNSOUND_TRIES => {
                    self.stop_at(&error);
                    out.closed().await;
                    return;
                }
                Ok(false) => IDLE_PAUSE,
                Err(error) if error.is_out_of_range() => match self.out_of_range().await {
                    Ok(true) => continue,
                    Ok(false) => return,
                    Err(error) => self.complain(&error, &mut pause),
                },
                Err(error) => self.complain(&error, &mut pause),
            };
            tokio::select! {
                () = out.closed() => return,
                () = self.clock.sleep(wait) => {}
            }
        }
    }

    /// Nothing at or above the offset was copied.
    fn stop_at(&self, error: &dyn std::error::Error) {
        let code = codes::TRANSLATED_SOURCE;
        let from = self.offset;
        let anomaly = format!("{code}: unreadable records at or above {from}: {error}");
        self.shared.stop(&self.at, anomaly);
    }

    fn complain(&self, error: &ClientError, pause: &mut Backoff) -> Duration {
        tracing::warn!(topic = self.at.0, partition = self.at.1, %error, "reading the source failed; trying again");
        pause.next()
    }

    /// True when there was something to read.
    async fn once(&mut self, out: &mpsc::Sender<Reading>) -> Result<bool, ClientError> {
        let mut fetch = Fetch::new(self.at.0.clone(), self.at.1, self.offset);
        fetch.isolation = Isolation::ReadCommitted;
        fetch.max_bytes = FETCH_BYTES;
        fetch.max_wait = Duration::ZERO;
        let fetched = self.source.fetch(&fetch).await?;
        self.shared
            .seen(&self.at, fetched.last_stable_offset, self.clock.boot_ms());
        let (records, scanned) = match committed(fetched, self.offset) {
            Ok(read) => read,
            Err(error) => {
                self.stop_at(&error);
                out.closed().await;
                return Ok(false);
            }
        };
        if scanned == self.offset {
            return Ok(false);
        }
        self.offset = scanned;
        self.fresh &= records.is_empty();
        let reading = Reading {
            at: self.at.clone(),
            records,
            scanned,
        };
        // A closed channel is noticed by the caller's next wait.
        Ok(out.send(reading).await.is_ok())
    }

    /// True when reading goes on elsewhere; false when the partition is stopped.
    async fn out_of_range(&mut self) -> Result<bool, ClientError> {
        let (topic, partition) = (&self.at.0, self.at.1);
        let start = self
            .source
            .list_offset(topic, partition, When::Earliest, Isolation::ReadCommitted)
            .await?
            .offset;
        let end = self
            .source
            .list_offset(topic, partition, When::Latest, Isolation::ReadUncommitted)
            .await?
            .offset;
        if self.fresh && self.offset < start {
            self.offset = start;
            return Ok(true);
        }
        if self.offset >= start && self.offset <= end {
            return Ok(true);
        }
        let code = codes::TRANSLATED_SOURCE;
        let anomaly = if self.offset < start {
            format!(
                "{code}: the source no longer has offsets {} to {start} (exclusive)",
                self.offset
            )
        } else {
            format!(
                "{code}: the source ends at {end}, below {} which was copied",
                self.offset
            )
        };
        self.shared.stop(&self.at, anomaly);
        Ok(false)
    }
}
