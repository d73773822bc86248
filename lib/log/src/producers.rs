//! State of the producers that wrote to a log: the newest batches of each, for duplicate detection
//! and sequence checks, and open transactions, for the last stable offset.
//!
//! Pure and derived from the log alone, so that a replica, a restarted broker and a new leader come
//! to the same decisions. Rules are Kafka's (`ProducerAppendInfo`, `ProducerStateManager`), with one
//! addition for lossy moves, see [`jump`].

pub(crate) mod entry;
pub(crate) mod jump;
pub(crate) mod recent;
pub(crate) mod snapshot;

use std::collections::{BTreeMap, HashMap};

use whimbrel_wire::batch::BatchHeader;
use whimbrel_wire::control::{ControlType, Marker};

use crate::error::AppendError;
use crate::types::AbortedTxn;
use entry::Verdict;
pub use entry::{BatchMark, ProducerState};
use jump::Jumps;

#[derive(Debug, Clone, Default)]
pub(crate) struct Producers {
    entries: HashMap<i64, ProducerState>,
    /// Open transactions: first offset -> producer.
    ongoing: BTreeMap<i64, i64>,
    /// Ended transactions whose marker is not below the high watermark: first offset -> marker offset.
    ended: BTreeMap<i64, i64>,
    jumps: Jumps,
}

impl Producers {
    pub(crate) fn from_entries(entries: impl IntoIterator<Item = ProducerState>) -> Self {
        let mut producers = Producers::default();
        for entry in entries {
            if let Some(first) = entry.current_txn_first_offset {
                producers.ongoing.insert(first, entry.producer_id);
            }
            producers.entries.insert(entry.producer_id, entry);
        }
        producers
    }

    /// By producer id, so that two snapshots of one state are equal byte for byte.
    pub(crate) fn all(&self) -> Vec<ProducerState> {
        let mut all: Vec<_> = self.entries.values().cloned().collect();
        all.sort_unstable_by_key(|entry| entry.producer_id);
        all
    }

    pub(crate) fn get(&self, producer_id: i64) -> Option<&ProducerState> {
        self.entries.get(&producer_id)
    }

    /// Judges a batch a client or coordinator sent, before anything is written. Changes nothing but
    /// the memory of refused jumps. `marker` is there for control batches.
    pub(crate) fn check(
        &mut self,
        header: &BatchHeader,
        marker: Option<&Marker>,
        lossy_promotion: Option<i64>,
    ) -> Result<Verdict, AppendError> {
        if !header.is_idempotent() {
            return Ok(Verdict::Append);
        }
        let entry = self.entries.get(&header.producer_id);
        if let Some(marker) = marker {
            entry.map_or(Ok(()), |entry| entry.check_marker(header, marker))?;
            return Ok(Verdict::Append);
        }
        let verdict = match entry {
            Some(entry) => entry.check(header)?,
            None => Verdict::new_producer(header),
        };
        match verdict {
            Verdict::Gap { expected, unknown } => {
                let below = entry.and_then(ProducerState::last_offset).unwrap_or(-1);
                self.jumps
                    .judge(header, expected, unknown, below, lossy_promotion)?;
                Ok(Verdict::Append)
            }
            verdict => Ok(verdict),
        }
    }

    /// Keeps the refused jumps of a state that was only tried out.
    pub(crate) fn keep_refused(&mut self, tried: Producers) {
        self.jumps = tried.jumps;
    }

    /// The abort that a control batch would complete, see [`Self::note`].
    pub(crate) fn abort_of(
        &self,
        header: &BatchHeader,
        marker: Option<&Marker>,
    ) -> Option<AbortedTxn> {
        let abort = marker.is_some_and(|m| m.control_type == ControlType::Abort);
        let producer_id = header.producer_id;
        let first_offset = self
            .entries
            .get(&producer_id)
            .filter(|_| abort && header.is_idempotent() && header.is_control())?
            .current_txn_first_offset?;
        let last_offset = header.last_offset();
        let open = self.ongoing.keys().find(|first| **first != first_offset);
        Some(AbortedTxn {
            producer_id,
            first_offset,
            last_offset,
            last_stable_offset: open.copied().unwrap_or(last_offset.saturating_add(1)),
        })
    }

    /// Notes a batch that is in the log, wherever it came from. Returns the abort it completes.
    pub(crate) fn note(
        &mut self,
        header: &BatchHeader,
        marker: Option<&Marker>,
    ) -> Option<AbortedTxn> {
        if !header.is_idempotent() {
            return None;
        }
        let id = header.producer_id;
        if header.is_control() {
            return self.note_marker(header, marker?);
        }
        self.jumps.forget(id);
        let entry = self
            .entries
            .entry(id)
            .or_insert_with(|| ProducerState::new(id));
        if entry.note(header) {
            self.ongoing.insert(header.base_offset, id);
        }
        None
    }

    fn note_marker(&mut self, header: &BatchHeader, marker: &Marker) -> Option<AbortedTxn> {
        if matches!(marker.control_type, ControlType::Other(_)) {
            return None;
        }
        let id = header.producer_id;
        let last_offset = header.last_offset();
        let entry = self
            .entries
            .entry(id)
            .or_insert_with(|| ProducerState::new(id));
        let first_offset = entry.note_marker(header, marker)?;
        self.ongoing.remove(&first_offset);
        self.ended.insert(first_offset, last_offset);
        let last_stable_offset = self
            .ongoing
            .keys()
            .next()
            .copied()
            .unwrap_or(last_offset.saturating_add(1));
        (marker.control_type == ControlType::Abort).then_some(AbortedTxn {
            producer_id: id,
            first_offset,
            last_offset,
            last_stable_offset,
        })
    }

    /// First offset a read_committed reader may not pass: of the oldest open transaction, or of an
    /// ended one whose marker is not below the high watermark.
    pub(crate) fn first_unstable_offset(&mut self, high_watermark: i64) -> Option<i64> {
        self.ended.retain(|_, marker| *marker >= high_watermark);
        let ongoing = self.ongoing.keys().next();
        let ended = self.ended.keys().next();
        ongoing.into_iter().chain(ended).min().copied()
    }

    /// Drops producers that wrote nothing since `before_ms` and have no open transaction.
    pub(crate) fn expire(&mut self, before_ms: i64) -> usize {
        let count = self.entries.len();
        self.entries.retain(|_, e| {
            e.current_txn_first_offset.is_some() || e.last_timestamp_ms >= before_ms
        });
        count - self.entries.len()
    }
}

#[cfg(test)]
mod tests;
