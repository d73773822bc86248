//! One partition on this broker: its log, its role, and what may be seen and acknowledged of it.
//!
//! Invariants:
//! - Nothing that is not fsynced is seen by anybody; who wrote it may have been told (see [`early`]).
//! - `high watermark <= stream end <= durable end`; the first two never fall while the role lasts.
//! - The stream end passes an append only when that is fsynced *and* its position was covered by the
//!   lease's ceiling, so nothing leaves this broker that was not reserved first. (While a planned move
//!   drains, the fsynced end alone counts: the sealed position is exact.)
//! - The role changes only under the same lock that appends hold: after [`Partition::follow`] returned,
//!   no client's batch can come in any more.

mod append;
mod early;
mod elsewhere;
mod insync;
mod progress;
mod role;
mod transactions;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use whimbrel_fleet::{Node, NodeId, Position, RegionEpoch, RegionName, TopicPartition};
use whimbrel_log::Log;
use whimbrel_rpc::controller::LeaseHolder;
use whimbrel_wire::ErrorCode;

pub use append::{Acks, InFlight};
pub use early::SYNCED;
pub use elsewhere::{Now, Stand};
pub use insync::AckSet;
pub use role::{Feed, Role, Terms};

use early::{Early, Standing};
use progress::{Progress, keeps_up};

use crate::{following::Following, home::Home, txn::Admissions, waiters::Waiters};

#[derive(Debug)]
pub struct Partition {
    pub at: TopicPartition,
    pub log: Arc<Log>,
    pub home: Arc<Home>,
    pub waiters: Waiters,
    /// What the source's frames say, while another region is home.
    pub following: Following,
    /// Notified when the role changes or opens.
    pub role_changed: Notify,
    /// On the flusher's list already.
    pub(crate) listed: AtomicBool,
    /// On its list of those that wait for the ceiling.
    pub(crate) at_ceiling: AtomicBool,
    state: Mutex<State>,
    high_watermark: AtomicI64,
    stream_end: AtomicI64,
    /// Offsets below are verified in this region's bucket.
    tiered_end: AtomicI64,
    /// The bucket's last record is of another log.
    bucket_differs: AtomicBool,
    /// Counts the times after which a stream that was being read from here has to begin anew.
    breaks: AtomicU64,
}

#[derive(Debug)]
struct State {
    role: Role,
    /// Appends not yet covered: (end offset, position of the group after the append).
    uncovered: VecDeque<(i64, Position)>,
    /// Acks that wait for the high watermark to reach their end.
    acks: VecDeque<Waiting>,
    early: Early,
    insync: insync::Insync,
    /// What other regions hold, as their followers say.
    remote: BTreeMap<RegionName, Remote>,
    elsewhere: elsewhere::Elsewhere,
    sync_set: BTreeSet<RegionName>,
    lossy_promotion: Option<i64>,
    /// A planned move drains: streams go to the fsynced end.
    draining: bool,
    /// No replica's batch comes in: an unplanned move takes the group away from its home.
    sealed: bool,
    admissions: Admissions,
}

/// What another region holds.
#[derive(Debug)]
struct Remote {
    progress: Progress,
    /// The stream that feeds it, while there is one.
    stream: Weak<()>,
}

impl Remote {
    fn end(&self) -> i64 {
        self.progress.end
    }
}

/// An ack that waits for the high watermark, or for less.
#[derive(Debug)]
struct Waiting {
    end: i64,
    acks: Acks,
    sender: oneshot::Sender<ErrorCode>,
}

/// An ack set that a leader would like to have: its followers, itself left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsrProposal {
    pub leader_epoch: i32,
    pub version: u32,
    pub followers: BTreeSet<NodeId>,
}

/// What [`Partition::advance`] left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advanced {
    /// Everything fsynced is covered.
    Clear,
    /// Fsynced appends wait for the ceiling: look again when the lease changes.
    AtCeiling,
}

