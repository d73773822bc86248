//! EndTxn, timeouts, and what follows the markers.

use whimbrel_wire::ErrorCode;

use super::{
    BUMPS_EPOCH, LAST_EPOCH, NO_EPOCH, NO_PRODUCER, Now, Producer, Record, State, Step, Transaction,
};

impl Transaction {
    /// Commits or aborts for a client that keeps its epoch from one transaction to the next.
    pub fn end(&mut self, who: Producer, commit: bool, now: Now) -> Step {
        if self.stale {
            // Partitions abort what they have of it, so an abort is as good as done.
            let aborted = if commit {
                Err(ErrorCode::UNKNOWN_PRODUCER_ID)
            } else {
                Ok(who)
            };
            return Step::Answer(aborted);
        }
        if self.is_unwritten() || self.record.producer.id != who.id {
            return Step::refuse(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        }
        if self.record.producer.epoch != who.epoch {
            return Step::refuse(ErrorCode::PRODUCER_FENCED);
        }
        if self.pending.is_some() {
            return Step::refuse(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        match self.record.state {
            State::Ongoing => {
                self.pending = Some(self.prepared(commit, 0, NO_PRODUCER, now));
                Step::Write(Ok(who))
            }
            // The answer was lost: it is what it was.
            State::CompleteCommit if commit => Step::Answer(Ok(who)),
            State::CompleteAbort if !commit => Step::Answer(Ok(who)),
            State::PrepareCommit if commit => Step::refuse(ErrorCode::CONCURRENT_TRANSACTIONS),
            State::PrepareAbort if !commit => Step::refuse(ErrorCode::CONCURRENT_TRANSACTIONS),
            _ => Step::refuse(ErrorCode::INVALID_TXN_STATE),
        }
    }

    /// Commits or aborts for a client that gets a new epoch with every transaction (KIP-890): the epoch tells a
    /// repeated request from one about the next transaction. `fresh` is a new producer id, if asked for.
    pub fn end_and_bump(
        &mut self,
        who: Producer,
        commit: bool,
        fresh: Option<i64>,
        now: Now,
    ) -> Step {
        let current = self.record.producer;
        let over_the_end =
            self.record.previous_id == who.id && who.epoch == LAST_EPOCH && current.epoch == 0;
        let bumped = current.id == who.id && who.epoch.checked_add(1) == Some(current.epoch);
        let repeated = bumped || over_the_end;
        if self.stale && commit {
            return Step::refuse(ErrorCode::UNKNOWN_PRODUCER_ID);
        }
        if self.pending.is_some() {
            return Step::refuse(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        if self.stale {
            return self.renew(self.record.timeout_ms, fresh, now);
        }
        if self.is_unwritten() || (current.id != who.id && !over_the_end) {
            return Step::refuse(ErrorCode::INVALID_PRODUCER_ID_MAPPING);
        }
        let is_current = !over_the_end && who.epoch == current.epoch;
        let heard = match self.record.state {
            State::Ongoing | State::Empty => is_current,
            State::PrepareCommit | State::PrepareAbort => bumped || is_current,
            State::CompleteCommit | State::CompleteAbort => repeated || is_current,
        };
        if !heard {
            return Step::refuse(ErrorCode::PRODUCER_FENCED);
        }
        match (self.record.state, commit) {
            // The next transaction, aborted before anything of it came here, while the last one's markers are being
            // written: a little later it can be.
            (State::PrepareCommit | State::PrepareAbort, _) if is_current => {
                Step::refuse(ErrorCode::CONCURRENT_TRANSACTIONS)
            }
            (State::Ongoing, _) => self.end_with_bump(commit, fresh, now),
            (State::CompleteCommit, true) | (State::CompleteAbort, false) if repeated => {
                Step::Answer(Ok(current))
            }
            // An abort of a transaction that has no partition yet.
            (State::Empty | State::CompleteCommit | State::CompleteAbort, false) if !repeated => {
                self.end_with_bump(false, fresh, now)
            }
            (State::PrepareCommit, true) | (State::PrepareAbort, false) => {
                Step::refuse(ErrorCode::CONCURRENT_TRANSACTIONS)
            }
            _ => Step::refuse(ErrorCode::INVALID_TXN_STATE),
        }
    }

    fn end_with_bump(&mut self, commit: bool, fresh: Option<i64>, now: Now) -> Step {
        let exhausted = self.record.producer.epoch >= LAST_EPOCH;
        let next_id = match fresh {
            Some(id) if exhausted => id,
            None if exhausted => return Step::NeedsProducerId,
            _ => NO_PRODUCER,
        };
        let prepared = self.prepared(commit, BUMPS_EPOCH, next_id, now);
        let answer = if next_id == NO_PRODUCER {
            prepared.producer
        } else {
            Producer {
                id: next_id,
                epoch: 0,
            }
        };
        self.pending = Some(prepared);
        Step::Write(Ok(answer))
    }

    /// Aborts a transaction that took too long, and fences its producer.
    pub fn time_out(&mut self, now: Now) -> Step {
        if !self.is_overdue(now) {
            return Step::refuse(ErrorCode::INVALID_TXN_STATE);
        }
        let fenced = self.fenced(now);
        let answer = Ok(fenced.producer);
        self.pending = Some(fenced);
        Step::Write(answer)
    }

    /// All markers are written.
    pub fn complete(&mut self, now: Now) -> bool {
        let state = match self.record.state {
            State::PrepareCommit => State::CompleteCommit,
            State::PrepareAbort => State::CompleteAbort,
            _ => return false,
        };
        if self.pending.is_some() {
            return false;
        }
        let mut record = Record {
            state,
            updated_ms: now.wall_ms,
            next_id: NO_PRODUCER,
            ..self.record.clone()
        };
        record.partitions.clear();
        record.above.clear();
        if self.stale {
            // After this record a restart no longer sees that it is stale: its producer must be fenced then.
            record.producer.epoch = record.producer.epoch.saturating_add(1);
        }
        if self.record.next_id != NO_PRODUCER {
            record.previous_id = self.record.producer.id;
            record.producer = Producer {
                id: self.record.next_id,
                epoch: 0,
            };
        }
        self.pending = Some(record);
        true
    }

    /// Aborted under an epoch that its producer does not have.
    pub(super) fn fenced(&self, now: Now) -> Record {
        let mut record = self.prepared(false, self.record.client_version, NO_PRODUCER, now);
        record.producer.epoch = record.producer.epoch.saturating_add(1);
        record.last_epoch = NO_EPOCH;
        record
    }

    fn prepared(&self, commit: bool, version: i16, next_id: i64, now: Now) -> Record {
        let mut record = Record {
            state: if commit {
                State::PrepareCommit
            } else {
                State::PrepareAbort
            },
            updated_ms: now.wall_ms,
            client_version: version,
            next_id,
            ..self.record.clone()
        };
        if self.record.state != State::Ongoing {
            record.started_ms = now.wall_ms;
        }
        if commit && version < BUMPS_EPOCH {
            record.above.clone_from(&self.above);
        }
        if version >= BUMPS_EPOCH {
            record.last_epoch = record.producer.epoch;
            record.producer.epoch = record.producer.epoch.saturating_add(1);
        }
        record
    }
}
