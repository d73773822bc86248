//! One partition's transactional ids.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use whimbrel_wire::ErrorCode;

use super::{
    super::machine::{Now, Producer, Record, Step, Transaction},
    Options,
};

type Answer = Result<Producer, ErrorCode>;

/// What came of a question to an id's machine.
pub(super) enum Outcome {
    Answer(Answer),
    /// Until the record is durable.
    Waits(oneshot::Receiver<Answer>),
    NeedsProducerId,
}

/// What waits to be written, in order. An id stands here at most twice.
pub(super) enum Work {
    /// The id's pending record.
    Pending {
        id: String,
        answer: Answer,
        reply: Option<oneshot::Sender<Answer>>,
    },
    /// Its removal.
    Forget { id: String },
}

pub(super) struct Shard {
    partition: i32,
    epoch: i32,
    pub(super) stale_below: Option<i64>,
    state: Mutex<Contents>,
    /// Something was queued, or the shard was closed.
    pub(super) stirred: Notify,
    /// A transaction is complete, or all is over.
    pub(super) settled: Notify,
}

#[derive(Default)]
pub(super) struct Contents {
    active: bool,
    closed: bool,
    /// Raised with every load: what was begun before it means nothing after it.
    generation: u64,
    pub(super) transactions: HashMap<String, Transaction>,
    pub(super) queue: VecDeque<Work>,
}

impl Shard {
    pub(super) fn new(partition: i32, epoch: i32, stale_below: Option<i64>) -> Self {
        Self {
            partition,
            epoch,
            stale_below,
            state: Mutex::default(),
            stirred: Notify::new(),
            settled: Notify::new(),
        }
    }

    pub(super) fn partition(&self) -> i32 {
        self.partition
    }

    pub(super) fn epoch(&self) -> i32 {
        self.epoch
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.state.lock().active
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    pub(super) fn contents<T>(&self, look: impl FnOnce(&mut Contents) -> T) -> T {
        look(&mut self.state.lock())
    }

    /// The log was read: each id's record, and whether it is stale. Returns the generation and the ids whose markers are to be written.
    pub(super) fn open(
        &self,
        loaded: HashMap<String, (Record, bool)>,
        now: Now,
    ) -> (u64, Vec<String>) {
        let mut state = self.state.lock();
        if state.closed {
            return (state.generation, Vec::new());
        }
        state.transactions = loaded
            .into_iter()
            .map(|(id, (record, stale))| (id, Transaction::restore(record, stale, now)))
            .collect();
        state.active = true;
        let prepared = state
            .transactions
            .iter()
            .filter(|(_, transaction)| transaction.record().state.is_prepared())
            .map(|(id, _)| id.clone());
        (state.generation, prepared.collect())
    }

    /// The outcome of a write is unknown: everybody is sent away until the log was read again.
    pub(super) fn suspend(&self, error: ErrorCode) {
        self.state.lock().empty(error);
        self.settled.notify_waiters();
    }

    /// The leadership is over.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.empty(ErrorCode::NOT_COORDINATOR);
        drop(state);
        self.stirred.notify_one();
        self.settled.notify_waiters();
    }

    pub(super) fn look<T>(&self, id: &str, look: impl FnOnce(&mut Transaction) -> T) -> Option<T> {
        self.state.lock().transactions.get_mut(id).map(look)
    }

    pub(super) fn list(&self) -> Vec<(String, Record)> {
        let state = self.state.lock();
        state
            .transactions
            .iter()
            .filter(|(_, transaction)| !transaction.is_unwritten())
            .map(|(id, transaction)| (id.clone(), transaction.record().clone()))
            .collect()
    }

