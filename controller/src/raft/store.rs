//! `controller.db`: vote, log, committed mark and the newest snapshot, in one sqlite file that one
//! thread writes.
//!
//! WAL with `synchronous = FULL`: a transaction is on the disk when its commit returns, and only then
//! is anything reported as written. The committed mark rides in the next transaction: it only spares
//! work after a restart. Snapshots are read through a second connection.

mod thread;

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags, OptionalExtension};
use tokio::sync::{mpsc, oneshot};

use super::{Entry, LogId, SnapshotMeta, Vote};

pub(crate) use thread::Job;

const FILE: &str = "controller.db";
/// Raised when the tables change in a way that an older program would misread.
const FORMAT: &str = "1";
/// Writes under way: openraft waits for each kind, so these are never many.
const QUEUE: usize = 256;

/// Why a data directory was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}: {source}", path.display())]
    Database {
        path: PathBuf,
        source: rusqlite::Error,
    },
    #[error("{} is open in another process", path.display())]
    Locked { path: PathBuf },
    #[error("{} belongs to {found}, this is {expected}", path.display())]
    Foreign {
        path: PathBuf,
        found: String,
        expected: String,
    },
    #[error("{} is empty and no bootstrap was given", path.display())]
    Empty { path: PathBuf },
    #[error("{} has format {found}; this program knows {FORMAT}", path.display())]
    Format { path: PathBuf, found: String },
    #[error("{}: {what} cannot be read: {source}", path.display())]
    Damaged {
        path: PathBuf,
        what: &'static str,
        source: serde_json::Error,
    },
}

/// The storage failed; what was asked for may or may not be on disk.
#[derive(Clone, Debug, thiserror::Error)]
#[error("controller.db: {0}")]
pub(crate) struct Failed(pub(crate) String);

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<serde_json::Error> for Failed {
    fn from(error: serde_json::Error) -> Self {
        Self(format!("unreadable row: {error}"))
    }
}

/// Handle to the writing thread. Clones share it; it ends with the last of them.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    jobs: mpsc::Sender<Job>,
    path: PathBuf,
}

/// What was found on disk.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) fleet_id: String,
    pub(crate) snapshot: Option<(SnapshotMeta, Vec<u8>)>,
    /// Entries above the snapshot, for the index of appended fences.
    pub(crate) entries: Vec<Entry>,
}

impl Store {
    /// Opens or creates the database of voter `voter` in `dir`. `fleet_id` names the fleet to create or
    /// to insist on; without one an existing database says which it is.
    pub(crate) fn open(
        dir: &Path,
        voter: u64,
        fleet_id: Option<&str>,
    ) -> Result<(Self, Found), OpenError> {
        let path = dir.join(FILE);
        let io = |source| OpenError::Io {
            path: path.clone(),
            source,
        };
        let database = |source| OpenError::Database {
            path: path.clone(),
            source,
        };
        std::fs::create_dir_all(dir).map_err(io)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join(".lock"))
            .map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(OpenError::Locked { path }),
            Err(std::fs::TryLockError::Error(source)) => return Err(io(source)),
        }
        let connection = Connection::open(&path).map_err(database)?;
        prepare(&connection).map_err(database)?;
        let fleet_id = identity(&connection, &path, voter, fleet_id)?;
        let found = read(&connection, &path, fleet_id)?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("controller-db".to_owned())
            .spawn(move || thread::run(connection, queue, lock))
            .map_err(io)?;
        Ok((Self { jobs, path }, found))
    }

    /// Hands a job to the thread and waits for its result.
    pub(crate) async fn run<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, Failed>>) -> Job,
    ) -> Result<T, Failed> {
        let (sender, result) = oneshot::channel();
        self.send(job(sender)).await?;
        result
            .await
            .map_err(|_| Failed("the writing thread is gone".to_owned()))?
    }

    /// Hands a job to the thread; jobs are done in this order.
    pub(crate) async fn send(&self, job: Job) -> Result<(), Failed> {
        self.jobs
            .send(job)
            .await
            .map_err(|_| Failed("the writing thread is gone".to_owned()))
    }

    /// The newest snapshot, through a connection of its own.
    pub(crate) async fn snapshot(&self) -> Result<Option<(SnapshotMeta, Vec<u8>)>, Failed> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || {
            let connection = Connection::open_with_flags(
                &path,
                OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
            )?;
            snapshot_row(&connection)
        });
        let Some((meta, data)) = read.await.map_err(|e| Failed(e.to_string()))?? else {
            return Ok(None);
        };
        Ok(Some((serde_json::from_slice(&meta)?, data)))
    }
}

fn prepare(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
         CREATE TABLE IF NOT EXISTS log (idx INTEGER PRIMARY KEY, entry BLOB NOT NULL);
         CREATE TABLE IF NOT EXISTS snapshot (id INTEGER PRIMARY KEY CHECK (id = 1), meta BLOB NOT NULL, data BLOB NOT NULL);",
    )
}

