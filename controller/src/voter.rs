//! The voter's side of leases: answered from this voter's own log and state, without a leader.
//!
//! Yes is said only to the registered incarnation of a node of the group's home, in the present epoch,
//! while this voter's log holds no fence or newer epoch, applied or not, and while it is a voter.
//! Anything it does not know is no, never a guess.
//!
//! Fences stand in the log, which outlives the process; the ceilings do not. So a voter need not wait out
//! a lease after a start before it grants to another home, but it grants only to requests that name its
//! present start: one that was on its way since before could name less than what was granted and
//! forgotten.

use std::sync::Arc;

use tokio::sync::watch;
use tonic::{Request, Response, Status};
use whimbrel_fleet::{
    Ceiling, GroupName, NodeId, Position, RegionEpoch,
    lease::{self, Answer},
};
use whimbrel_rpc::{
    address::{uuid_bytes, uuid_from},
    proto::controller::{
        CeilingsReply, CeilingsRequest, LeaseReply, LeaseRequest, ceilings_reply,
        lease_reply::Verdict, voter_server,
    },
};
use whimbrel_runtime::Clock;

use crate::{
    ceilings::{Ceilings, Held},
    metrics::Labels,
    raft::{Pending, Proposer},
    state::State,
};

#[derive(Clone)]
pub(crate) struct Voter {
    pub(crate) fleet_id: Arc<str>,
    pub(crate) pending: Arc<Pending>,
    pub(crate) state: watch::Receiver<Arc<State>>,
    pub(crate) ceilings: Arc<Ceilings>,
    pub(crate) proposer: Proposer,
    pub(crate) clock: Clock,
    pub(crate) labels: Labels,
}

/// `pending` is the highest epoch that an unapplied entry forbids leases below.
pub(crate) fn judge(
    state: &State,
    pending: Option<RegionEpoch>,
    is_voter: bool,
    request: &lease::Request,
) -> Answer {
    let Some(group) = state.group(&request.group).filter(|_| is_voter) else {
        return Answer::Unknown;
    };
    let floor = state.floor_epoch(group).max(pending.unwrap_or_default());
    if floor > request.epoch {
        return Answer::Fenced { epoch: floor };
    }
    // A fenced broker may lead nothing it believes it leads: it has to see that first.
    let seen = state.node_floor.get(&request.node).copied().unwrap_or(0);
    if request.view_version < seen {
        return Answer::Unknown;
    }
    let registered = state.view.nodes.get(&request.node);
    let is_home = request.epoch == group.epoch
        && request.region == group.home
        && registered
            .is_some_and(|n| n.incarnation == request.incarnation && n.region == group.home);
    if is_home {
        Answer::Yes
    } else {
        Answer::Unknown
    }
}

impl Voter {
    fn answer(&self, request: &lease::Request) -> Answer {
        let is_voter = self.proposer.is_voter();
        // The index first, the state second: what leaves the index is in the state by then.
        let pending = self.pending.floor(&request.group);
        let fenced = self.pending.fences(request.node, request.incarnation);
        let state = Arc::clone(&self.state.borrow());
        let judged = judge(&state, pending, is_voter && !fenced, request);
        let answer = self.ceilings.settle(judged, request, self.clock.boot_ns());
        self.labels.lease(&answer);
        answer
    }

    fn check(&self, fleet_id: &str) -> Result<(), Status> {
        if fleet_id.is_empty() || *fleet_id == *self.fleet_id {
            return Ok(());
        }
        Err(Status::permission_denied(format!(
            "this voter belongs to fleet {}",
            self.fleet_id
        )))
    }
}

#[tonic::async_trait]
impl voter_server::Voter for Voter {
    async fn lease(&self, request: Request<LeaseRequest>) -> Result<Response<LeaseReply>, Status> {
        let request = request.into_inner();
        self.check(&request.fleet_id)?;
        let answer = self.answer(&lease::Request {
            node: NodeId(request.node),
            incarnation: uuid_from(&request.incarnation)
                .map_err(|e| Status::invalid_argument(e.to_string()))?,
            region: request.region.into(),
            group: request.group.into(),
            epoch: RegionEpoch(request.epoch),
            ceiling: Ceiling {
                position: Position {
                    records: request.ceiling_records,
                    bytes: request.ceiling_bytes,
                },
                sequence: request.ceiling_sequence,
            },
            view_version: request.view_version,
            voter_start: uuid_from(&request.voter_start).ok(),
        });
        let (verdict, epoch) = match answer {
            Answer::Yes => (Verdict::Yes, 0),
            Answer::Fenced { epoch } => (Verdict::Fenced, epoch.0),
            Answer::Unknown => (Verdict::Unknown, 0),
        };
        Ok(Response::new(LeaseReply {
            verdict: verdict.into(),
            epoch,
            voter_start: uuid_bytes(self.ceilings.start()),
        }))
    }