impl Partition {
    pub fn new(log: Arc<Log>, home: Arc<Home>, boot_ns: u64) -> Arc<Self> {
        let offsets = log.offsets();
        // What the checkpoint says; at least the log start, at most what is there.
        let high_watermark = log.high_watermark().clamp(
            offsets.log_start,
            offsets.durable_end.max(offsets.log_start),
        );
        Arc::new(Self {
            at: TopicPartition::new(log.topic_id(), log.partition()),
            home,
            waiters: Waiters::default(),
            following: Following::new(boot_ns),
            role_changed: Notify::new(),
            listed: AtomicBool::new(false),
            at_ceiling: AtomicBool::new(false),
            state: Mutex::new(State {
                role: Role::None,
                uncovered: VecDeque::new(),
                acks: VecDeque::new(),
                early: Early::default(),
                insync: insync::Insync::default(),
                remote: BTreeMap::new(),
                elsewhere: elsewhere::Elsewhere::default(),
                sync_set: BTreeSet::new(),
                lossy_promotion: None,
                draining: false,
                sealed: false,
                admissions: Admissions::default(),
            }),
            high_watermark: AtomicI64::new(high_watermark),
            stream_end: AtomicI64::new(high_watermark),
            tiered_end: AtomicI64::new(0),
            bucket_differs: AtomicBool::new(false),
            breaks: AtomicU64::new(0),
            log,
        })
    }

    pub fn high_watermark(&self) -> i64 {
        self.high_watermark.load(Ordering::Acquire)
    }

    /// How far replica streams may read.
    pub fn stream_end(&self) -> i64 {
        self.stream_end.load(Ordering::Acquire)
    }

    /// Kafka's last stable offset: consumers at read_committed see what is below.
    pub fn last_stable_offset(&self) -> i64 {
        let high_watermark = self.high_watermark();
        self.log
            .first_unstable_offset()
            .map_or(high_watermark, |unstable| unstable.min(high_watermark))
    }

    pub fn tiered_end(&self) -> i64 {
        self.tiered_end.load(Ordering::Acquire)
    }

    pub fn bucket_differs(&self) -> bool {
        self.bucket_differs.load(Ordering::Acquire)
    }

    /// True where that was not known.
    pub fn set_bucket_differs(&self, differs: bool) -> bool {
        self.bucket_differs.swap(differs, Ordering::AcqRel) != differs
    }

    /// The bucket's verified extent; a lower one (after a truncation there) counts too.
    pub fn set_tiered_end(&self, end: i64) {
        self.tiered_end.store(end, Ordering::Release);
    }

    /// A follower in `region` holds everything below `end` fsynced, and is fed as long as `stream` lives.
    /// True when acks may have waited for it.
    pub fn set_remote(
        &self,
        region: &RegionName,
        end: i64,
        stream: &Arc<()>,
        boot_ns: u64,
    ) -> bool {
        let mut state = self.state.lock();
        let all = self.log.offsets().durable_end;
        state.elsewhere.heard(region, end, all, boot_ns);
        let stream = Arc::downgrade(stream);
        let log_end = self.log.offsets().log_end;
        match state.remote.get_mut(region) {
            Some(remote) => {
                remote.progress.note(end, log_end, boot_ns);
                remote.stream = stream;
            }
            None => {
                let progress = Progress::new(end, log_end, boot_ns);
                state
                    .remote
                    .insert(region.clone(), Remote { progress, stream });
            }
        }
        state.sync_set.contains(region)
    }

    /// The follower in `region` is not fed any more.
    pub fn unfed(&self, region: &RegionName) {
        if let Some(remote) = self.state.lock().remote.get_mut(region) {
            remote.stream = Weak::new();
        }
    }

    /// How far the copy on `node` is, where this leader feeds it: of this region, if it is in the ack set.
    pub fn copy_end(&self, node: &Node) -> Option<i64> {
        let state = self.state.lock();
        let remote = || {
            let remote = state.remote.get(&node.region)?;
            (remote.stream.strong_count() > 0).then_some(remote.progress.end)
        };
        state.insync.end_of(node.id).or_else(remote)
    }

