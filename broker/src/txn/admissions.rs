//! Who may begin to write as part of a transaction.
//!
//! The first write of a transaction in a partition must have been *admitted*: its coordinator knows that the partition
//! takes part. Otherwise a write that was long on its way could begin a transaction that nobody ever ends, and readers
//! at read_committed would wait for ever (KIP-890). An admission is void as soon as a marker of its producer is written.

use std::collections::HashMap;

use super::machine::Producer;

/// Admissions of one partition under way. As many as there are requests that wait for one.
#[derive(Debug, Default)]
pub struct Admissions {
    by_producer: HashMap<i64, (i16, Admission)>,
    last: u64,
}

/// Names one admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission(u64);

impl Admissions {
    /// Begins one; requests of one producer that are in flight together share it.
    pub fn begin(&mut self, who: Producer) -> Admission {
        if let Some((epoch, admission)) = self.by_producer.get(&who.id)
            && *epoch == who.epoch
        {
            return *admission;
        }
        self.last = self.last.wrapping_add(1);
        let admission = Admission(self.last);
        self.by_producer.insert(who.id, (who.epoch, admission));
        admission
    }

    /// Ends this one; true if it still stood.
    pub fn take(&mut self, who: Producer, admission: Admission) -> bool {
        let stands = self.by_producer.get(&who.id) == Some(&(who.epoch, admission));
        if stands {
            self.void(who.id);
        }
        stands
    }

    /// A marker of the producer came.
    pub fn void(&mut self, producer_id: i64) {
        self.by_producer.remove(&producer_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admission_ends_with_a_marker_and_is_of_one_epoch() {
        let who = |epoch| Producer { id: 7, epoch };
        let mut admissions = Admissions::default();
        let first = admissions.begin(who(1));
        assert_eq!(admissions.begin(who(1)), first);
        assert!(!admissions.take(who(2), first));
        admissions.void(7);
        assert!(!admissions.take(who(1), first));
        let second = admissions.begin(who(1));
        assert_ne!(second, first);
        assert!(admissions.take(who(1), second));
    }
}
