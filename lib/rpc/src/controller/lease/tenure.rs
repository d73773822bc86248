//! One group's lease and ceiling on one broker: arithmetic only, time comes in.
//!
//! Invariants:
//! - the lease ends at the *sending* time of a request that a majority granted, plus its length;
//! - nothing is covered beyond what the newest granted request reserved, nor beyond what any request
//!   sent after it asked for: a voter may already hold that lower number as the newest, and the bound
//!   of a failover is taken from it;
//! - until the broker has said where it stands, everything is reserved: a number that was too low
//!   would be the newest one a voter knows, and the bound of a failover would lie below the truth;
//! - doubt (no answer, an unknown verdict) never extends anything.

use std::collections::{BTreeMap, VecDeque};

use whimbrel_fleet::{
    Ceiling, LossMode, Position, RegionEpoch,
    ceiling::ask_ahead,
    lease::{Answer, Lease, majority},
};

/// Reserves whatever there may be; voters keep it, and a bound taken from it is unknown.
const EVERYTHING: Position = Position {
    records: u64::MAX,
    bytes: u64::MAX,
};
/// The least that is asked for ahead of a busy broker, so that a burst does not wait for a round trip.
const FLOOR: Position = Position {
    records: 1_000,
    bytes: 1 << 20,
};
/// A broker that was quiet for so long reserves nothing ahead: an idle group's loss bound is then exact,
/// and its next write pays one round trip to the voters.
const QUIET_NS: u64 = 5_000_000_000;
/// Asks remembered while no majority answers; older ones are folded together.
const ASKS: usize = 64;
/// How often `loss_bound = "exact"` renews.
const EXACT_PERIOD_MS: u64 = 50;

/// What an answer changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Nothing,
    Granted,
    Lost,
}

#[derive(Debug)]
struct Round {
    sent_ns: u64,
    ceiling: Ceiling,
    yes: Vec<usize>,
    fenced: Vec<usize>,
}

/// A group's lease in one region epoch.
#[derive(Debug)]
pub struct Tenure {
    epoch: RegionEpoch,
    lease_ms: u64,
    mode: LossMode,
    voters: usize,
    position: Position,
    /// Version of the view whose leaderships `position` sums up.
    view_version: u64,
    /// False until the broker's sums are known in this tenure.
    is_placed: bool,
    /// Where the broker stood one period ago, for the rate.
    baseline: Position,
    baseline_ns: u64,
    moved_ns: u64,
    lease: Lease,
    asked: VecDeque<(u64, Position)>,
    rounds: BTreeMap<u64, Round>,
    fenced: Option<RegionEpoch>,
}

impl Tenure {
    pub fn new(
        epoch: RegionEpoch,
        lease_ms: u64,
        mode: LossMode,
        voters: usize,
        now_ns: u64,
    ) -> Self {
        Self {
            epoch,
            lease_ms,
            mode,
            voters,
            position: Position::default(),
            view_version: 0,
            is_placed: false,
            baseline: Position::default(),
            baseline_ns: now_ns,
            moved_ns: now_ns,
            lease: Lease::default(),
            asked: VecDeque::new(),
            rounds: BTreeMap::new(),
            fenced: None,
        }
    }

    pub fn epoch(&self) -> RegionEpoch {
        self.epoch
    }

    /// The epoch that fences this one, once so many voters know it that no majority is left.
    pub fn fenced(&self) -> Option<RegionEpoch> {
        self.fenced
    }

    /// A newer epoch begins without a lease; the same one keeps what it has. False for an older one.
    pub fn renew_terms(&mut self, epoch: RegionEpoch, lease_ms: u64, mode: LossMode) -> bool {
        if epoch < self.epoch {
            return false;
        }
        if epoch > self.epoch {
            self.epoch = epoch;
            self.lease = Lease::default();
            self.asked.clear();
            self.rounds.clear();
            self.fenced = None;
        }
        self.lease_ms = lease_ms;
        self.mode = mode;
        true
    }

    pub fn period_ms(&self) -> u64 {
        match self.mode {
            LossMode::Exact => EXACT_PERIOD_MS.min(self.lease_ms / 3),
            LossMode::Lease => self.lease_ms / 3,
        }
        .max(1)
    }

    pub fn lease_ms(&self) -> u64 {
        self.lease_ms
    }

    /// The broker's sums rose to `position`; a lower one is late news and ignored.
    pub fn set_position(&mut self, position: Position, now_ns: u64) {
        if !self.is_placed {
            return self.rebase_position(position, self.view_version, now_ns);
        }
        let higher = Position {
            records: position.records.max(self.position.records),
            bytes: position.bytes.max(self.position.bytes),
        };
        if higher != self.position {
            self.position = higher;
            self.moved_ns = now_ns;
        }
    }

    /// The view that requests are sent under.
    pub fn view_version(&self) -> u64 {
        self.view_version
    }

