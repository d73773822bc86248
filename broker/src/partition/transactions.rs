//! What a leader asks of transactional batches and markers beyond what the log does.

use bytes::Bytes;
use whimbrel_rpc::controller::LeaseHolder;
use whimbrel_wire::ErrorCode;

use super::{Acks, InFlight, Partition, Role};
use crate::txn::{Admission, Marker, Producer};

impl Partition {
    /// Begins an admission, and says where the log ends; none if the producer has a transaction open here already.
    pub fn admit(&self, who: Producer, sequence: i32) -> Option<(Admission, i64)> {
        let mut state = self.state.lock();
        (!self.has_open(who)).then(|| {
            let log_end = self.log.offsets().log_end;
            (state.admissions.begin(who, sequence), log_end)
        })
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

    /// The marker as it is to be written here, by a leader. A lossy move may have cut the log back into a transaction
    /// that ended long ago, while the coordinator commits a later one of the same producer. Of that one nothing is left
    /// here then, and what is open has no other end any more: it is aborted. `above`: where the transaction that the
    /// marker ends can begin here, 0 if that is not known.
    pub fn judge(&self, marker: Marker, above: i64) -> Marker {
        let promotion = self.state.lock().lossy_promotion;
        let open = self.log.producer(marker.producer.id);
        let first = open
            .as_ref()
            .and_then(|known| known.current_txn_first_offset);
        let (Some(promotion), Some(known), Some(first)) = (promotion, open, first) else {
            return marker;
        };
        let is_earlier = first < above || known.producer_epoch != marker.ended_epoch();
        Marker {
            commit: marker.commit && !(first < promotion && is_earlier),
            ..marker
        }
    }

    /// As [`Partition::append`], for the marker that ends a producer's transaction. See [`Self::judge`].
    pub fn append_marker(
        &self,
        lease: &LeaseHolder,
        marker: Marker,
        above: i64,
        now_ms: i64,
    ) -> Result<InFlight, ErrorCode> {
        // Whoever leads later may know of a later move.
        let terms = self.leads().ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
        let marker = self.judge(marker, above);
        let batch = marker.batch(now_ms)?;
        self.append_if(lease, batch, Acks::Insync, now_ms, |state| {
            if !matches!(state.role, Role::Leader(now) if now.leader_epoch == terms.leader_epoch) {
                return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
            }
            let who = marker.producer;
            // With an epoch per transaction an equal one is of a marker that came before, or of the next transaction.
            let late = marker.strict
                && self.log.producer(who.id).is_some_and(|known| {
                    known.current_txn_first_offset.is_some() && known.producer_epoch >= who.epoch
                });
            if late {
                return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
            }
            state.admissions.end(who, marker.strict);
            Ok(())
        })
    }

    fn has_open(&self, who: Producer) -> bool {
        self.log.producer(who.id).is_some_and(|known| {
            known.current_txn_first_offset.is_some() && known.producer_epoch == who.epoch
        })
    }
}
