//! Plan, state the bound, move.

use whimbrel_fleet::{AcceptLoss, GroupName, LossBound, MoveMode, MovePlan, moves::MoveOutcome};
use whimbrel_rpc::controller::MoveRequest;

use super::{Tour, TourError, wait};
use crate::layout;

pub(crate) async fn run(tour: &mut Tour<'_>) -> Result<(), TourError> {
    let request = request(MoveMode::Failover, 1, AcceptLoss::None);
    let plan = plan(tour, &request).await?;
    tour.facts.rpo_reported_ms = plan.behind_ms;
    let accept_loss = match plan.bound {
        LossBound::AtMost(most) => {
            tour.facts.records_lost_bound = Some(most.records);
            let behind = plan
                .behind_ms
                .map_or("an unknown time".to_owned(), |ms| format!("{ms} ms"));
            tour.progress.fact(&format!(
                "stated before: at most {} records ({} bytes) can be lost, {behind} behind",
                most.records, most.bytes
            ));
            AcceptLoss::Records(most.records)
        }
        LossBound::Unknown => {
            return Err(TourError::Wrong(
                "no surviving majority could name a loss bound".to_owned(),
            ));
        }
    };
    tour.facts.applied_at_ms = tour.clock.boot_ms();
    apply(
        tour,
        MoveRequest {
            accept_loss,
            plan: Some(plan.hash),
            declare_lost: true,
            ..request
        },
    )
    .await
}

pub(crate) fn request(mode: MoveMode, to: usize, accept_loss: AcceptLoss) -> MoveRequest {
    MoveRequest {
        accept_loss,
        ..MoveRequest::new(
            GroupName::default_group(),
            layout::regions()[to].clone(),
            mode,
        )
    }
}

/// The plan, once nothing speaks against it.
pub(crate) async fn plan(tour: &Tour<'_>, request: &MoveRequest) -> Result<MovePlan, TourError> {
    let controller = tour.controller.clone();
    wait::until(
        &tour.clock,
        &format!("the {} to be possible", request.mode),
        async || {
            let plan = controller
                .plan_move(request)
                .await
                .map_err(|e| e.to_string())?;
            if plan.refused.is_empty() {
                Ok(plan)
            } else {
                Err(plan.refused.join("; "))
            }
        },
    )
    .await
}

/// Applies a move and waits for its end.
pub(crate) async fn apply(tour: &mut Tour<'_>, request: MoveRequest) -> Result<(), TourError> {
    let group = request.group.clone();
    let plan = tour.controller.apply_move(&request).await?;
    let controller = tour.controller.clone();
    let report = wait::until(&tour.clock, "the move to end", async || {
        let report = controller
            .move_status(&group)
            .await
            .map_err(|e| e.to_string())?
            .ok_or("no report yet")?;
        if report.plan.epoch != plan.epoch {
            return Err(format!("the report is of epoch {}", report.plan.epoch));
        }
        match &report.outcome {
            MoveOutcome::Running { step } => Err(step.clone()),
            MoveOutcome::Done | MoveOutcome::Aborted { .. } => Ok(report),
        }
    })
    .await?;
    if let MoveOutcome::Aborted { reason } = &report.outcome {
        return Err(TourError::Wrong(format!("the move was aborted: {reason}")));
    }
    tour.progress.fact(&format!(
        "{} of {} partitions to {} in epoch {}: fence {} ms, all {} ms, {} group positions clamped",
        report.plan.mode,
        report.partitions.len(),
        report.plan.to,
        report.plan.epoch,
        report.fence_ms,
        report.total_ms,
        report.clamps.len()
    ));
    Ok(())
}