    /// The sums are over the partitions led in this view and may be lower.
    pub fn rebase_position(&mut self, position: Position, view_version: u64, now_ns: u64) {
        self.is_placed = true;
        self.view_version = self.view_version.max(view_version);
        self.position = position;
        self.baseline = position;
        self.baseline_ns = now_ns;
        self.moved_ns = now_ns;
    }

    /// Opens a renewal: what to ask every voter for.
    pub fn begin(&mut self, sequence: u64, now_ns: u64) -> Ceiling {
        let quiet = now_ns.saturating_sub(self.moved_ns) >= QUIET_NS;
        let position = if !self.is_placed {
            EVERYTHING
        } else if quiet {
            self.position
        } else {
            ask_ahead(self.position, self.baseline, FLOOR)
        };
        if now_ns.saturating_sub(self.baseline_ns) >= self.period_ms().saturating_mul(1_000_000) {
            self.baseline = self.position;
            self.baseline_ns = now_ns;
        }
        let ceiling = Ceiling { position, sequence };
        // A grant that comes later than this could only name an end that is over.
        let oldest = now_ns.saturating_sub(self.lease_ms.saturating_mul(1_000_000));
        self.rounds.retain(|_, round| round.sent_ns >= oldest);
        if self.asked.len() >= ASKS
            && let (Some((_, a)), Some((_, b))) = (self.asked.pop_front(), self.asked.front_mut())
        {
            *b = lower(a, *b);
        }
        self.asked.push_back((sequence, position));
        self.rounds.insert(
            sequence,
            Round {
                sent_ns: now_ns,
                ceiling,
                yes: Vec::new(),
                fenced: Vec::new(),
            },
        );
        ceiling
    }

    /// One voter's answer to the renewal `sequence` that was sent for `epoch`.
    pub fn answer(
        &mut self,
        epoch: RegionEpoch,
        sequence: u64,
        voter: usize,
        answer: &Answer,
    ) -> Change {
        if epoch != self.epoch {
            return Change::Nothing;
        }
        let Some(round) = self.rounds.get_mut(&sequence) else {
            return Change::Nothing;
        };
        let needed = majority(self.voters);
        match answer {
            Answer::Yes if !round.yes.contains(&voter) => {
                round.yes.push(voter);
                if round.yes.len() != needed {
                    return Change::Nothing;
                }
                let granted = Lease::granted(round.sent_ns, self.lease_ms, round.ceiling);
                self.grant(granted);
                Change::Granted
            }
            Answer::Fenced { epoch } if *epoch > self.epoch && !round.fenced.contains(&voter) => {
                round.fenced.push(voter);
                // So many know the fence that no majority without it is left: the lease can only run out.
                if self.voters.saturating_sub(round.fenced.len()) >= needed {
                    return Change::Nothing;
                }
                self.fenced = Some(*epoch);
                self.lease = Lease::default();
                self.rounds.clear();
                Change::Lost
            }
            _ => Change::Nothing,
        }
    }

    /// True when a lease was held in this epoch and is over.
    pub fn lapsed_at(&self, now_ns: u64) -> bool {
        self.lease.until_ns > 0 && !self.lease.valid_at(now_ns)
    }

    pub fn valid_at(&self, now_ns: u64) -> bool {
        self.lease.valid_at(now_ns)
    }

    /// True while an ack that brings the broker to `position` is allowed.
    pub fn covers(&self, position: Position, now_ns: u64) -> bool {
        let limit = Ceiling {
            position: self.limit(),
            sequence: 0,
        };
        self.valid_at(now_ns) && limit.covers(position)
    }

    /// True when acks wait for a higher ceiling than any that was asked for.
    pub fn is_short(&self) -> bool {
        let asked = self
            .asked
            .back()
            .map_or(self.lease.ceiling.position, |(_, p)| *p);
        !Ceiling {
            position: asked,
            sequence: 0,
        }
        .covers(self.position)
    }

    fn limit(&self) -> Position {
        self.asked
            .iter()
            .fold(self.lease.ceiling.position, |limit, (_, asked)| {
                lower(limit, *asked)
            })
    }

    fn grant(&mut self, granted: Lease) {
        self.lease.until_ns = self.lease.until_ns.max(granted.until_ns);
        if granted.ceiling.sequence > self.lease.ceiling.sequence {
            self.lease.ceiling = granted.ceiling;
            let newest = granted.ceiling.sequence;
            self.asked.retain(|(sequence, _)| *sequence > newest);
        }
        self.fenced = None;
    }
}

