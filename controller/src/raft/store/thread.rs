//! The thread that owns the writing connection: jobs one after another, each its own transaction.

use std::fs::File;

use openraft::storage::LogFlushed;
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::{Entry, Failed, LogId, SnapshotMeta, Vote, entry_rows, meta, row_id, set_meta};
use crate::raft::TypeConfig;

type Done<T> = oneshot::Sender<Result<T, Failed>>;

pub(crate) enum Job {
    SaveVote {
        vote: Vote,
        done: Done<()>,
    },
    ReadVote {
        done: Done<Option<Vote>>,
    },
    /// Remembered, and written with the next transaction.
    SaveCommitted {
        committed: Option<LogId>,
    },
    ReadCommitted {
        done: Done<Option<LogId>>,
    },
    Append {
        entries: Vec<Entry>,
        flushed: LogFlushed<TypeConfig>,
    },
    Read {
        from: u64,
        to: u64,
        bytes: usize,
        done: Done<Vec<Entry>>,
    },
    /// (last purged, last present)
    Ends {
        done: Done<(Option<LogId>, Option<LogId>)>,
    },
    Truncate {
        from: u64,
        done: Done<()>,
    },
    Purge {
        upto: LogId,
        done: Done<()>,
    },
    SaveSnapshot {
        meta: SnapshotMeta,
        data: Vec<u8>,
        done: Done<()>,
    },
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Job")
    }
}

struct Writer {
    connection: Connection,
    committed: Option<LogId>,
    committed_is_new: bool,
}

/// Works until the last sender is gone, then gives the lock back.
pub(super) fn run(connection: Connection, mut queue: mpsc::Receiver<Job>, lock: File) {
    let mut writer = Writer {
        connection,
        committed: None,
        committed_is_new: false,
    };
    while let Some(job) = queue.blocking_recv() {
        writer.work(job);
    }
    if let Err(error) = writer.write(|_| Ok(())) {
        tracing::warn!(%error, "the committed mark was not written");
    }
    drop(writer);
    drop(lock);
}

impl Writer {
    fn work(&mut self, job: Job) {
        // A caller that is gone needs no answer.
        match job {
            Job::SaveVote { vote, done } => drop(done.send(self.write(|c| put(c, "vote", &vote)))),
            Job::ReadVote { done } => drop(done.send(self.get("vote"))),
            Job::SaveCommitted { committed } => {
                self.committed = committed;
                self.committed_is_new = true;
            }
            Job::ReadCommitted { done } => drop(done.send(self.get::<Option<LogId>>("committed").map(Option::flatten))),
            Job::Append { entries, flushed } => {
                let result = self.write(|c| append(c, &entries));
                if let Err(error) = &result {
                    tracing::error!(%error, "appending to the raft log failed");
                }
                flushed.log_io_completed(result.map_err(std::io::Error::other));
            }
            Job::Read { from, to, bytes, done } => drop(done.send(self.entries(from, to, bytes))),
            Job::Ends { done } => drop(done.send(self.ends())),
            Job::Truncate { from, done } => drop(done.send(self.write(|c| {
                c.prepare_cached("DELETE FROM log WHERE idx >= ?1")?.execute([row_id(from)])?;
                Ok(())
            }))),
            Job::Purge { upto, done } => drop(done.send(self.write(|c| {
                put(c, "purged", &upto)?;
                c.prepare_cached("DELETE FROM log WHERE idx <= ?1")?.execute([row_id(upto.index)])?;
                Ok(())
            }))),
            Job::SaveSnapshot { meta, data, done } => drop(done.send(self.write(|c| {
                let meta = serde_json::to_vec(&meta)?;
                c.execute("INSERT INTO snapshot (id, meta, data) VALUES (1, ?1, ?2) ON CONFLICT (id) DO UPDATE SET meta = ?1, data = ?2", (meta, data))?;
                Ok(())
            }))),
        }
    }

    /// One transaction, on disk when this returns `Ok`.
    fn write(
        &mut self,
        work: impl FnOnce(&Connection) -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        work(&transaction)?;
        if self.committed_is_new {
            put(&transaction, "committed", &self.committed)?;
        }
        transaction.commit()?;
        self.committed_is_new = false;
        Ok(())
    }

    fn get<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Failed> {
        Ok(meta(&self.connection, key)?
            .map(|text| serde_json::from_slice(&text))
            .transpose()?)
    }

    fn entries(&self, from: u64, to: u64, bytes: usize) -> Result<Vec<Entry>, Failed> {
        let rows = entry_rows(&self.connection, from, to, bytes)?;
        rows.iter()
            .map(|text| Ok(serde_json::from_slice(text)?))
            .collect()
    }

    fn ends(&self) -> Result<(Option<LogId>, Option<LogId>), Failed> {
        let purged: Option<LogId> = self.get("purged")?;
        let mut statement = self
            .connection
            .prepare_cached("SELECT entry FROM log ORDER BY idx DESC LIMIT 1")?;
        let mut rows = statement.query([])?;
        let last = match rows.next()? {
            None => purged,
            Some(row) => Some(serde_json::from_slice::<Entry>(&row.get::<_, Vec<u8>>(0)?)?.log_id),
        };
        Ok((purged, last))
    }
}

fn put(connection: &Connection, key: &str, value: &impl serde::Serialize) -> Result<(), Failed> {
    Ok(set_meta(connection, key, &serde_json::to_vec(value)?)?)
}

fn append(connection: &Connection, entries: &[Entry]) -> Result<(), Failed> {
    let mut statement =
        connection.prepare_cached("INSERT OR REPLACE INTO log (idx, entry) VALUES (?1, ?2)")?;
    for entry in entries {
        statement.execute((row_id(entry.log_id.index), serde_json::to_vec(entry)?))?;
    }
    Ok(())
}