    /// A follower of this region holds everything below `end` fsynced. True when something may follow from
    /// that: an ack, or that it can join the ack set.
    pub fn set_follower(&self, node: NodeId, end: i64, boot_ns: u64) -> (bool, bool) {
        let mut state = self.state.lock();
        let Role::Leader(terms) = state.role else {
            return (false, false);
        };
        let log_end = self.log.offsets().log_end;
        let before = state.insync.held();
        state.insync.note(node, end, log_end, boot_ns);
        let needed = self.needed(&state, terms);
        (
            state.insync.held() != before,
            state.insync.may_join(node, needed),
        )
    }

    /// What a follower must have to join the ack set: all that was acknowledged without it.
    fn needed(&self, state: &State, terms: Terms) -> i64 {
        let acked_end = state.early.acked_end();
        self.high_watermark().max(terms.epoch_start).max(acked_end)
    }

    /// The ack set that this leader proposes, if the present one is not right any more.
    pub fn propose_isr(&self, boot_ns: u64, lag_ns: u64) -> Option<IsrProposal> {
        let mut state = self.state.lock();
        let Role::Leader(terms) = state.role else {
            return None;
        };
        if !state.insync.is_shared() {
            return None;
        }
        // What is not fsynced here no follower can have.
        let end = self.stream_end();
        let needed = self.needed(&state, terms);
        let (version, followers) = state.insync.propose(needed, end, boot_ns, lag_ns)?;
        Some(IsrProposal {
            leader_epoch: terms.leader_epoch,
            version,
            followers,
        })
    }

    /// Whether the head of `region` keeps up with this leader. One that `did` is given time by a leader that has only
    /// begun.
    pub fn is_kept_up_with(
        &self,
        region: &RegionName,
        did: bool,
        boot_ns: u64,
        lag_ns: u64,
    ) -> bool {
        let state = self.state.lock();
        let progress = state.remote.get(region).map(|remote| &remote.progress);
        let since_ns = did.then(|| state.insync.since_ns());
        keeps_up(progress, since_ns, self.stream_end(), boot_ns, lag_ns)
    }

    /// Copies in the committed ack set, this one included; 0 where this broker does not lead.
    pub fn insync_size(&self) -> usize {
        let state = self.state.lock();
        match state.role {
            Role::Leader(_) => state.insync.size(),
            _ => 0,
        }
    }

    /// Changes whenever what was read from here may not be what is here now.
    pub fn breaks(&self) -> u64 {
        self.breaks.load(Ordering::Acquire)
    }

    fn broke_off(&self) {
        self.breaks.fetch_add(1, Ordering::AcqRel);
    }

    /// Moves stream end and high watermark as far as disk, ceiling and sync set allow, answers the acks
    /// that this frees and wakes parked fetches.
    pub fn advance(&self, lease: &LeaseHolder) -> Advanced {
        let mut state = self.state.lock();
        let offsets = self.log.offsets();
        let before = (self.high_watermark(), self.stream_end());
        let (stream_end, high_watermark) = match state.role {
            Role::Leader(_) => {
                let covered = state.cover(lease, &self.home.group, offsets.durable_end, before.1);
                let held = state
                    .sync_set
                    .iter()
                    .map(|region| state.remote.get(region).map_or(0, Remote::end))
                    .min();
                let held = held.into_iter().chain(state.insync.held()).min();
                (covered, held.map_or(covered, |held| held.min(covered)))
            }
            Role::Follower { .. } => {
                let end = offsets.durable_end;
                (end, self.following.high_watermark().min(end))
            }
            Role::None => before,
        };
        let high_watermark = high_watermark.max(before.0).max(offsets.log_start);
        self.stream_end
            .store(stream_end.max(before.1), Ordering::Release);
        if high_watermark != before.0 {
            self.high_watermark.store(high_watermark, Ordering::Release);
            self.log.set_high_watermark(high_watermark);
        }
        let standing = Standing {
            high_watermark,
            durable_end: offsets.durable_end,
            alone: state.is_alone(),
            enough: state.insync.is_enough(),
        };
        let waits = state.answer(lease, &self.home.group, standing);
        drop(state);
        if (high_watermark, stream_end) != before {
            self.waiters.wake();
        }
        if waits {
            Advanced::AtCeiling
        } else {
            Advanced::Clear
        }
    }

