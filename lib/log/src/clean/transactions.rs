//! Which transactions were aborted, while the batches of a log go by from its start (Kafka's
//! `CleanedTransactionMetadata`).

use std::collections::{HashMap, HashSet, VecDeque};

use whimbrel_wire::batch::BatchHeader;
use whimbrel_wire::control::{ControlType, Marker};

use crate::types::AbortedTxn;

#[derive(Debug, Default)]
pub(crate) struct Transactions {
    /// Not begun yet, by first offset.
    ahead: VecDeque<AbortedTxn>,
    /// Begun, by producer; whether a batch of it went by.
    aborted: HashMap<i64, (AbortedTxn, bool)>,
    committed: HashSet<i64>,
}

/// What a control batch means to the cleaner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Nothing of its transaction is left before it: it may go, in time.
    Empty,
    /// A batch of a committed transaction went by, or it is no transaction's.
    Needed,
    /// A batch of the aborted transaction went by: the index must name it still.
    Aborted(AbortedTxn),
}

impl Transactions {
    pub(crate) fn new(mut aborted: Vec<AbortedTxn>) -> Self {
        aborted.sort_unstable_by_key(|txn| txn.first_offset);
        Transactions {
            ahead: aborted.into(),
            ..Transactions::default()
        }
    }

    fn begin_upto(&mut self, offset: i64) {
        while let Some(txn) = self.ahead.pop_front_if(|txn| txn.first_offset <= offset) {
            self.aborted.entry(txn.producer_id).or_insert((txn, false));
        }
    }

    /// A data batch goes by; true if its transaction was aborted.
    pub(crate) fn data(&mut self, header: &BatchHeader) -> bool {
        self.begin_upto(header.last_offset());
        if !header.is_transactional() {
            return false;
        }
        if let Some((_, seen)) = self.aborted.get_mut(&header.producer_id) {
            *seen = true;
            return true;
        }
        self.committed.insert(header.producer_id);
        false
    }

    /// A control batch goes by; `None` for one that was emptied before.
    pub(crate) fn control(&mut self, header: &BatchHeader, marker: Option<&Marker>) -> Ended {
        self.begin_upto(header.last_offset());
        let id = header.producer_id;
        match marker.map(|marker| marker.control_type) {
            None => Ended::Empty,
            Some(ControlType::Abort) => match self.aborted.remove(&id) {
                Some((txn, true)) => Ended::Aborted(txn),
                _ => Ended::Empty,
            },
            Some(ControlType::Commit) if self.committed.remove(&id) => Ended::Needed,
            Some(ControlType::Commit) => Ended::Empty,
            Some(ControlType::Other(_)) => Ended::Needed,
        }
    }
}
