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
    /// left out. `tell` runs under it too: what a racing append brings the group to is told after it, and
    /// is not undone by the older sum.
    pub fn rebase(
        &self,
        measure: impl FnOnce() -> Position,
        tell: impl FnOnce(Position),
    ) -> Position {
        let mut sum = self.sum.lock();
        *sum = measure();
        tell(*sum);
        *sum
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn an_append_during_a_rebase_is_told_after_it() {
        let home = Home::new(GroupName::default_group());
        let (told, heard) = mpsc::channel();
        std::thread::scope(|scope| {
            let at = Position {
                records: 10,
                bytes: 100,
            };
            home.rebase(
                || at,
                |position| {
                    let (home, teller) = (Arc::clone(&home), told.clone());
                    let (begun, begins) = mpsc::channel();
                    scope.spawn(move || {
                        begun.send(()).unwrap();
                        let _ = teller.send(home.add(5, 50));
                    });
                    begins.recv().unwrap();
                    let _ = told.send(position);
                },
            );
        });
        let told: Vec<u64> = heard.try_iter().map(|p: Position| p.records).collect();
        assert_eq!(told, [10, 15]);
    }
}
