//! The life of one transactional id: pure, no clock, no IO.
//!
//! An operation says what is to be answered, and whether a new record has to be durable first. Between the two the
//! record is *pending*, and everybody else is told CONCURRENT_TRANSACTIONS. Rules and codes are those of Kafka's
//! transaction coordinator (KIP-98, 360, 447, 588, 890) as clients observe them.
//!
//! Invariants:
//! - A producer that was fenced never changes anything again: every change needs the id and epoch of the record.
//! - Epochs of an id rise; when they run out the id is replaced and epochs begin again at 0.
//! - An id whose newest record a lossy move left *stale* does nothing for the producer that had it: more of its past
//!   may be lost. It is told so, in words that clients recover from, until it takes a new producer id.
//! - A transaction that was prepared ends as it was prepared, and in no other way.

mod end;
mod init;
mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use whimbrel_wire::ErrorCode;

use super::Places;
use crate::group::offsets::TopicPartition;

pub use init::Recovery;
pub use record::{Producer, Record, State};

/// No producer, or none before.
pub const NO_PRODUCER: i64 = -1;
/// Before the first epoch, or unknown.
pub const NO_EPOCH: i16 = -1;
/// Clients that use `transaction.version` 2 get a new epoch with every transaction.
pub const BUMPS_EPOCH: i16 = 2;
/// The last epoch that a producer is given: fencing it needs one more.
const LAST_EPOCH: i16 = i16::MAX - 1;

/// The two clocks, ms. Deadlines run on the monotonic one, so that a stepped wall clock aborts nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    pub mono_ms: i64,
    pub wall_ms: i64,
}

/// What is to be done about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Answer now.
    Answer(Result<Producer, ErrorCode>),
    /// Make [`Transaction::pending`] durable, then answer.
    Write(Result<Producer, ErrorCode>),
    /// Ask again with a new producer id.
    NeedsProducerId,
}

impl Step {
    fn refuse(error: ErrorCode) -> Self {
        Self::Answer(Err(error))
    }
}

/// A transactional id with what is durable of it and what is on its way there.
#[derive(Clone, Debug)]
pub struct Transaction {
    record: Record,
    pending: Option<Record>,
    /// When an ongoing transaction is aborted, on the monotonic clock.
    deadline_ms: Option<i64>,
    /// What its producer did last may have been lost.
    stale: bool,
    /// What the ongoing transaction lies above, where partitions have said so.
    above: Places,
}

impl Transaction {
    /// An id seen for the first time. Nothing of it is durable, and it has no epoch yet.
    #[must_use]
    pub fn new(producer_id: i64, timeout_ms: i32, now: Now) -> Self {
        let producer = Producer {
            id: producer_id,
            epoch: NO_EPOCH,
        };
        Self {
            record: Record::empty(producer, timeout_ms, now.wall_ms),
            pending: None,
            deadline_ms: None,
            stale: false,
            above: Places::new(),
        }
    }

    /// An id as the log knows it; `stale` if a lossy move came after its newest record.
    #[must_use]
    pub fn restore(record: Record, stale: bool, now: Now) -> Self {
        let mut restored = Self {
            record,
            pending: None,
            deadline_ms: None,
            stale,
            above: Places::new(),
        };
        restored.set_deadline(now);
        restored
    }

    /// What is durable.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// What is to become durable.
    #[must_use]
    pub fn pending(&self) -> Option<&Record> {
        self.pending.as_ref()
    }

    /// True while nothing of it was ever durable.
    #[must_use]
    pub fn is_unwritten(&self) -> bool {
        self.record.producer.epoch == NO_EPOCH
    }

    /// The pending record is durable. True if markers are to be written now.
    pub fn written(&mut self, now: Now) -> bool {
        let Some(record) = self.pending.take() else {
            return false;
        };
        let before = std::mem::replace(&mut self.record, record);
        // Nobody who had the old one can be mistaken for who has the new one.
        self.stale &= self.record.producer.id == before.producer.id;
        if self.record.state != State::Ongoing || before.state != State::Ongoing {
            self.set_deadline(now);
            self.above.clear();
        }
        self.record.state.is_prepared()
    }

