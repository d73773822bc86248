//! What is durable of a transactional id.

use std::collections::BTreeSet;

use super::{NO_EPOCH, NO_PRODUCER};
use crate::{group::offsets::TopicPartition, txn::Places};

/// A producer id in one of its epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
}

/// Kafka's states of a transaction; `PrepareEpochFence` is never durable there and does not exist here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// No transaction yet.
    Empty,
    /// Partitions were added.
    Ongoing,
    /// Committed; markers are being written.
    PrepareCommit,
    /// Aborted; markers are being written.
    PrepareAbort,
    /// Committed, all markers written.
    CompleteCommit,
    /// Aborted, all markers written.
    CompleteAbort,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
    ];

    /// Kafka's number in the log.
    #[must_use]
    pub fn id(self) -> i8 {
        match self {
            Self::Empty => 0,
            Self::Ongoing => 1,
            Self::PrepareCommit => 2,
            Self::PrepareAbort => 3,
            Self::CompleteCommit => 4,
            Self::CompleteAbort => 5,
        }
    }

    /// The state with this number.
    #[must_use]
    pub fn from_id(id: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.id() == id)
    }

    /// Kafka's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }

    /// True while markers are being written.
    #[must_use]
    pub fn is_prepared(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::PrepareAbort)
    }
}

/// A transactional id's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub producer: Producer,
    /// The producer id before the epochs ran out, for a client that did not hear of the new one.
    pub previous_id: i64,
    /// The producer id that takes over when the markers are written, because the epochs ran out.
    pub next_id: i64,
    /// The epoch before this one, for a client that did not hear of it. Not durable, as in Kafka.
    pub last_epoch: i16,
    pub timeout_ms: i32,
    pub state: State,
    pub partitions: BTreeSet<TopicPartition>,
    /// What a committed transaction lies above, where that is known. Only of clients that keep their epoch: with an
    /// epoch for each transaction that tells them apart.
    pub above: Places,
    /// Wall clock, ms.
    pub updated_ms: i64,
    /// Wall clock of the transaction's beginning, ms; -1 if there was none.
    pub started_ms: i64,
    /// `transaction.version` as the client uses it.
    pub client_version: i16,
}

impl Record {
    /// A producer without a transaction.
    #[must_use]
    pub fn empty(producer: Producer, timeout_ms: i32, now_ms: i64) -> Self {
        Self {
            producer,
            previous_id: NO_PRODUCER,
            next_id: NO_PRODUCER,
            last_epoch: NO_EPOCH,
            timeout_ms,
            state: State::Empty,
            partitions: BTreeSet::new(),
            above: Places::new(),
            updated_ms: now_ms,
            started_ms: -1,
            client_version: 0,
        }
    }

    /// Where its markers go.
    #[must_use]
    pub fn places(&self) -> Places {
        let all = self.partitions.iter();
        all.map(|at| (at.clone(), self.above.get(at).copied().unwrap_or(0)))
            .collect()
    }
}
