//! Renews the leases of a home broker: one task per group, one request per voter and renewal, all
//! voters in parallel, no leader needed.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};
use tonic::transport::Channel;
use whimbrel_fleet::{
    GroupName, HostPort, Incarnation, LossMode, NodeId, Position, RegionEpoch, RegionName,
    lease::Answer,
};
use whimbrel_runtime::{Clock, Shutdown, Tasks};

use super::tenure::{Change, Tenure};
use crate::{
    address::{uuid_bytes, uuid_from},
    controller::call::channel,
    proto::controller::{
        LeaseReply, LeaseRequest, lease_reply::Verdict, voter_client::VoterClient,
    },
};

/// Requests on their way to one voter: one that does not answer costs no more than these.
const IN_FLIGHT: usize = 32;
/// Least distance of two renewals that acks asked for.
const HURRY_NS: u64 = 2_000_000;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseIdentity {
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub region: RegionName,
}

/// The leases of this process. Clones share them.
#[derive(Clone, Debug)]
pub struct LeaseHolder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    voters: Vec<VoterClient<Channel>>,
    /// Of the configured ones; one that cannot be reached at all still counts against a majority.
    voter_count: usize,
    identity: LeaseIdentity,
    tasks: Tasks,
    clock: Clock,
    groups: RwLock<BTreeMap<GroupName, Arc<Slot>>>,
    sequence: AtomicU64,
    /// The start that each voter named last.
    starts: Mutex<Vec<Option<Incarnation>>>,
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct Slot {
    tenure: Mutex<Tenure>,
    hurry: Notify,
    stop: Shutdown,
}

impl LeaseHolder {
    pub fn new(
        voters: Vec<HostPort>,
        identity: LeaseIdentity,
        tasks: &Tasks,
        clock: Clock,
    ) -> Self {
        let voter_count = voters.len();
        let voters: Vec<_> = voters
            .iter()
            .filter_map(channel)
            .map(VoterClient::new)
            .collect();
        let starts = Mutex::new(vec![None; voters.len()]);
        Self {
            inner: Arc::new(Inner {
                voters,
                voter_count,
                identity,
                tasks: tasks.clone(),
                clock,
                groups: RwLock::default(),
                sequence: AtomicU64::new(0),
                starts,
                changed: watch::Sender::new(0),
            }),
        }
    }

    /// Asks for the lease of `group` from now on. Called whenever the view says that this region is its
    /// home; the same terms again change nothing, a newer epoch begins without a lease.
    pub fn hold(&self, group: &GroupName, epoch: RegionEpoch, lease_ms: u64, mode: LossMode) {
        let mut groups = self.inner.groups.write();
        if let Some(slot) = groups.get(group) {
            slot.tenure.lock().renew_terms(epoch, lease_ms, mode);
            slot.hurry.notify_one();
            return;
        }
        let tenure = Tenure::new(
            epoch,
            lease_ms,
            mode,
            self.inner.voter_count,
            self.inner.clock.boot_ns(),
        );
        let slot = Arc::new(Slot {
            tenure: Mutex::new(tenure),
            hurry: Notify::new(),
            stop: self.inner.tasks.shutdown().child(),
        });
        groups.insert(group.clone(), Arc::clone(&slot));
        self.inner.tasks.spawn_ok(
            format!("lease {group}"),
            renew(Arc::clone(&self.inner), group.clone(), slot),
        );
    }

    /// Gives the lease up: from here on nothing is allowed, before any voter hears of it.
    pub fn drop_group(&self, group: &GroupName) {
        if let Some(slot) = self.inner.groups.write().remove(group) {
            slot.stop.request();
            self.inner.tick();
        }
    }

    /// Where acks want to go: sums over the partitions this broker leads, everything appended included.
    /// Call it after an append and before [`Self::covers`]. Lower values are ignored.
    pub fn set_position(&self, group: &GroupName, position: Position) {
        let Some(slot) = self.slot(group) else { return };
        let mut tenure = slot.tenure.lock();
        tenure.set_position(position, self.inner.clock.boot_ns());
        if tenure.is_short() {
            slot.hurry.notify_one();
        }
    }