    /// Asks an id's machine, which is made first if `creates` says so.
    pub(super) fn ask(
        &self,
        id: &str,
        creates: Option<i32>,
        fresh: Option<i64>,
        options: &Options,
        now: Now,
        ask: impl FnOnce(&mut Transaction, Option<i64>, Now) -> Step,
    ) -> Outcome {
        let mut state = self.state.lock();
        if !state.active {
            return Outcome::Answer(Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS));
        }
        if !state.transactions.contains_key(id) {
            let Some(timeout_ms) = creates else {
                return Outcome::Answer(Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING));
            };
            if state.transactions.len() >= options.max_ids {
                return Outcome::Answer(Err(ErrorCode::COORDINATOR_NOT_AVAILABLE));
            }
            let Some(producer_id) = fresh else {
                return Outcome::NeedsProducerId;
            };
            let transaction = Transaction::new(producer_id, timeout_ms, now);
            state.transactions.insert(id.to_owned(), transaction);
        }
        let Some(transaction) = state.transactions.get_mut(id) else {
            return Outcome::Answer(Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING));
        };
        match ask(transaction, fresh, now) {
            Step::Answer(answer) => Outcome::Answer(answer),
            Step::NeedsProducerId => Outcome::NeedsProducerId,
            Step::Write(answer) => {
                let (reply, waits) = oneshot::channel();
                state.queue.push_back(Work::Pending {
                    id: id.to_owned(),
                    answer,
                    reply: Some(reply),
                });
                drop(state);
                self.stirred.notify_one();
                Outcome::Waits(waits)
            }
        }
    }

    /// All markers of a transaction are written; nothing if that was in another generation.
    pub(super) fn complete(&self, id: &str, generation: u64, now: Now) {
        let mut state = self.state.lock();
        if state.generation != generation {
            return;
        }
        let Some(transaction) = state.transactions.get_mut(id) else {
            return;
        };
        if transaction.complete(now) {
            let answer = Ok(transaction.record().producer);
            state.push(id, answer);
            drop(state);
            self.stirred.notify_one();
        }
    }

    /// Where the markers of a prepared transaction still go, if it is that of this generation.
    pub(super) fn prepared(&self, id: &str, generation: u64) -> Option<Record> {
        let state = self.state.lock();
        let record = state.transactions.get(id)?.record();
        (state.generation == generation && record.state.is_prepared()).then(|| record.clone())
    }

    /// Returns once it is durable that the transaction is complete, or it is this generation's no more.
    pub(super) async fn completed(&self, id: &str, generation: u64) {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            let waits = self.contents(|contents| {
                let transaction = contents.transactions.get(id);
                contents.generation == generation
                    && transaction
                        .is_some_and(|t| t.record().state.is_prepared() && t.pending().is_some())
            });
            if !waits {
                return;
            }
            settled.await;
        }
    }

    /// Aborts what takes too long.
    pub(super) fn time_out(&self, now: Now) {
        let mut state = self.state.lock();
        let overdue = |transaction: &Transaction| transaction.is_overdue(now);
        let late: Vec<_> = state.ids(overdue);
        for id in &late {
            if let Some(Step::Write(answer)) =
                state.transactions.get_mut(id).map(|t| t.time_out(now))
            {
                tracing::info!(
                    transactional_id = id,
                    "a transaction took too long: aborted"
                );
                state.push(id, answer);
            }
        }
        drop(state);
        if !late.is_empty() {
            self.stirred.notify_one();
        }
    }

    /// Removes ids that nobody has used for long.
    pub(super) fn forget_expired(&self, retention_ms: i64, now: Now) {
        let mut state = self.state.lock();
        for id in state.ids(|transaction| transaction.is_expired(retention_ms, now)) {
            state.queue.push_back(Work::Forget { id });
        }
        drop(state);
        self.stirred.notify_one();
    }
}

impl Contents {
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    fn ids(&self, which: impl Fn(&Transaction) -> bool) -> Vec<String> {
        let found = self.transactions.iter().filter(|(_, t)| which(t));
        found.map(|(id, _)| id.clone()).collect()
    }

    fn push(&mut self, id: &str, answer: Answer) {
        self.queue.push_back(Work::Pending {
            id: id.to_owned(),
            answer,
            reply: None,
        });
    }

    fn empty(&mut self, error: ErrorCode) {
        self.active = false;
        self.generation = self.generation.saturating_add(1);
        self.transactions.clear();
        for work in std::mem::take(&mut self.queue) {
            work.answer(Some(error));
        }
    }
}

impl Work {
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Pending { id, .. } | Self::Forget { id } => id,
        }
    }

    /// Tells whoever waits how it ended; a client that hung up meanwhile needs no answer.
    pub(super) fn answer(self, error: Option<ErrorCode>) {
        if let Self::Pending {
            answer,
            reply: Some(reply),
            ..
        } = self
        {
            let _ = reply.send(error.map_or(answer, Err));
        }
    }
}