    async fn ceilings(
        &self,
        request: Request<CeilingsRequest>,
    ) -> Result<Response<CeilingsReply>, Status> {
        let request = request.into_inner();
        self.check(&request.fleet_id)?;
        let now_ns = self.clock.boot_ns();
        let held = self.ceilings.of(&GroupName::new(request.group));
        Ok(Response::new(CeilingsReply {
            held: held.iter().map(|h| to_wire(h, now_ns)).collect(),
        }))
    }
}

fn to_wire(held: &Held, now_ns: u64) -> ceilings_reply::Held {
    ceilings_reply::Held {
        node: held.node.0,
        epoch: held.epoch.0,
        records: held.ceiling.position.records,
        bytes: held.ceiling.position.bytes,
        sequence: held.ceiling.sequence,
        incarnation: uuid_bytes(held.incarnation),
        age_ms: now_ns.saturating_sub(held.at_ns) / 1_000_000,
        view_version: held.view_version,
    }
}

#[cfg(test)]
mod histories;
#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use whimbrel_fleet::Incarnation;

    use super::*;
    use crate::state::tests::{fence, fleet};

    fn request(epoch: u32) -> lease::Request {
        lease::Request {
            node: NodeId(1),
            incarnation: Incarnation::from_u128(1),
            region: "east".into(),
            group: GroupName::default_group(),
            epoch: RegionEpoch(epoch),
            ceiling: Ceiling::default(),
            view_version: 3,
            voter_start: None,
        }
    }

    #[test]
    fn only_the_registered_home_in_the_present_epoch_gets_a_lease() {
        let state = fleet();
        assert_eq!(judge(&state, None, true, &request(1)), Answer::Yes);
        assert_eq!(
            judge(&state, None, false, &request(1)),
            Answer::Unknown,
            "no voter any more"
        );
        assert_eq!(
            judge(&state, None, true, &request(2)),
            Answer::Unknown,
            "an epoch nobody opened yet"
        );
        assert_eq!(
            judge(
                &state,
                None,
                true,
                &lease::Request {
                    region: "west".into(),
                    ..request(1)
                }
            ),
            Answer::Unknown
        );
        assert_eq!(
            judge(
                &state,
                None,
                true,
                &lease::Request {
                    node: NodeId(2),
                    ..request(1)
                }
            ),
            Answer::Unknown
        );
        assert_eq!(
            judge(
                &state,
                None,
                true,
                &lease::Request {
                    incarnation: Incarnation::from_u128(9),
                    ..request(1)
                }
            ),
            Answer::Unknown
        );
        assert_eq!(
            judge(
                &state,
                None,
                true,
                &lease::Request {
                    group: "other".into(),
                    ..request(1)
                }
            ),
            Answer::Unknown
        );
    }

    #[test]
    fn a_fenced_broker_gets_a_lease_only_once_it_has_seen_its_fence() {
        let mut state = fleet();
        let fence = crate::state::Command::FenceNode {
            node: NodeId(1),
            incarnation: Incarnation::from_u128(1),
        };
        state.apply(100, fence);
        let seen = |view_version| lease::Request {
            view_version,
            ..request(1)
        };
        assert_eq!(judge(&state, None, true, &seen(99)), Answer::Unknown);
        assert_eq!(judge(&state, None, true, &seen(100)), Answer::Yes);
    }

    #[test]
    fn a_fence_counts_applied_or_only_appended() {
        let mut state = fleet();
        let fenced = Answer::Fenced {
            epoch: RegionEpoch(2),
        };
        assert_eq!(
            judge(&state, Some(RegionEpoch(2)), true, &request(1)),
            fenced
        );
        state.apply(100, fence("west"));
        assert_eq!(judge(&state, None, true, &request(1)), fenced);
    }
}