    /// Where the broker stands, exactly, with the leaderships of the view `view_version`. Call it right after [`Self::hold`] with the sums of what was
    /// recovered (until then everything is reserved and a failover's bound is unknown), and again when
    /// the sums are over other partitions: one was deleted, or is led elsewhere.
    pub fn rebase_position(&self, group: &GroupName, position: Position, view_version: u64) {
        if let Some(slot) = self.slot(group) {
            let now_ns = self.inner.clock.boot_ns();
            slot.tenure
                .lock()
                .rebase_position(position, view_version, now_ns);
        }
    }

    /// True while this broker may act as home in `epoch`.
    pub fn check(&self, group: &GroupName, epoch: RegionEpoch) -> bool {
        self.slot(group).is_some_and(|slot| {
            let tenure = slot.tenure.lock();
            tenure.epoch() == epoch && tenure.valid_at(self.inner.clock.boot_ns())
        })
    }

    /// True when this broker was home in `epoch` and its lease ran out, without a word of a move.
    pub fn lapsed(&self, group: &GroupName, epoch: RegionEpoch) -> bool {
        self.slot(group).is_some_and(|slot| {
            let tenure = slot.tenure.lock();
            tenure.epoch() == epoch && tenure.lapsed_at(self.inner.clock.boot_ns())
        })
    }

    /// True while an answer may be given that brings the acknowledged position to `position`. Nothing
    /// above a covered position may leave for another region either: the loss bound subtracts what is
    /// durable there, which must not count what was never reserved.
    pub fn covers(&self, group: &GroupName, position: Position) -> bool {
        self.slot(group).is_some_and(|slot| {
            slot.tenure
                .lock()
                .covers(position, self.inner.clock.boot_ns())
        })
    }

    /// Ticks on every grant and loss: parked acks check again.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    fn slot(&self, group: &GroupName) -> Option<Arc<Slot>> {
        self.inner.groups.read().get(group).cloned()
    }
}

impl Inner {
    fn tick(&self) {
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    fn request(
        &self,
        group: &GroupName,
        epoch: RegionEpoch,
        ceiling: whimbrel_fleet::Ceiling,
        view_version: u64,
    ) -> LeaseRequest {
        LeaseRequest {
            fleet_id: String::new(),
            node: self.identity.node.0,
            incarnation: uuid_bytes(self.identity.incarnation),
            region: self.identity.region.to_string(),
            group: group.to_string(),
            epoch: epoch.0,
            ceiling_records: ceiling.position.records,
            ceiling_bytes: ceiling.position.bytes,
            ceiling_sequence: ceiling.sequence,
            view_version,
            voter_start: bytes::Bytes::new(),
        }
    }

    /// `request` for `voter` at the start that it named last.
    fn addressed(&self, request: &LeaseRequest, voter: usize) -> LeaseRequest {
        let start = self.starts.lock().get(voter).copied().flatten();
        LeaseRequest {
            voter_start: start.map(uuid_bytes).unwrap_or_default(),
            ..request.clone()
        }
    }

    /// Notes the start that `voter` named.
    fn learn(&self, voter: usize, start: Option<Incarnation>) -> Introduction {
        let mut starts = self.starts.lock();
        match starts.get_mut(voter) {
            Some(known) if start.is_some() && *known != start => {
                let before = std::mem::replace(known, start);
                before.map_or(Introduction::First, |_| Introduction::Again)
            }
            _ => Introduction::Known,
        }
    }
}

/// Whether a voter's answer came from the start that was asked. Another one granted nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Introduction {
    Known,
    First,
    Again,
}

/// What came back from one voter.
struct Heard {
    epoch: RegionEpoch,
    sequence: u64,
    voter: usize,
    answer: Option<Answer>,
    start: Option<Incarnation>,
}

