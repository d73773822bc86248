//! One partition of one follower's stream: where it stands and what to send next.

use std::sync::Arc;

use bytes::Bytes;
use whimbrel_fleet::{Lineage, RegionEpoch};
use whimbrel_log::ReadError;
use whimbrel_rpc::replica::{Batches, FromSource, StopReason};

use crate::{
    broker::Broker,
    cleaner::{Patience, held},
    log_starts,
    partition::{Feed, Partition, Role},
    reports::lineage,
};

/// Records per frame: large enough for throughput, small enough for fairness among partitions.
const CHUNK: usize = 1 << 20;
/// Without news a frame is sent so often, so that lag in time is known at the follower.
const PROGRESS_NS: u64 = 500_000_000;

#[derive(Debug)]
pub struct Subscription {
    pub partition: Arc<Partition>,
    /// Our log was cut, or was another's to write, since this began: it has to begin anew.
    breaks: u64,
    next: i64,
    /// What the follower was told last, and when.
    told: (i64, i64),
    told_ns: u64,
    /// A cold read is under way.
    pub waits: bool,
}

/// What to do for a subscription now.
#[derive(Debug)]
pub enum Step {
    Nothing,
    Send(Box<Batches>),
    /// The records are only in the bucket.
    Cold {
        offset: i64,
    },
    Stop(StopReason),
}

impl Subscription {
    /// Begins where the follower's log ends, if that is a prefix of ours.
    pub fn begin(partition: Arc<Partition>, theirs: &Lineage) -> Result<Self, Box<FromSource>> {
        let at = partition.at;
        let breaks = partition.breaks();
        let relays = partition.leads().is_none();
        let offsets = partition.log.offsets();
        let ours = lineage(&partition, offsets.durable_end);
        if !theirs.epochs.is_empty() {
            let common = ours.common(theirs);
            // A head has no word in what is the home's lineage: one that has more waits for it.
            let ahead = common.offset >= offsets.durable_end && common.offset < theirs.end_offset;
            if relays && ahead {
                return Err(Box::new(FromSource::Stopped {
                    at,
                    reason: StopReason::NotLeader,
                }));
            }
            if common.offset < theirs.end_offset && is_foreign(&ours, theirs, offsets.log_start) {
                return Err(Box::new(FromSource::Diverged {
                    at,
                    epoch: common.epoch,
                    offset: common.offset,
                }));
            }
            if theirs.end_offset < offsets.log_start {
                return Err(Box::new(FromSource::Stopped {
                    at,
                    reason: StopReason::Trimmed {
                        log_start: offsets.log_start,
                    },
                }));
            }
        }
        // An empty follower has nothing to lose below our log start.
        let next = theirs.end_offset.max(offsets.log_start);
        Ok(Self {
            partition,
            breaks,
            next,
            told: (-1, -1),
            told_ns: 0,
            waits: false,
        })
    }

    /// The next step, with at most `credit` bytes of records (one batch may be larger).
    pub fn step(&mut self, broker: &Broker, credit: u64) -> Step {
        if self.waits {
            return Step::Nothing;
        }
        let Some((region_epoch, leader_epoch)) = self.terms() else {
            return Step::Stop(StopReason::NotLeader);
        };
        let end = self.partition.stream_end();
        let offsets = self.partition.log.offsets();
        if self.next < end && credit > 0 {
            if self.next < offsets.log_start {
                return Step::Stop(StopReason::Trimmed {
                    log_start: offsets.log_start,
                });
            }
            let most = CHUNK.min(usize::try_from(credit).unwrap_or(CHUNK));
            return match self.partition.log.read(self.next, most, true, end) {
                Ok(slice) => self.send(
                    broker,
                    region_epoch,
                    leader_epoch,
                    slice.records,
                    slice.next_offset,
                ),
                Err(ReadError::BelowLocal { .. }) => Step::Cold { offset: self.next },
                Err(error) => {
                    tracing::error!(at = %self.partition.at, offset = self.next, %error, "records cannot be read for a follower");
                    Step::Stop(StopReason::Unreadable)
                }
            };
        }
        let now = (
            self.partition.high_watermark(),
            log_starts::told(&self.partition),
        );
        let news = self.told != now;
        if !news && broker.clock.boot_ns().saturating_sub(self.told_ns) < PROGRESS_NS {
            return Step::Nothing;
        }
        let next = self.next;
        self.send(broker, region_epoch, leader_epoch, Bytes::new(), next)
    }

