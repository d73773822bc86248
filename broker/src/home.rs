//! One failover group on this broker: how far its led partitions were written, and where acks may go.
//!
//! The position of an append is the sum over all led partitions right after it. Whatever is
//! acknowledged was appended before the acknowledged append with the highest position, so covering each
//! append's own position covers everything that was acknowledged (design section 4).

use std::sync::Arc;

use parking_lot::Mutex;
use whimbrel_fleet::{GroupName, Position};

#[derive(Debug)]
pub struct Home {
    pub group: GroupName,
    sum: Mutex<Position>,
}

impl Home {
    pub fn new(group: GroupName) -> Arc<Self> {
        Arc::new(Self {
            group,
            sum: Mutex::default(),
        })
    }

    /// Adds an append and returns the position it brings the group to.
    pub fn add(&self, records: u64, bytes: u64) -> Position {
        let mut sum = self.sum.lock();
        sum.records = sum.records.saturating_add(records);
        sum.bytes = sum.bytes.saturating_add(bytes);
        *sum
    }

    pub fn position(&self) -> Position {
        *self.sum.lock()
    }

    /// The led partitions changed: begins again from what `measure` finds in their logs. It runs under the
    /// lock that [`Self::add`] takes after the append, so a racing append is counted, perhaps twice, never
    /// left out.
    pub fn rebase(&self, measure: impl FnOnce() -> Position) -> Position {
        let mut sum = self.sum.lock();
        *sum = measure();
        *sum
    }
}
