//! Moves as requests: plan, apply, and the coordinators' clamps.

use std::{sync::Arc, time::Duration};

use tonic::Status;
use whimbrel_fleet::{Fence, LossBound, MoveMode, MovePlan, MoveReport, NodeId};
use whimbrel_rpc::{controller::MoveRequest, proto::controller as proto};

use super::{Server, answer, requests};
use crate::{
    codes,
    mover::{ALIVE_MS, Numbers, is_reported, plan},
    state::{Command, SetFence, State},
};

impl Server {
    pub(super) async fn plan(&self, request: &MoveRequest) -> Result<MovePlan, Status> {
        let state = self.confirm().await?;
        self.plan_in(&state, request).await
    }

    async fn plan_in(&self, state: &State, request: &MoveRequest) -> Result<MovePlan, Status> {
        self.await_reports(state, request).await;
        let group = state.group(&request.group);
        let leaders: Vec<NodeId> =
            group.map_or_else(Vec::new, |g| crate::mover::leaders(&state.view, g));
        let voters = self.mover.proposer.voter_ids();
        let ceilings = self
            .mover
            .collector
            .collect(&request.group, &leaders, &voters)
            .await;
        let numbers = Numbers {
            reports: self.mover.positions.reports(&state.view),
            ceilings,
            voters: voters.len(),
            now_ns: self.mover.clock.boot_ns(),
            drain_ms: u64::try_from(self.mover.drain.as_millis()).unwrap_or(u64::MAX),
        };
        plan(state, request, &numbers).map_err(|(code, message)| answer::refused(code, &message))
    }

    /// A leader that is new has no reports yet, and of a topic that is new nobody has reported: brokers report once a
    /// second, and when something was made.
    async fn await_reports(&self, state: &State, request: &MoveRequest) {
        let mut changed = self.mover.positions.changed();
        let all = async {
            loop {
                let reports = self.mover.positions.reports(&state.view);
                if is_reported(state, request, &reports) || changed.changed().await.is_err() {
                    return;
                }
            }
        };
        self.mover
            .clock
            .within(Duration::from_millis(ALIVE_MS), all)
            .await;
    }

    /// Commits the fence. The same request again is recognised, also when the move is over.
    pub(super) async fn apply(&self, request: &MoveRequest) -> Result<MovePlan, Status> {
        let state = self.confirm().await?;
        if let Some(report) = known(&state, request) {
            return Ok(report.plan.clone());
        }
        let plan = self.plan_in(&state, request).await?;
        if let Some(seen) = request.plan.as_ref().filter(|seen| **seen != plan.hash) {
            return Err(Status::aborted(format!(
                "{}: plan {seen} is not the present one ({})",
                codes::PLAN_CHANGED,
                plan.hash
            )));
        }
        refuse(&plan, request)?;
        let fence = Fence {
            epoch: plan.epoch,
            to: request.to.clone(),
            mode: request.mode,
            accept_loss: request.accept_loss,
            plan: plan.hash.clone(),
        };
        let set = SetFence {
            group: request.group.clone(),
            fence,
            declare_lost: request.declare_lost && request.mode == MoveMode::Failover,
            plan: plan.clone(),
            at_ms: self.mover.clock.wall_ms(),
        };
        self.propose(Command::SetFence(Box::new(set))).await?;
        Ok(plan)
    }

    pub(super) async fn take_clamps(
        &self,
        request: proto::ReportClampsRequest,
    ) -> Result<proto::Empty, Status> {
        self.mover
            .proposer
            .require_leader()
            .map_err(answer::not_proposed)?;
        let clamps = requests::clamps(&request.clamps)?;
        let (group, epoch) = (
            request.group.into(),
            whimbrel_fleet::RegionEpoch(request.epoch),
        );
        if !clamps.is_empty() {
            self.propose(Command::AddClamps {
                group: Clone::clone(&group),
                epoch,
                clamps,
            })
            .await?;
        }
        self.mover.clamps.count(&group, epoch);
        Ok(proto::Empty {})
    }
}

/// The move that this very request started before.
fn known<'a>(state: &'a Arc<State>, request: &MoveRequest) -> Option<&'a MoveReport> {
    let report = state.reports.get(&request.group)?;
    let fence = state.group(&request.group)?.fence.as_ref();
    let is_standing = fence.is_some_and(|f| f.to == request.to && f.mode == request.mode);
    let is_same = match &request.plan {
        Some(seen) => *seen == report.plan.hash && report.plan.to == request.to,
        None => is_standing,
    };
    is_same.then_some(report)
}

/// Nothing is fenced for a move that would not go through.
fn refuse(plan: &MovePlan, request: &MoveRequest) -> Result<(), Status> {
    if let Some(first) = plan.refused.first() {
        let (code, _) = first.split_once(':').unwrap_or((codes::BAD_REQUEST, first));
        return Err(answer::refused(code, &plan.refused.join("; ")));
    }
    if request.accept_loss.allows(plan.bound) {
        return Ok(());
    }
    Err(match plan.bound {
        LossBound::Unknown => answer::refused(
            codes::LOSS_UNKNOWN,
            "no surviving majority of voters can name a bound of the loss",
        ),
        LossBound::AtMost(p) => {
            let message = format!(
                "up to {} records ({} bytes) may be lost, which is more than was accepted",
                p.records, p.bytes
            );
            answer::refused(codes::LOSS_TOO_HIGH, &message)
        }
    })
}