/// Checks whose database this is, or makes it this voter's.
fn identity(
    connection: &Connection,
    path: &Path,
    voter: u64,
    fleet_id: Option<&str>,
) -> Result<String, OpenError> {
    let database = |source| OpenError::Database {
        path: path.to_owned(),
        source,
    };
    let text = |key| -> Result<Option<String>, OpenError> {
        let value = meta(connection, key).map_err(database)?;
        Ok(value.map(|v| String::from_utf8_lossy(&v).into_owned()))
    };
    let Some(stored) = text("fleet_id")? else {
        let Some(fleet_id) = fleet_id else {
            return Err(OpenError::Empty {
                path: path.to_owned(),
            });
        };
        for (key, value) in [
            ("format", FORMAT),
            ("voter_id", &voter.to_string()),
            ("fleet_id", fleet_id),
        ] {
            set_meta(connection, key, value.as_bytes()).map_err(database)?;
        }
        return Ok(fleet_id.to_owned());
    };
    let format = text("format")?.unwrap_or_default();
    if format != FORMAT {
        return Err(OpenError::Format {
            path: path.to_owned(),
            found: format,
        });
    }
    let foreign = |found: String, expected: String| {
        Err(OpenError::Foreign {
            path: path.to_owned(),
            found,
            expected,
        })
    };
    if let Some(expected) = fleet_id
        && expected != stored
    {
        return foreign(format!("fleet {stored}"), format!("fleet {expected}"));
    }
    let stored_voter = text("voter_id")?.unwrap_or_default();
    if stored_voter != voter.to_string() {
        return foreign(format!("voter {stored_voter}"), format!("voter {voter}"));
    }
    Ok(stored)
}

fn read(connection: &Connection, path: &Path, fleet_id: String) -> Result<Found, OpenError> {
    let database = |source| OpenError::Database {
        path: path.to_owned(),
        source,
    };
    let damaged = |what| {
        move |source| OpenError::Damaged {
            path: path.to_owned(),
            what,
            source,
        }
    };
    let snapshot = match snapshot_row(connection).map_err(database)? {
        None => None,
        Some((meta, data)) => Some((
            serde_json::from_slice::<SnapshotMeta>(&meta).map_err(damaged("the snapshot"))?,
            data,
        )),
    };
    let applied = snapshot
        .as_ref()
        .and_then(|(meta, _)| meta.last_log_id)
        .map_or(0, |id| id.index);
    let mut entries = Vec::new();
    for text in entry_rows(connection, applied, u64::MAX, usize::MAX).map_err(database)? {
        entries.push(serde_json::from_slice(&text).map_err(damaged("a log entry"))?);
    }
    Ok(Found {
        fleet_id,
        snapshot,
        entries,
    })
}

fn meta(connection: &Connection, key: &str) -> Result<Option<Vec<u8>>, rusqlite::Error> {
    connection
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([key], |row| row.get(0))
        .optional()
}

fn set_meta(connection: &Connection, key: &str, value: &[u8]) -> Result<(), rusqlite::Error> {
    connection.prepare_cached("INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2")?.execute((key, value))?;
    Ok(())
}

/// Meta and data as they lie in the row.
type SnapshotRow = (Vec<u8>, Vec<u8>);

fn snapshot_row(connection: &Connection) -> Result<Option<SnapshotRow>, rusqlite::Error> {
    connection
        .prepare("SELECT meta, data FROM snapshot WHERE id = 1")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

/// Entries of `from..to` in order, at least one and then no more than `bytes`.
fn entry_rows(
    connection: &Connection,
    from: u64,
    to: u64,
    bytes: usize,
) -> Result<Vec<Vec<u8>>, rusqlite::Error> {
    let mut statement = connection
        .prepare_cached("SELECT entry FROM log WHERE idx >= ?1 AND idx < ?2 ORDER BY idx")?;
    let mut rows = statement.query((row_id(from), row_id(to)))?;
    let (mut entries, mut total) = (Vec::new(), 0_usize);
    while let Some(row) = rows.next()? {
        let entry: Vec<u8> = row.get(0)?;
        total = total.saturating_add(entry.len());
        if total > bytes && !entries.is_empty() {
            break;
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// Raft indexes are far below 2^63.
fn row_id(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_directory_of_another_fleet_or_voter_or_process_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            Store::open(dir.path(), 1, None),
            Err(OpenError::Empty { .. })
        ));
        let (store, _) = Store::open(dir.path(), 1, Some("f")).unwrap();
        assert!(matches!(
            Store::open(dir.path(), 1, Some("f")),
            Err(OpenError::Locked { .. })
        ));
        store
            .run(|done| Job::SaveVote {
                vote: Vote::new(3, 1),
                done,
            })
            .await
            .unwrap();
        assert_eq!(
            store.run(|done| Job::ReadVote { done }).await.unwrap(),
            Some(Vote::new(3, 1))
        );
        let path = store.path.clone();
        drop(store);
        // The thread gives the lock back when it has ended.
        let reopened = loop {
            match Store::open(dir.path(), 1, None) {
                Err(OpenError::Locked { .. }) => tokio::task::yield_now().await,
                other => break other.unwrap(),
            }
        };
        assert_eq!(reopened.1.fleet_id, "f");
        let connection = Connection::open(&path).unwrap();
        assert!(matches!(
            identity(&connection, &path, 1, Some("g")),
            Err(OpenError::Foreign { .. })
        ));
        assert!(matches!(
            identity(&connection, &path, 2, Some("f")),
            Err(OpenError::Foreign { .. })
        ));
        set_meta(&connection, "format", b"2").unwrap();
        assert!(matches!(
            identity(&connection, &path, 1, Some("f")),
            Err(OpenError::Format { .. })
        ));
    }
}
