//! What a leader asks of transactional batches and markers beyond what the log does.

use bytes::Bytes;
use whimbrel_rpc::controller::LeaseHolder;
use whimbrel_wire::ErrorCode;

use super::{Acks, InFlight, Partition};
use crate::txn::{Admission, Marker, Producer};

impl Partition {
    /// Begins an admission; none if the producer has a transaction open here already.
    pub fn admit(&self, who: Producer, sequence: i32) -> Option<Admission> {
        let mut state = self.state.lock();
        (!self.has_open(who)).then(|| state.admissions.begin(who, sequence))
    }

    /// The coordinator said no.
    pub fn reject(&self, who: Producer, admission: Admission) {
        self.state.lock().admissions.reject(who, admission);
    }

    /// As [`Partition::append`], for a client's transactional batch.
    pub fn append_transactional(
        &self,
        lease: &LeaseHolder,
        batch: Bytes,
        now_ms: i64,
        (who, sequence): (Producer, i32),
        admission: Option<Admission>,
    ) -> Result<InFlight, ErrorCode> {
        self.append_if(lease, batch, Acks::Insync, now_ms, |state| {
            if self.has_open(who) {
                return Ok(());
            }
            state.admissions.pass(who, admission, sequence)
        })
    }

    /// As [`Partition::append`], for the marker that ends a producer's transaction.
    pub fn append_marker(
        &self,
        lease: &LeaseHolder,
        marker: Marker,
        now_ms: i64,
    ) -> Result<InFlight, ErrorCode> {
        let batch = marker.batch(now_ms)?;
        self.append_if(lease, batch, Acks::Insync, now_ms, |state| {
            let who = marker.producer;
            // With an epoch per transaction an equal one is of a marker that came before, or of the next transaction.
            let late = marker.strict
                && self.log.producer(who.id).is_some_and(|known| {
                    known.current_txn_first_offset.is_some() && known.producer_epoch >= who.epoch
                });
            if late {
                return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
            }
            state.admissions.void(who.id);
            Ok(())
        })
    }

    fn has_open(&self, who: Producer) -> bool {
        self.log.producer(who.id).is_some_and(|known| {
            known.current_txn_first_offset.is_some() && known.producer_epoch == who.epoch
        })
    }
}
