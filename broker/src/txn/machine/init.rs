//! InitProducerId: a producer begins, or comes back after an error.

use whimbrel_wire::ErrorCode;

use super::{LAST_EPOCH, NO_EPOCH, Now, Producer, Record, Step, Transaction};

/// What a producer that comes back says it was; nothing if it has just begun.
pub type Recovery = Option<Producer>;

impl Transaction {
    /// Gives the producer an epoch that nobody had before, and so fences everybody who had one. An ongoing
    /// transaction is aborted first, and the producer asked to come again. `fresh` is a new producer id, if
    /// [`Step::NeedsProducerId`] asked for one.
    pub fn init(
        &mut self,
        timeout_ms: i32,
        recovery: Recovery,
        fresh: Option<i64>,
        now: Now,
    ) -> Step {
        if self.pending.is_some() {
            return Step::refuse(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        if self.stale {
            return self.renew(timeout_ms, fresh, now);
        }
        if recovery.is_some_and(|was| !self.may_recover(was)) {
            return Step::refuse(ErrorCode::PRODUCER_FENCED);
        }
        if self.record.state.is_prepared() {
            return Step::refuse(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        if self.record.state == super::State::Ongoing {
            self.pending = Some(self.fenced(now));
            return Step::Write(Err(ErrorCode::CONCURRENT_TRANSACTIONS));
        }
        let current = self.record.producer;
        let (producer, last_epoch, previous_id) = if current.epoch >= LAST_EPOCH
            && recovery.is_none_or(|was| was.epoch == current.epoch)
        {
            let Some(id) = fresh else {
                return Step::NeedsProducerId;
            };
            let last_epoch = recovery.map_or(NO_EPOCH, |_| current.epoch);
            (Producer { id, epoch: 0 }, last_epoch, current.id)
        } else {
            match self.next_epoch(recovery) {
                Ok((epoch, last)) => (Producer { epoch, ..current }, last, self.record.previous_id),
                Err(error) => return Step::refuse(error),
            }
        };
        self.pending = Some(Record {
            last_epoch,
            previous_id,
            client_version: self.record.client_version,
            ..Record::empty(producer, timeout_ms, now.wall_ms)
        });
        Step::Write(Ok(producer))
    }

    /// A stale id begins again as a new producer, whoever asks. What was decided is carried out first.
    pub(super) fn renew(&mut self, timeout_ms: i32, fresh: Option<i64>, now: Now) -> Step {
        if self.record.state.is_prepared() {
            return Step::refuse(ErrorCode::CONCURRENT_TRANSACTIONS);
        }
        let Some(id) = fresh else {
            return Step::NeedsProducerId;
        };
        let producer = Producer { id, epoch: 0 };
        self.pending = Some(Record::empty(producer, timeout_ms, now.wall_ms));
        Step::Write(Ok(producer))
    }

    fn may_recover(&self, was: Producer) -> bool {
        self.is_unwritten()
            || was.id == self.record.producer.id
            // It did not hear that its epochs ran out and that it has a new id.
            || (was.id == self.record.previous_id && was.epoch >= LAST_EPOCH)
    }

    fn next_epoch(&self, recovery: Recovery) -> Result<(i16, i16), ErrorCode> {
        let current = self.record.producer.epoch;
        let bumped = current.checked_add(1).ok_or(ErrorCode::PRODUCER_FENCED)?;
        match recovery {
            None => Ok((bumped, NO_EPOCH)),
            Some(was) if current == NO_EPOCH || was.epoch == current => Ok((bumped, current)),
            // It did not hear the last answer: the same again.
            Some(was) if was.epoch == self.record.last_epoch => {
                Ok((current, self.record.last_epoch))
            }
            Some(_) => Err(ErrorCode::PRODUCER_FENCED),
        }
    }
}
