//! Acknowledgements before the sync, for topics that ask for it by name (`flush.messages`): the ack alone is early.
//! High watermark, streams and everything that leaves this broker wait for the sync as ever, so that what a power cut
//! takes was seen by the one producer that sent it.
//!
//! An append is acknowledged early if fewer records than the bound are then acknowledged and not synced; if it is
//! below the lease's ceiling; and if nobody else holds or is about to hold the partition, neither another copy of
//! the region nor a region that acks wait for: who takes over must have what was acknowledged. Transactional batches
//! and markers wait for the sync. An ack that may not be early falls back to the high watermark; none fails for it.

use std::collections::VecDeque;

use super::{Acks, Partition, State, Waiting};

/// One more than the most records that may be acknowledged and not synced, where everything is synced first.
pub const SYNCED: i64 = 1;

/// Where a partition stands when its acks are looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) high_watermark: i64,
    pub(super) durable_end: i64,
    /// No other copy is, or may come to be, waited for.
    pub(super) alone: bool,
    /// The ack set has `min.insync.replicas`.
    pub(super) enough: bool,
}

#[derive(Debug)]
pub(super) struct Early {
    /// Fewer records are acknowledged and not synced.
    bound: i64,
    /// Everything that was acknowledged early lies below.
    acked_end: i64,
    /// Acks that may be given early, by their ends.
    acks: VecDeque<Waiting>,
}

impl Default for Early {
    fn default() -> Self {
        Self {
            bound: SYNCED,
            acked_end: 0,
            acks: VecDeque::new(),
        }
    }
}

/// What became of an ack that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Durable,
    Early,
    /// It would be early but for the ceiling.
    AtCeiling,
    Waits,
}

impl Early {
    /// A new role: whoever leads has synced what is there.
    pub(super) fn begin(&mut self) {
        self.acked_end = 0;
    }

    pub(super) fn takes_any(&self) -> bool {
        self.bound > SYNCED
    }

    /// A joiner of the ack set needs everything below.
    pub(super) fn acked_end(&self) -> i64 {
        self.acked_end
    }

    pub(super) fn push(&mut self, waiting: Waiting) {
        waiting.queue(&mut self.acks);
    }

    fn look(&self, waiting: &Waiting, now: Standing, covered: impl FnOnce(i64) -> bool) -> Look {
        let end = waiting.end;
        let unsynced = end.saturating_sub(now.durable_end);
        if end <= now.high_watermark {
            Look::Durable
        } else if unsynced >= self.bound
            || !self.takes_any()
            || !now.alone
            || (waiting.acks == Acks::Insync && !now.enough)
        {
            Look::Waits
        } else if covered(end) {
            Look::Early
        } else {
            Look::AtCeiling
        }
    }

    /// Answers what may be answered; true when the next one waits for the ceiling alone.
    pub(super) fn answer(&mut self, now: Standing, covered: impl Fn(i64) -> bool) -> bool {
        while let Some(waiting) = self.acks.front() {
            let look = self.look(waiting, now, &covered);
            if look == Look::Early {
                self.acked_end = self.acked_end.max(waiting.end);
            } else if look != Look::Durable {
                return look == Look::AtCeiling;
            }
            if let Some(waiting) = self.acks.pop_front() {
                waiting.answer(now.enough);
            }
        }
        false
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Waiting> {
        self.acks.drain(..)
    }
}

impl State {
    /// No other copy is waited for, nor can any join before the view says more.
    pub(super) fn is_alone(&self) -> bool {
        !self.insync.is_shared() && self.sync_set.is_empty()
    }
}

impl Partition {
    /// Fewer records than `bound` may be acknowledged before they are synced, from now on. A higher bound must have
    /// been noted on the disk ([`whimbrel_log::Disk::allow_early_acks`]).
    pub fn bound_unsynced(&self, bound: i64) {
        self.state.lock().early.bound = bound.max(SYNCED);
    }