    /// Region and leader epoch of what is sent; `None` when this has to begin anew, here or elsewhere.
    pub fn terms(&self) -> Option<(RegionEpoch, i32)> {
        let role = self.partition.role();
        // The role first: a break after it shows in the count.
        if self.partition.breaks() != self.breaks {
            return None;
        }
        match role {
            Role::Leader(terms) => Some((terms.region_epoch, terms.leader_epoch)),
            Role::Follower {
                region_epoch,
                feed: Feed::Home,
            } if self.partition.following.is_confirmed() => {
                Some((region_epoch, self.partition.following.leader_epoch()))
            }
            _ => None,
        }
    }

    /// A frame with records that were read here or fetched from the bucket.
    pub fn send(
        &mut self,
        broker: &Broker,
        region_epoch: RegionEpoch,
        leader_epoch: i32,
        records: Bytes,
        next: i64,
    ) -> Step {
        let partition = &self.partition;
        self.next = next;
        self.told = (partition.high_watermark(), log_starts::told(partition));
        self.told_ns = broker.clock.boot_ns();
        let log_end = partition.stream_end();
        Step::Send(Box::new(Batches {
            at: partition.at,
            region_epoch,
            leader_epoch,
            log_start: self.told.1,
            log_end,
            log_bytes: partition.log.durable_bytes(),
            high_watermark: self.told.0,
            last_stable_offset: partition.last_stable_offset(),
            held_end: held(&broker.catalog(), partition, Patience::of(broker)).end,
            source_clock_ms: broker.clock.wall_ms(),
            next_append_time_ms: if next < log_end {
                partition.log.appended_by(next).unwrap_or(-1)
            } else {
                -1
            },
            records,
        }))
    }
}

/// Whether a log that ends above the last point it has in common with ours must have been written by
/// another leader. Our lineage begins at our log start, so what lies wholly below that may have been ours
/// once; it is foreign all the same where it carries a newer epoch than the oldest record we have.
fn is_foreign(ours: &Lineage, theirs: &Lineage, log_start: i64) -> bool {
    let oldest = ours.epochs.first().map_or(i32::MAX, |e| e.epoch);
    theirs.end_offset > log_start || theirs.last_epoch() > oldest
}

#[cfg(test)]
mod tests {
    use whimbrel_fleet::EpochStart;

    use super::*;

    fn lineage(epochs: &[(i32, i64)], end_offset: i64) -> Lineage {
        let epochs = epochs.iter().map(|&(epoch, start_offset)| EpochStart {
            epoch,
            start_offset,
        });
        Lineage {
            epochs: epochs.collect(),
            end_offset,
        }
    }

    #[test]
    fn a_tail_is_foreign_also_where_ours_was_trimmed_past_its_beginning() {
        let ours = lineage(&[(5, 1_000)], 1_500);
        assert!(
            is_foreign(&ours, &lineage(&[(3, 0)], 1_200), 1_000),
            "it ends above our log start and shares nothing"
        );
        assert!(
            !is_foreign(&ours, &lineage(&[(3, 0)], 1_000), 1_000),
            "it may be what was trimmed"
        );
        assert!(
            is_foreign(&ours, &lineage(&[(3, 0), (6, 700)], 900), 1_000),
            "an epoch newer than our oldest record cannot stand below it"
        );
    }
}
