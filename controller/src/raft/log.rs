//! openraft's log over the store, noting fences as they are appended.

use std::{
    fmt::Debug,
    ops::{Bound, RangeBounds},
    sync::Arc,
};

use openraft::{
    ErrorSubject, ErrorVerb, LogState, OptionalSend, RaftLogReader, StorageIOError,
    storage::{LogFlushed, RaftLogStorage},
};

use super::{
    COMMAND_BYTES, Entry, LogId, Pending, StorageError, Store, TypeConfig, Vote,
    store::{Failed, Job},
};

#[derive(Clone, Debug)]
pub(crate) struct LogStore {
    store: Store,
    pending: Arc<Pending>,
}

impl LogStore {
    pub(crate) fn new(store: Store, pending: Arc<Pending>) -> Self {
        Self { store, pending }
    }

    async fn read(&self, from: u64, to: u64, bytes: usize) -> Result<Vec<Entry>, StorageError> {
        self.store
            .run(|done| Job::Read {
                from,
                to,
                bytes,
                done,
            })
            .await
            .map_err(|e| failed(ErrorSubject::Logs, ErrorVerb::Read, &e))
    }
}

pub(super) fn failed(subject: ErrorSubject<u64>, verb: ErrorVerb, error: &Failed) -> StorageError {
    StorageIOError::new(subject, verb, openraft::AnyError::new(error)).into()
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let from = match range.start_bound() {
            Bound::Included(i) => *i,
            Bound::Excluded(i) => i.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(i) => i.saturating_add(1),
            Bound::Excluded(i) => *i,
            Bound::Unbounded => u64::MAX,
        };
        self.read(from, to, usize::MAX).await
    }

    /// What one message to a follower carries: openraft asks again for the rest.
    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        self.read(start, end, COMMAND_BYTES).await
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let ends = self.store.run(|done| Job::Ends { done }).await;
        let (last_purged_log_id, last_log_id) =
            ends.map_err(|e| failed(ErrorSubject::Logs, ErrorVerb::Read, &e))?;
        Ok(LogState {
            last_purged_log_id,
            last_log_id,
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let vote = *vote;
        self.store
            .run(|done| Job::SaveVote { vote, done })
            .await
            .map_err(|e| failed(ErrorSubject::Vote, ErrorVerb::Write, &e))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        self.store
            .run(|done| Job::ReadVote { done })
            .await
            .map_err(|e| failed(ErrorSubject::Vote, ErrorVerb::Read, &e))
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.store
            .send(Job::SaveCommitted { committed })
            .await
            .map_err(|e| failed(ErrorSubject::Logs, ErrorVerb::Write, &e))
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        self.store
            .run(|done| Job::ReadCommitted { done })
            .await
            .map_err(|e| failed(ErrorSubject::Logs, ErrorVerb::Read, &e))
    }

    async fn append<I>(
        &mut self,
        entries: I,
        flushed: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        for entry in &entries {
            self.pending.note(entry);
        }
        self.store
            .send(Job::Append { entries, flushed })
            .await
            .map_err(|e| failed(ErrorSubject::Logs, ErrorVerb::Write, &e))
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let from = log_id.index;
        self.store
            .run(|done| Job::Truncate { from, done })
            .await
            .map_err(|e| failed(ErrorSubject::Logs, ErrorVerb::Delete, &e))?;
        self.pending.truncate(from);
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        self.store
            .run(|done| Job::Purge { upto, done })
            .await
            .map_err(|e| failed(ErrorSubject::Logs, ErrorVerb::Delete, &e))
    }
}