fn lower(a: Position, b: Position) -> Position {
    Position {
        records: a.records.min(b.records),
        bytes: a.bytes.min(b.bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn tenure() -> Tenure {
        let mut tenure = Tenure::new(RegionEpoch(1), 1_000, LossMode::Exact, 3, 0);
        tenure.set_position(at(0), 0);
        tenure
    }

    fn at(records: u64) -> Position {
        Position { records, bytes: 0 }
    }

    fn yes(tenure: &mut Tenure, sequence: u64, voter: usize) -> Change {
        tenure.answer(RegionEpoch(1), sequence, voter, &Answer::Yes)
    }

    #[test]
    fn a_majority_grants_from_the_sending_time() {
        let mut t = tenure();
        t.begin(1, 10 * MS);
        assert_eq!(yes(&mut t, 1, 0), Change::Nothing);
        assert_eq!(yes(&mut t, 1, 0), Change::Nothing, "one voter counts once");
        assert!(!t.valid_at(11 * MS));
        assert_eq!(yes(&mut t, 1, 2), Change::Granted);
        assert!(t.valid_at(1_010 * MS - 1));
        assert!(!t.valid_at(1_010 * MS));
        assert!(t.covers(at(1_000), 20 * MS));
        assert!(!t.covers(at(1_001), 20 * MS));
    }

    #[test]
    fn a_lower_ask_under_way_already_limits() {
        let mut t = tenure();
        t.set_position(at(50_000), 0);
        t.begin(1, 0);
        yes(&mut t, 1, 0);
        yes(&mut t, 1, 1);
        assert!(t.covers(at(150_000), MS));
        t.begin(2, 60 * MS);
        t.begin(3, 120 * MS);
        assert!(
            !t.covers(at(51_001), 130 * MS),
            "a voter may hold 51,000 as the newest ceiling"
        );
        assert!(t.covers(at(51_000), 130 * MS));
        yes(&mut t, 3, 0);
        yes(&mut t, 3, 1);
        assert!(t.covers(at(51_000), 130 * MS));
    }

    #[test]
    fn a_quiet_broker_reserves_nothing() {
        let mut t = tenure();
        t.set_position(at(7), 0);
        assert_eq!(t.begin(1, MS).position.records, 1_007);
        assert_eq!(t.begin(2, QUIET_NS).position, at(7));
        assert!(!t.is_short());
        t.set_position(at(8), QUIET_NS + MS);
        assert!(t.is_short(), "the next write asks at once");
    }

    #[test]
    fn one_voter_with_a_fence_does_not_stop_the_others_but_two_do() {
        let mut t = tenure();
        t.begin(1, 0);
        let fenced = Answer::Fenced {
            epoch: RegionEpoch(2),
        };
        assert_eq!(t.answer(RegionEpoch(1), 1, 0, &fenced), Change::Nothing);
        yes(&mut t, 1, 1);
        assert_eq!(yes(&mut t, 1, 2), Change::Granted);
        t.begin(2, MS);
        t.answer(RegionEpoch(1), 2, 0, &fenced);
        assert_eq!(t.answer(RegionEpoch(1), 2, 1, &fenced), Change::Lost);
        assert!(!t.valid_at(2 * MS));
        assert_eq!(yes(&mut t, 2, 2), Change::Nothing);
    }

    #[test]
    fn a_new_epoch_begins_without_a_lease_and_old_answers_count_for_nothing() {
        let mut t = tenure();
        t.begin(1, 0);
        yes(&mut t, 1, 0);
        assert!(t.renew_terms(RegionEpoch(3), 1_000, LossMode::Exact));
        assert_eq!(yes(&mut t, 1, 1), Change::Nothing);
        assert!(!t.valid_at(1));
        assert!(!t.renew_terms(RegionEpoch(2), 1_000, LossMode::Exact));
        assert_eq!(t.epoch(), RegionEpoch(3));
    }

    #[test]
    fn everything_is_reserved_until_the_broker_says_where_it_stands() {
        let mut t = Tenure::new(RegionEpoch(1), 1_000, LossMode::Exact, 3, 0);
        assert_eq!(t.begin(1, 0).position, EVERYTHING);
        t.set_position(at(1_000_000), MS);
        assert_eq!(t.begin(2, MS).position.records, 1_001_000);
        assert!(!t.covers(at(1_000_000), MS), "no lease yet");
        yes(&mut t, 1, 0);
        yes(&mut t, 1, 1);
        assert!(t.covers(at(1_001_000), MS));
        assert!(!t.covers(at(1_001_001), MS), "the lower ask is under way");
    }

    #[test]
    fn doubt_extends_nothing() {
        let mut t = tenure();
        t.begin(1, 0);
        yes(&mut t, 1, 0);
        assert_eq!(
            t.answer(RegionEpoch(1), 1, 1, &Answer::Unknown),
            Change::Nothing
        );
        t.begin(2, 1_001 * MS);
        assert_eq!(
            yes(&mut t, 1, 2),
            Change::Nothing,
            "the answer came after the lease's length"
        );
        assert!(!t.valid_at(0));
    }
}
