//! Compares the list of aborted transactions with the markers in the slice itself.
//!
//! The broker takes the list from an index that a disk can lose. Once the slice is in the bucket the local
//! copy may go, and a list without an abort would make its records committed ones for ever.
//!
//! Where compaction has been, a commit's marker may be gone while its records stay, and which marker ends what
//! cannot be told any more: from the first hole in the offsets on nothing is held against the list.

use std::collections::HashMap;

use whimbrel_wire::{
    Batch,
    control::{ControlType, parse_batch},
};

use crate::format::Aborted;

#[derive(Debug)]
pub(super) struct Outcomes {
    aborted: Vec<Aborted>,
    /// What lies below is nobody's to read, and the index may have forgotten it.
    log_start: i64,
    /// The offset that comes next where nothing was taken out.
    next: Option<i64>,
    has_holes: bool,
    /// Producers with transactional records in the slice and no marker behind them yet, and the first offset.
    open: HashMap<i64, i64>,
}

impl Outcomes {
    /// `base` is where the slice begins.
    pub fn new(aborted: Vec<Aborted>, log_start: i64, base: i64) -> Self {
        Self {
            aborted,
            log_start,
            next: Some(base),
            has_holes: false,
            open: HashMap::new(),
        }
    }

    /// The next batch of the slice; why the list is not about it, if it is not.
    pub fn add(&mut self, batch: &Batch) -> Result<(), String> {
        let header = &batch.header;
        let offsets = header.next_offset().saturating_sub(header.base_offset);
        self.has_holes |= self.next.is_some_and(|next| next != header.base_offset)
            || i64::from(header.records_count) != offsets;
        self.next = Some(header.next_offset());
        if self.has_holes {
            return Ok(());
        }
        if !header.is_transactional() || !header.is_idempotent() {
            return Ok(());
        }
        let (id, last) = (header.producer_id, header.last_offset());
        if !header.is_control() {
            if last < self.log_start {
                return Ok(());
            }
            self.open.entry(id).or_insert(header.base_offset);
            return Ok(());
        }
        let marker =
            parse_batch(batch).map_err(|e| format!("a marker that cannot be read: {e}"))?;
        let Some(first) = marker.and_then(|_| self.open.remove(&id)) else {
            return Ok(());
        };
        let listed = self.aborted.iter().find(|txn| {
            txn.producer_id == id && txn.first_offset <= first && txn.last_offset >= last
        });
        let aborts = marker.is_some_and(|m| m.control_type == ControlType::Abort);
        match listed {
            Some(txn) if aborts && txn.last_offset == last => Ok(()),
            None if !aborts => Ok(()),
            Some(_) => Err(format!(
                "the marker of producer {id} at {last} is not what the list of aborted transactions says"
            )),
            None => Err(format!(
                "the abort of producer {id} at {last} is not in the list of aborted transactions"
            )),
        }
    }
}