    /// It is certain that the pending record was not written.
    pub fn dropped(&mut self) {
        self.pending = None;
    }

    /// Puts partitions into the transaction and begins it if need be. `version` is the client's.
    pub fn add(
        &mut self,
        who: Producer,
        partitions: BTreeSet<TopicPartition>,
        version: i16,
        now: Now,
    ) -> Step {
        if self.stale {
            return Step::refuse(ErrorCode::UNKNOWN_PRODUCER_ID);
        }
        // First of all: the pending record may be of another producer id.
        if self.pending.is_some() {
            return Step::refuse(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        if let Err(error) = self.check(who) {
            return Step::refuse(error);
        }
        let ongoing = self.record.state == State::Ongoing;
        if ongoing && partitions.is_subset(&self.record.partitions) {
            return Step::Answer(Ok(who));
        }
        let mut record = Record {
            state: State::Ongoing,
            updated_ms: now.wall_ms,
            client_version: version,
            ..self.record.clone()
        };
        if !ongoing {
            record.started_ms = now.wall_ms;
        }
        record.partitions.extend(partitions);
        self.pending = Some(record);
        Step::Write(Ok(who))
    }

    /// Whether the partition is part of the producer's transaction; what is pending does not count. Nothing of the
    /// transaction lies below `above` there (0: not known), which is kept for its end.
    ///
    /// # Errors
    /// TRANSACTION_ABORTABLE if it is not, UNKNOWN_PRODUCER_ID if the id is stale, or why the producer is not heard.
    pub fn verify(
        &mut self,
        who: Producer,
        partition: &TopicPartition,
        above: i64,
    ) -> Result<(), ErrorCode> {
        if self.stale {
            return Err(ErrorCode::UNKNOWN_PRODUCER_ID);
        }
        self.check(who)?;
        if self.record.state == State::Ongoing && self.record.partitions.contains(partition) {
            // Whoever asked first may have asked for less; more may be too much.
            let lowest = self.above.entry(partition.clone()).or_insert(above);
            *lowest = above.min(*lowest);
            Ok(())
        } else {
            Err(ErrorCode::TRANSACTION_ABORTABLE)
        }
    }

    fn check(&self, who: Producer) -> Result<(), ErrorCode> {
        if self.is_unwritten() || self.record.producer.id != who.id {
            Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING)
        } else if self.record.producer.epoch != who.epoch {
            Err(ErrorCode::PRODUCER_FENCED)
        } else if self.record.state.is_prepared() {
            Err(ErrorCode::CONCURRENT_TRANSACTIONS)
        } else {
            Ok(())
        }
    }

    /// True if nobody has used the id for so long that it may be forgotten.
    #[must_use]
    pub fn is_expired(&self, retention_ms: i64, now: Now) -> bool {
        let idle = matches!(
            self.record.state,
            State::Empty | State::CompleteCommit | State::CompleteAbort
        );
        idle && self.pending.is_none()
            && now.wall_ms.saturating_sub(self.record.updated_ms) >= retention_ms
    }

    /// True if the ongoing transaction has taken longer than its producer allowed.
    #[must_use]
    pub fn is_overdue(&self, now: Now) -> bool {
        // What a stale one has open is ended by the partitions themselves.
        !self.stale
            && self.pending.is_none()
            && self.deadline_ms.is_some_and(|at| at <= now.mono_ms)
    }

    /// After a restart the time before it counts as the wall clock tells, but never for more than the timeout.
    fn set_deadline(&mut self, now: Now) {
        self.deadline_ms = (self.record.state == State::Ongoing).then(|| {
            let timeout_ms = i64::from(self.record.timeout_ms);
            let passed_ms = now.wall_ms.saturating_sub(self.record.started_ms);
            now.mono_ms.saturating_add(
                timeout_ms
                    .saturating_sub(passed_ms)
                    .clamp(0, timeout_ms.max(0)),
            )
        });
    }
}
