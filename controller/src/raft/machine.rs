//! openraft's state machine: the fleet's state in memory, snapshots of it in the store.
//!
//! The state itself is not written at every command: the log has it. A restart begins at the newest
//! snapshot and applies the log again. Each applied batch publishes one new state, then forgets the
//! pending fences it includes.

use std::sync::Arc;

use openraft::{
    EntryPayload, ErrorSubject, ErrorVerb, OptionalSend, RaftSnapshotBuilder, Snapshot,
    StorageIOError, storage::RaftStateMachine,
};
use tokio::sync::watch;

use super::{
    Entry, LogId, Membership, Pending, SnapshotMeta, StorageError, Store, TypeConfig, log::failed,
    store::Job,
};
use crate::state::{Applied, Outcome, State};

#[derive(Clone, Debug)]
pub(crate) struct Machine {
    store: Store,
    pending: Arc<Pending>,
    state: State,
    applied: Option<LogId>,
    membership: Membership,
    published: watch::Sender<Arc<State>>,
}

impl Machine {
    /// The state in `snapshot`, or an empty one.
    pub(crate) fn load(
        store: Store,
        pending: Arc<Pending>,
        snapshot: Option<(SnapshotMeta, Vec<u8>)>,
    ) -> Result<Self, serde_json::Error> {
        let (published, _) = watch::channel(Arc::default());
        let mut machine = Self {
            store,
            pending,
            state: State::default(),
            applied: None,
            membership: Membership::default(),
            published,
        };
        if let Some((meta, data)) = snapshot {
            machine.take(&meta, serde_json::from_slice(&data)?);
        }
        Ok(machine)
    }

    /// The newest applied state.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<State>> {
        self.published.subscribe()
    }

    fn take(&mut self, meta: &SnapshotMeta, state: State) {
        self.state = state;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.publish();
    }

    fn publish(&self) {
        self.published.send_replace(Arc::new(self.state.clone()));
        if let Some(applied) = self.applied {
            self.pending.applied(applied.index);
        }
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), StorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut answers = Vec::new();
        for entry in entries {
            let index = entry.log_id.index;
            self.applied = Some(entry.log_id);
            answers.push(match entry.payload {
                EntryPayload::Normal(command) => {
                    tracing::debug!(index, %command, "applied");
                    self.state.apply(index, command)
                }
                EntryPayload::Membership(membership) => {
                    self.membership = Membership::new(Some(entry.log_id), membership);
                    Applied {
                        version: self.state.view.version,
                        outcome: Outcome::Done,
                    }
                }
                EntryPayload::Blank => Applied {
                    version: self.state.view.version,
                    outcome: Outcome::Done,
                },
            });
        }
        self.publish();
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Vec<u8>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Vec<u8>>,
    ) -> Result<(), StorageError> {
        let subject = || ErrorSubject::Snapshot(Some(meta.signature()));
        let state = serde_json::from_slice(&snapshot).map_err(|e| {
            StorageIOError::new(subject(), ErrorVerb::Read, openraft::AnyError::new(&e))
        })?;
        let (kept, data) = (meta.clone(), *snapshot);
        let saved = self
            .store
            .run(|done| Job::SaveSnapshot {
                meta: kept,
                data,
                done,
            })
            .await;
        saved.map_err(|e| failed(subject(), ErrorVerb::Write, &e))?;
        self.take(meta, state);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        let found = self
            .store
            .snapshot()
            .await
            .map_err(|e| failed(ErrorSubject::Snapshot(None), ErrorVerb::Read, &e))?;
        Ok(found.map(|(meta, data)| Snapshot {
            meta,
            snapshot: Box::new(data),
        }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Machine {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let index = self.applied.map_or(0, |id| id.index);
        let meta = SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
            snapshot_id: format!("{index}"),
        };
        let subject = || ErrorSubject::Snapshot(Some(meta.signature()));
        let data = serde_json::to_vec(&self.state).map_err(|e| {
            StorageIOError::new(subject(), ErrorVerb::Write, openraft::AnyError::new(&e))
        })?;
        let (kept, bytes) = (meta.clone(), data.clone());
        let saved = self
            .store
            .run(|done| Job::SaveSnapshot {
                meta: kept,
                data: bytes,
                done,
            })
            .await;
        saved.map_err(|e| failed(subject(), ErrorVerb::Write, &e))?;
        Ok(Snapshot {
            meta,
            snapshot: Box::new(data),
        })
    }
}
