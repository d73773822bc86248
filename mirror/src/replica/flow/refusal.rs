//! Truncation, and what a sink refuses.

use std::time::Duration;

use whimbrel_fleet::{Lineage, TopicPartition};
use whimbrel_rpc::replica::{RefuseReason, ToSink};

use super::{Action, Flow};
use crate::replica::{
    anomaly::{Anomaly, AnomalyKind},
    partition::State,
};

/// Setbacks in a row, without a step forward, after which a partition is stopped.
const MAX_SETBACKS: u32 = 8;
/// The orphan tail waits for the bucket.
const ORPHAN_RETRY_MS: u64 = 2_000;
/// Source and sink may hear of a new epoch one after the other, and the mirror before both.
const FENCED_RETRY_MS: u64 = 1_000;
/// A full disk rarely empties sooner.
const DISK_FULL_PAUSE: Duration = Duration::from_secs(5);
/// Long enough that a sink which keeps refusing one partition does not keep the others from moving.
const RESYNC_PAUSE: Duration = Duration::from_millis(250);

impl Flow {
    /// Asks the sink to truncate. It first makes what lies above durable elsewhere.
    pub(super) fn truncate(&mut self, at: TopicPartition, epoch: i32, offset: i64) {
        let Some(region_epoch) = self.places.get(at).map(|place| place.epoch) else {
            return;
        };
        self.set(at, State::Truncating { epoch, offset });
        self.out.push(Action::ToSink(ToSink::Truncate {
            at,
            region_epoch,
            epoch,
            offset,
        }));
    }

    pub(super) fn truncated(&mut self, at: TopicPartition, lineage: Lineage) {
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        if !matches!(partition.state, State::Truncating { .. }) {
            return;
        }
        let settled = partition.progress.at(lineage.end_offset, None);
        partition.lineage = Some(lineage);
        partition.state = State::Connecting;
        self.credit.synced(settled);
        self.drive(at);
    }

    /// Counts a setback; at the limit the partition is stopped, below it `go_on`.
    pub(super) fn setback(
        &mut self,
        at: TopicPartition,
        kind: AnomalyKind,
        go_on: impl FnOnce(&mut Self),
    ) {
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        partition.setbacks = partition.setbacks.saturating_add(1);
        if partition.setbacks < MAX_SETBACKS {
            go_on(self);
            return;
        }
        let (from, to) = (partition.progress.target_end(), partition.end_offset());
        let to = partition.progress.source_end().unwrap_or(to).max(from);
        self.stop(at, Anomaly::new(kind, from, to));
    }

    pub(super) fn refused(&mut self, at: TopicPartition, reason: RefuseReason) {
        let Some(partition) = self.partitions.get(&at) else {
            return;
        };
        match (partition.state, reason) {
            (State::Truncating { epoch, offset }, RefuseReason::OrphanNotStored) => {
                let at_ms = self.now_ms.saturating_add(ORPHAN_RETRY_MS);
                self.set(
                    at,
                    State::TruncateAgain {
                        epoch,
                        offset,
                        at_ms,
                    },
                );
            }
            (State::Streaming | State::Truncating { .. }, _) => self.refused_in_work(at, reason),
            // An answer to frames from before it left this state: more of them were under way.
            _ => {}
        }
    }

    fn refused_in_work(&mut self, at: TopicPartition, reason: RefuseReason) {
        tracing::warn!(partition = %at, ?reason, "the sink refused");
        match reason {
            RefuseReason::Fenced => {
                let at_ms = self.now_ms.saturating_add(FENCED_RETRY_MS);
                self.rest(at, State::Fenced { at_ms });
            }
            RefuseReason::UnknownPartition => self.rest(at, State::Unasked),
            RefuseReason::Damaged => {
                let end = self
                    .partitions
                    .get(&at)
                    .map_or(0, |p| p.progress.target_end());
                self.rest(at, State::Unasked);
                self.stop(at, Anomaly::new(AnomalyKind::Damaged, 0, end));
            }
            RefuseReason::DiskFull => self.reopen_sink(DISK_FULL_PAUSE),
            RefuseReason::OutOfOrder | RefuseReason::Corrupt | RefuseReason::OrphanNotStored => {
                self.setback(at, AnomalyKind::Refused, |flow| {
                    flow.reopen_sink(RESYNC_PAUSE)
                });
            }
        }
    }

    /// Out of work until something changes. Frames under way may have been refused too, so what the sink
    /// holds is no longer known: it has to be named by the sink before this partition goes on.
    fn rest(&mut self, at: TopicPartition, state: State) {
        self.leave_source(at);
        let Some(partition) = self.partitions.get_mut(&at) else {
            return;
        };
        partition.state = state;
        partition.lineage = None;
        self.settle(at);
    }
}
