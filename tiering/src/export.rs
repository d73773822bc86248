//! Partitions of a topic as a Parquet file: a derived copy for whoever asks questions with DuckDB, pyarrow and the
//! like. The log and the bucket stay the only truth.
//!
//! It reads as a consumer does, hot or cold, so markers are not in it, and aborted records only where they are asked
//! for. The file has its name only when it is complete and on the disk; what a run that died has left is overwritten
//! by the next one. Memory holds one answer of a broker, one batch of it, decompressed, and one row group.

mod file;
mod reads;
mod rows;
mod writer;

use std::{path::PathBuf, time::Duration};

use serde::Serialize;
use whimbrel_client::{Client, ClientError, Fetched, Isolation, Sieve};
use whimbrel_runtime::{Clock, Tasks};
use whimbrel_wire::RecordError;

use self::{file::Output, reads::Bounds};

#[derive(Clone, Debug)]
pub struct Export {
    pub topic: String,
    /// In the order in which the file has them.
    pub partitions: Vec<i32>,
    /// The log's start without it.
    pub from: Option<i64>,
    /// Exclusive; the end of what may be seen now without it.
    pub to: Option<i64>,
    pub isolation: Isolation,
    pub file: PathBuf,
    /// A file that is there is replaced.
    pub overwrite: bool,
    /// The longest time without a record: cold data has to be fetched first.
    pub patience: Duration,
}

/// How far it is, in offsets of all partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub done: u64,
    pub all: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    pub partitions: Vec<OfPartition>,
    /// Of the file.
    pub bytes: u64,
}

/// What the file has of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct OfPartition {
    pub partition: i32,
    pub from: i64,
    /// Exclusive.
    pub to: i64,
    pub records: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{topic}-{partition}, batch at offset {offset}: {source}")]
    Records {
        topic: String,
        partition: i32,
        offset: i64,
        source: RecordError,
    },
    #[error("{path}: {reason}", path = path.display())]
    Output { path: PathBuf, reason: String },
    #[error("{path} is there already", path = path.display())]
    Exists { path: PathBuf },
    #[error("offsets {from}..{to} are not in {topic}-{partition}, which holds {start}..{end}")]
    Bounds {
        topic: String,
        partition: i32,
        from: i64,
        to: i64,
        start: i64,
        end: i64,
    },
    /// Retention was faster.
    #[error(
        "{topic}-{partition}: offset {offset} has left the log, which begins at {start} now: export from there"
    )]
    Gone {
        topic: String,
        partition: i32,
        offset: i64,
        start: i64,
    },
    #[error("{topic}-{partition}: no record at or after offset {offset} came for {seconds} s{}", why(.last))]
    Stalled {
        topic: String,
        partition: i32,
        offset: i64,
        seconds: u64,
        last: Option<Box<ClientError>>,
    },
}

fn why(last: &Option<Box<ClientError>>) -> String {
    last.as_ref()
        .map(|error| format!(": {error}"))
        .unwrap_or_default()
}

/// Writes the file; `progress` is told after every answer of the broker.
pub async fn export(
    client: &Client,
    wish: &Export,
    tasks: &Tasks,
    clock: &Clock,
    mut progress: impl FnMut(Progress),
) -> Result<Exported, ExportError> {
    let (path, overwrite, topic) = (wish.file.clone(), wish.overwrite, wish.topic.clone());
    let create = move || Output::create(path, overwrite, &topic);
    let mut output = tasks.blocking(create).await?;
    // All ends are of one moment, before the first record is read.
    let mut all_bounds = Vec::new();
    for partition in &wish.partitions {
        all_bounds.push(Bounds::of(client, wish, *partition).await?);
    }
    let all = all_bounds.iter().map(Bounds::count).sum();
    let (mut before, mut partitions) = (0, Vec::new());
    for bounds in all_bounds {
        let mut work = Work::new(output, &wish.topic, bounds);
        while work.next < bounds.to {
            let partition = bounds.partition;
            let fetched = reads::answer(client, wish, clock, partition, work.next).await?;
            work = tasks.blocking(move || work.take(fetched)).await?;
            let done = before + bounds.count().min(work.next.abs_diff(bounds.from));
            progress(Progress { done, all });
        }
        before += bounds.count();
        partitions.push(OfPartition {
            partition: bounds.partition,
            from: bounds.from,
            to: bounds.to,
            records: work.records,
        });
        output = work.output;
    }
    Ok(Exported {
        partitions,
        bytes: tasks.blocking(move || output.finish()).await?,
    })
}

/// What is written of one partition, and how far.
#[derive(Debug)]
struct Work {
    output: Output,
    topic: String,
    bounds: Bounds,
    next: i64,
    records: u64,
}

impl Work {
    fn new(output: Output, topic: &str, bounds: Bounds) -> Self {
        Self {
            output,
            topic: topic.to_owned(),
            bounds,
            next: bounds.from,
            records: 0,
        }
    }

    /// Blocking: decompresses, compresses and writes.
    fn take(mut self, fetched: Fetched) -> Result<Self, ExportError> {
        let mut sieve = Sieve::new(fetched.aborted);
        let Bounds { partition, to, .. } = self.bounds;
        for batch in fetched.batches {
            let offset = batch.header.base_offset;
            let unreadable = |topic: &str, source| ExportError::Records {
                topic: topic.to_owned(),
                partition,
                offset,
                source,
            };
            let records = sieve.records(&batch);
            for record in records.map_err(|e| unreadable(&self.topic, e))? {
                let record = record.map_err(|e| unreadable(&self.topic, e))?;
                if (self.next..to).contains(&record.offset) {
                    self.output.push(partition, &record)?;
                    self.records += 1;
                }
            }
            self.next = self.next.max(batch.header.next_offset());
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests;
