//! Appends of a leader, from receipt to the ack that may be given.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;
use whimbrel_log::{AppendContext, AppendError, Appended};
use whimbrel_rpc::controller::LeaseHolder;
use whimbrel_wire::{BatchHeader, ErrorCode};

use super::{Partition, Role, Standing, State, Terms, Waiting};

/// What a client wants to know before it goes on. All wait for the whole ack set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Kafka's acks=all: at least `min.insync.replicas` copies.
    Insync,
    /// Fewer will do.
    Any,
}

/// An append that is in the log and not yet acknowledged.
#[derive(Debug)]
pub struct InFlight {
    pub appended: Appended,
    /// The ack waits for the ceiling alone: the flusher is to look at it when that is raised.
    pub(crate) at_ceiling: bool,
    terms: Terms,
    /// Says NONE once fsynced, covered and held by the sync set, or early where that is allowed.
    ack: oneshot::Receiver<ErrorCode>,
}

impl Partition {
    /// Appends one batch that was validated. Not durable yet: list the partition with the flusher, then
    /// wait for [`InFlight::acknowledged`].
    pub fn append(
        &self,
        lease: &LeaseHolder,
        batch: Bytes,
        now_ms: i64,
    ) -> Result<InFlight, ErrorCode> {
        self.append_for(lease, batch, Acks::Insync, now_ms)
    }

    /// As [`Self::append`], for a client that may ask for less than `min.insync.replicas`.
    pub fn append_for(
        &self,
        lease: &LeaseHolder,
        batch: Bytes,
        acks: Acks,
        now_ms: i64,
    ) -> Result<InFlight, ErrorCode> {
        self.append_if(lease, batch, acks, now_ms, |_| Ok(()))
    }

    /// Appends if `check` agrees; nothing else is appended between the two.
    pub(super) fn append_if(
        &self,
        lease: &LeaseHolder,
        batch: Bytes,
        acks: Acks,
        now_ms: i64,
        check: impl FnOnce(&mut State) -> Result<(), ErrorCode>,
    ) -> Result<InFlight, ErrorCode> {
        let mut state = self.state.lock();
        let Role::Leader(terms) = state.role else {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        };
        if !terms.open || !terms.held(lease, &self.home) {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        if acks == Acks::Insync && !state.insync.is_enough() {
            return Err(ErrorCode::NOT_ENOUGH_REPLICAS);
        }
        check(&mut state)?;
        // A transaction's only word for its records are their acks: it must not commit over a hole.
        let may_be_early = state.early.takes_any()
            && BatchHeader::parse(&batch).is_ok_and(|h| !h.is_transactional() && !h.is_control());
        let context = AppendContext {
            leader_epoch: terms.leader_epoch,
            now_ms,
            lossy_promotion: state.lossy_promotion,
        };
        let appended = self.log.append(batch, context).map_err(|error| {
            tracing::debug!(topic = self.log.topic(), partition = self.at.partition, %error, "append refused");
            error.error_code()
        })?;
        let end = appended.last_offset.saturating_add(1);
        let position = if appended.duplicate {
            self.home.position()
        } else {
            let records = u64::try_from(end.saturating_sub(appended.base_offset)).unwrap_or(0);
            let position = self.home.add(records, appended.bytes as u64);
            state.uncovered.push_back((end, position));
            position
        };
        // Before the ceiling is looked at.
        lease.set_position(&self.home.group, position);
        let (sender, ack) = oneshot::channel();
        let waiting = Waiting { end, acks, sender };
        let mut at_ceiling = false;
        if end <= self.high_watermark() {
            let _ = waiting.sender.send(ErrorCode::NONE);
        } else if may_be_early {
            state.early.push(waiting);
            let standing = Standing {
                high_watermark: self.high_watermark(),
                durable_end: self.log.offsets().durable_end,
                alone: state.is_alone(),
                enough: state.insync.is_enough(),
            };
            at_ceiling = state.answer(lease, &self.home.group, standing);
        } else {
            waiting.queue(&mut state.acks);
        }
        drop(state);
        Ok(InFlight {
            appended,
            at_ceiling,
            terms,
            ack,
        })
    }

    /// Appends batches of the source, offsets and epochs kept. `None` when this is not a follower, or sealed.
    pub fn append_replica(
        &self,
        batches: Bytes,
        now_ms: i64,
    ) -> Option<Result<Appended, AppendError>> {
        let state = self.state.lock();
        let takes = matches!(state.role, Role::Follower { .. }) && !state.sealed;
        takes.then(|| self.log.append_replica(batches, now_ms))
    }

    /// Waits until writes are taken here; an error when they are not going to be.
    pub async fn writable(self: &Arc<Self>, lease: &LeaseHolder) -> Result<(), ErrorCode> {
        loop {
            let changed = self.role_changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.role() {
                // Before the lease is looked at: a planned move gives it up and parks.
                Role::Leader(terms) if !terms.open => changed.await,
                Role::Leader(terms) if terms.held(lease, &self.home) => return Ok(()),
                _ => return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER),
            }
        }
    }
}

impl InFlight {
    /// The outcome, with the lease checked again just before it is given (design section 4). That the append
    /// is covered was found when the high watermark passed it, and is not looked at again by the position it
    /// had then: the group's sums may be over other partitions now, because one was deleted or is led
    /// elsewhere, and be lower for good.
    pub async fn acknowledged(&mut self, partition: &Partition, lease: &LeaseHolder) -> ErrorCode {
        let outcome = (&mut self.ack)
            .await
            .unwrap_or(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        if outcome.is_error() {
            return outcome;
        }
        let leads = matches!(partition.role(), Role::Leader(now) if now.leader_epoch == self.terms.leader_epoch);
        // A fenced group's lease is gone, and with it every right to say yes.
        if leads && self.terms.held(lease, &partition.home) {
            ErrorCode::NONE
        } else {
            ErrorCode::NOT_LEADER_OR_FOLLOWER
        }
    }
}