async fn renew(inner: Arc<Inner>, group: GroupName, slot: Arc<Slot>) {
    let mut answers = FuturesUnordered::new();
    let mut in_flight = vec![0_usize; inner.voters.len()];
    let mut due_ns = 0_u64;
    let mut last_ns: Option<u64> = None;
    let mut is_introduced = true;
    let mut was_valid = false;
    while !slot.stop.requested() {
        let now = inner.clock.boot_ns();
        let short = slot.tenure.lock().is_short();
        let hurry_ns = last_ns.map_or(0, |last| last.saturating_add(HURRY_NS));
        let next_ns = if short || !is_introduced {
            due_ns.min(hurry_ns)
        } else {
            due_ns
        };
        if now >= next_ns {
            let (request, period_ms, lease_ms) = {
                let mut tenure = slot.tenure.lock();
                let sequence = inner.sequence.fetch_add(1, Ordering::Relaxed) + 1;
                // The instant of sending is taken before anything is sent.
                let ceiling = tenure.begin(sequence, now);
                (
                    inner.request(&group, tenure.epoch(), ceiling, tenure.view_version()),
                    tenure.period_ms(),
                    tenure.lease_ms(),
                )
            };
            due_ns = now.saturating_add(period_ms.saturating_mul(1_000_000));
            last_ns = Some(now);
            is_introduced = true;
            for (voter, stub) in inner.voters.iter().enumerate() {
                let Some(busy) = in_flight.get_mut(voter).filter(|n| **n < IN_FLIGHT) else {
                    continue;
                };
                *busy += 1;
                answers.push(ask(
                    inner.clock.clone(),
                    stub.clone(),
                    inner.addressed(&request, voter),
                    voter,
                    Duration::from_millis(lease_ms),
                ));
            }
            continue;
        }
        let change = tokio::select! {
            biased;
            () = slot.stop.wait() => return,
            Some(heard) = answers.next(), if !answers.is_empty() => {
                if let Some(busy) = in_flight.get_mut(heard.voter) { *busy -= 1; }
                match inner.learn(heard.voter, heard.start) {
                    Introduction::Known => {}
                    Introduction::First => (is_introduced, last_ns) = (false, None),
                    Introduction::Again => is_introduced = false,
                }
                hear(&slot, &heard)
            }
            () = slot.hurry.notified() => Change::Nothing,
            () = inner.clock.sleep(Duration::from_nanos(next_ns - now)) => Change::Nothing,
        };
        let valid = slot.tenure.lock().valid_at(inner.clock.boot_ns());
        if was_valid && !valid {
            tracing::warn!(%group, fenced = change == Change::Lost, "lease lost");
        }
        if change != Change::Nothing || valid != was_valid {
            inner.tick();
        }
        was_valid = valid;
    }
}

fn hear(slot: &Slot, heard: &Heard) -> Change {
    let mut tenure = slot.tenure.lock();
    match &heard.answer {
        Some(answer) => tenure.answer(heard.epoch, heard.sequence, heard.voter, answer),
        None => Change::Nothing,
    }
}

async fn ask(
    clock: Clock,
    mut stub: VoterClient<Channel>,
    request: LeaseRequest,
    voter: usize,
    deadline: Duration,
) -> Heard {
    let (epoch, sequence) = (RegionEpoch(request.epoch), request.ceiling_sequence);
    let reply = clock.within(deadline, stub.lease(request)).await;
    let reply = match reply {
        Some(Ok(reply)) => Some(reply.into_inner()),
        Some(Err(_)) | None => None,
    };
    Heard {
        epoch,
        sequence,
        voter,
        answer: reply.as_ref().map(verdict),
        start: reply.and_then(|r| uuid_from(&r.voter_start).ok()),
    }
}

fn verdict(reply: &LeaseReply) -> Answer {
    match reply.verdict() {
        Verdict::Yes => Answer::Yes,
        Verdict::Fenced => Answer::Fenced {
            epoch: RegionEpoch(reply.epoch),
        },
        Verdict::Unknown => Answer::Unknown,
    }
}
