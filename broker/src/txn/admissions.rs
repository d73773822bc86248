//! Who may begin to write as part of a transaction.
//!
//! The first write of a transaction in a partition must have been *admitted*: its coordinator knows that the partition
//! takes part. Otherwise a write that was long on its way could begin a transaction that nobody ever ends, and readers
//! at read_committed would wait for ever (KIP-890). An admission is void as soon as a marker of its producer is written.
//!
//! Where the first of several batches in flight is sent back to come again, those behind it must not overtake it: the
//! lowest sequence that asked is remembered until a batch of the producer was let in.

use std::collections::HashMap;

use whimbrel_wire::ErrorCode;

use super::machine::Producer;

/// Producers whose lowest sequence is remembered although nobody of them waits. More than these at once are so many
/// that forgetting costs less than keeping.
const REMEMBERED: usize = 10_000;

/// Admissions of one partition under way.
#[derive(Debug, Default)]
pub struct Admissions {
    by_producer: HashMap<i64, Asked>,
    last: u64,
}

#[derive(Debug)]
struct Asked {
    epoch: i16,
    lowest_sequence: i32,
    /// None after the coordinator said no.
    admission: Option<Admission>,
}

/// Names one admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission(u64);

impl Admissions {
    /// Begins one; requests of one producer that are in flight together share it.
    pub fn begin(&mut self, who: Producer, sequence: i32) -> Admission {
        if self.by_producer.len() >= REMEMBERED {
            self.by_producer
                .retain(|_, asked| asked.admission.is_some());
        }
        let asked = self.by_producer.entry(who.id).or_insert(Asked {
            epoch: who.epoch,
            lowest_sequence: sequence,
            admission: None,
        });
        if asked.epoch != who.epoch {
            *asked = Asked {
                epoch: who.epoch,
                lowest_sequence: sequence,
                admission: None,
            };
        }
        asked.lowest_sequence = asked.lowest_sequence.min(sequence);
        *asked.admission.get_or_insert_with(|| {
            self.last = self.last.wrapping_add(1);
            Admission(self.last)
        })
    }

    /// The coordinator said no.
    pub fn reject(&mut self, who: Producer, admission: Admission) {
        if let Some(asked) = self.by_producer.get_mut(&who.id)
            && asked.admission == Some(admission)
        {
            asked.admission = None;
        }
    }

    /// Lets the producer in, if the admission still stands.
    ///
    /// # Errors
    /// INVALID_TXN_STATE if it does not; OUT_OF_ORDER_SEQUENCE_NUMBER if a lower sequence has to come again first.
    pub fn pass(
        &mut self,
        who: Producer,
        admission: Option<Admission>,
        sequence: i32,
    ) -> Result<(), ErrorCode> {
        let asked = self.by_producer.get(&who.id);
        let asked = asked.filter(|asked| {
            asked.epoch == who.epoch && admission.is_some() && asked.admission == admission
        });
        let asked = asked.ok_or(ErrorCode::INVALID_TXN_STATE)?;
        if sequence > asked.lowest_sequence {
            return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
        }
        self.by_producer.remove(&who.id);
        Ok(())
    }

    /// A marker of the producer came: what was admitted to the transaction that it ends is void. Where every transaction
    /// has an epoch of its own (`strict`), the marker's is that of the next one, which may be asking already: while its
    /// first batch waited for the coordinator, the marker was on its way here.
    pub fn end(&mut self, marker: Producer, strict: bool) {
        let asked = self.by_producer.get(&marker.id);
        if asked.is_none_or(|asked| !strict || asked.epoch < marker.epoch) {
            self.by_producer.remove(&marker.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(epoch: i16) -> Producer {
        Producer { id: 7, epoch }
    }

    #[test]
    fn an_admission_ends_with_a_marker_and_is_of_one_epoch() {
        let mut admissions = Admissions::default();
        let first = admissions.begin(who(1), 0);
        assert_eq!(admissions.begin(who(1), 0), first);
        let refused = Err(ErrorCode::INVALID_TXN_STATE);
        assert_eq!(admissions.pass(who(2), Some(first), 0), refused);
        admissions.end(who(1), false);
        assert_eq!(admissions.pass(who(1), Some(first), 0), refused);
        assert_eq!(admissions.pass(who(1), None, 0), refused);
        let second = admissions.begin(who(1), 0);
        assert_ne!(second, first);
        assert_eq!(admissions.pass(who(1), Some(second), 0), Ok(()));
    }

    #[test]
    fn a_marker_with_an_epoch_of_its_own_leaves_the_next_transaction_alone() {
        let mut admissions = Admissions::default();
        let refused = Err(ErrorCode::INVALID_TXN_STATE);
        let ended = admissions.begin(who(1), 0);
        admissions.end(who(2), true);
        assert_eq!(admissions.pass(who(1), Some(ended), 0), refused);
        let next = admissions.begin(who(2), 0);
        admissions.end(who(2), true);
        assert_eq!(admissions.pass(who(2), Some(next), 0), Ok(()));
        let last = admissions.begin(who(2), 0);
        admissions.end(who(3), true);
        assert_eq!(admissions.pass(who(2), Some(last), 0), refused);
    }

    #[test]
    fn a_batch_does_not_overtake_one_that_was_sent_back() {
        let mut admissions = Admissions::default();
        let first = admissions.begin(who(1), 3);
        admissions.reject(who(1), first);
        let second = admissions.begin(who(1), 5);
        assert_eq!(
            admissions.pass(who(1), Some(second), 5),
            Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER)
        );
        let again = admissions.begin(who(1), 3);
        assert_eq!(admissions.pass(who(1), Some(again), 3), Ok(()));
    }
}