    pub fn unsynced_bound(&self) -> i64 {
        self.state.lock().early.bound
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::sync::oneshot::{self, Receiver};
    use whimbrel_wire::ErrorCode;

    use super::*;

    const NOW: Standing = Standing {
        high_watermark: 10,
        durable_end: 10,
        alone: true,
        enough: true,
    };

    struct Acked {
        early: Early,
        waiting: BTreeMap<i64, Receiver<ErrorCode>>,
    }

    impl Acked {
        fn new(bound: i64) -> Self {
            let early = Early {
                bound,
                ..Early::default()
            };
            Self {
                early,
                waiting: BTreeMap::new(),
            }
        }

        fn append(&mut self, end: i64, acks: Acks) {
            let (sender, answer) = oneshot::channel();
            self.early.push(Waiting { end, acks, sender });
            self.waiting.insert(end, answer);
        }

        /// The ends that are answered, and how.
        fn answered(&mut self, now: Standing, ceiling: i64) -> Vec<(i64, ErrorCode)> {
            self.early.answer(now, |end| end <= ceiling);
            let mut found = Vec::new();
            self.waiting.retain(|end, answer| {
                let got = answer.try_recv().ok();
                found.extend(got.map(|code| (*end, code)));
                got.is_none()
            });
            found
        }

        fn ends(&mut self, now: Standing, ceiling: i64) -> Vec<i64> {
            let answered = self.answered(now, ceiling).into_iter();
            answered
                .map(|(end, code)| {
                    assert_eq!(code, ErrorCode::NONE);
                    end
                })
                .collect()
        }
    }

    fn three(bound: i64) -> Acked {
        let mut acked = Acked::new(bound);
        for end in [13, 11, 12] {
            acked.append(end, Acks::Insync);
        }
        acked
    }

    #[test]
    fn fewer_than_the_bound_are_acknowledged_and_not_synced() {
        let mut acked = three(3);
        assert_eq!(acked.ends(NOW, 100), [11, 12]);
        assert_eq!(acked.early.acked_end(), 12);
        let synced = Standing {
            durable_end: 11,
            ..NOW
        };
        assert_eq!(acked.ends(synced, 100), [13]);
        assert_eq!(acked.early.acked_end(), 13);
        assert_eq!(three(1).ends(NOW, 100), [0; 0]);
    }

    #[test]
    fn what_the_ceiling_does_not_cover_waits_and_says_so() {
        let mut acked = three(100);
        assert_eq!(acked.ends(NOW, 11), [11]);
        assert!(acked.early.answer(NOW, |_| false));
        assert_eq!(acked.ends(NOW, 13), [12, 13]);
        assert!(!acked.early.answer(NOW, |_| false));
    }

    #[test]
    fn nothing_is_early_where_another_copy_is_or_may_be_waited_for() {
        let mut acked = three(100);
        let shared = Standing {
            alone: false,
            ..NOW
        };
        assert_eq!(acked.ends(shared, 100), [0; 0]);
        assert_eq!(acked.early.acked_end(), 0);
        let held = Standing {
            durable_end: 13,
            high_watermark: 12,
            ..shared
        };
        assert_eq!(acked.ends(held, 0), [11, 12], "as ever");
        assert_eq!(acked.early.acked_end(), 0);
        assert_eq!(acked.ends(NOW, 100), [13], "alone again");
    }

    #[test]
    fn too_small_an_ack_set_is_told_of_when_the_record_is_durable() {
        let mut acked = three(100);
        acked.append(14, Acks::Any);
        let short = Standing {
            enough: false,
            ..NOW
        };
        assert_eq!(acked.answered(short, 100), []);
        let durable = Standing {
            high_watermark: 14,
            durable_end: 14,
            ..short
        };
        let after = ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND;
        let told = [(11, after), (12, after), (13, after), (14, ErrorCode::NONE)];
        assert_eq!(acked.answered(durable, 100), told);
    }

    #[test]
    fn a_lowered_bound_lets_acks_wait_for_the_sync_and_fails_none() {
        let mut acked = three(3);
        acked.early.bound = 1;
        assert_eq!(acked.ends(NOW, 100), [0; 0]);
        acked.early.bound = 2;
        assert_eq!(acked.ends(NOW, 100), [11]);
        let durable = Standing {
            high_watermark: 13,
            durable_end: 13,
            ..NOW
        };
        assert_eq!(acked.ends(durable, 0), [12, 13]);
    }

    /// Every standing that can come about, step by step: nothing is early above the bound or the ceiling.
    #[test]
    fn no_order_of_appends_syncs_and_grants_acknowledges_too_much() {
        for seed in 0..2_000_u64 {
            let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut next = |below: u64| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                i64::try_from(random % below).unwrap()
            };
            let bound = 1 + next(5);
            let mut acked = Acked::new(bound);
            let (mut end, mut ceiling, mut now) = (10, 10, NOW);
            for _ in 0..40 {
                match next(5) {
                    0 | 1 => {
                        end += 1 + next(3);
                        acked.append(end, Acks::Insync);
                    }
                    2 => now.durable_end += next(4).min(end - now.durable_end),
                    3 => ceiling += next(6),
                    _ => now.alone = next(3) > 0,
                }
                now.high_watermark = now.durable_end.min(ceiling).max(now.high_watermark);
                for end in acked.ends(now, ceiling) {
                    let early = end > now.high_watermark;
                    let allowed = now.alone && end <= ceiling && end - now.durable_end < bound;
                    assert!(!early || allowed, "{seed}: {end} {now:?}");
                }
                let left = acked.waiting.keys().next();
                assert!(left.is_none_or(|end| *end > now.high_watermark), "{seed}");
                assert!(acked.early.acked_end() - now.durable_end < bound, "{seed}");
            }
        }
    }
}