    /// Log end and bytes as they count in the group's position.
    pub fn position(&self) -> Position {
        Position {
            records: u64::try_from(self.log.offsets().log_end).unwrap_or(0),
            bytes: self.log.bytes_appended(),
        }
    }
}

impl State {
    /// Takes off what is fsynced and covered, and says how far that reaches.
    fn cover(
        &mut self,
        lease: &LeaseHolder,
        group: &whimbrel_fleet::GroupName,
        durable_end: i64,
        reached: i64,
    ) -> i64 {
        let durable = self
            .uncovered
            .partition_point(|(end, _)| *end <= durable_end);
        let covered = match durable
            .checked_sub(1)
            .and_then(|last| self.uncovered.get(last))
        {
            None => 0,
            Some(_) if self.draining => durable,
            // Positions rise: when the last is covered, all are.
            Some((_, position)) if lease.covers(group, *position) => durable,
            Some(_) => self
                .uncovered
                .iter()
                .take(durable)
                .take_while(|(_, position)| lease.covers(group, *position))
                .count(),
        };
        self.uncovered
            .drain(..covered)
            .next_back()
            .map_or(reached, |(end, _)| end.max(reached))
    }

    /// Answers the acks that can be; true when something waits for the ceiling.
    fn answer(
        &mut self,
        lease: &LeaseHolder,
        group: &whimbrel_fleet::GroupName,
        now: Standing,
    ) -> bool {
        while self
            .acks
            .front()
            .is_some_and(|waiting| waiting.end <= now.high_watermark)
        {
            if let Some(waiting) = self.acks.pop_front() {
                waiting.answer(now.enough);
            }
        }
        let uncovered = &self.uncovered;
        // What is taken off is covered; positions rise.
        let covered = |upto: i64| {
            let at = uncovered.partition_point(|(end, _)| *end < upto);
            let position = uncovered.get(at).map(|(_, position)| *position);
            position.is_none_or(|position| lease.covers(group, position))
        };
        let early_waits = self.early.answer(now, covered);
        let durable_waits = uncovered
            .front()
            .is_some_and(|(end, _)| *end <= now.durable_end);
        early_waits || durable_waits
    }

    fn fail_acks(&mut self, error: ErrorCode) {
        for waiting in self.acks.drain(..).chain(self.early.drain()) {
            let _ = waiting.sender.send(error);
        }
    }
}

impl Waiting {
    /// Takes its place in a queue by ends: a duplicate may end below what already waits.
    fn queue(self, queue: &mut VecDeque<Waiting>) {
        let at = queue.partition_point(|waiting| waiting.end <= self.end);
        queue.insert(at, self);
    }

    fn answer(self, enough: bool) {
        let short = self.acks == Acks::Insync && !enough;
        // The request may have timed out meanwhile.
        let _ = self.sender.send(if short {
            ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
        } else {
            ErrorCode::NONE
        });
    }
}

impl Terms {
    /// True while this leader's lease stands.
    pub fn held(&self, lease: &LeaseHolder, home: &Home) -> bool {
        lease.check(&home.group, self.region_epoch)
    }
}

/// Region epoch of a role, where it has one.
impl Role {
    pub fn region_epoch(&self) -> Option<RegionEpoch> {
        match self {
            Self::Leader(terms) => Some(terms.region_epoch),
            Self::Follower { region_epoch, .. } => Some(*region_epoch),
            Self::None => None,
        }
    }
}
