//! `failover` and `failback`: a plan is the default, and its last line says how to apply it.

use std::time::Duration;

use whimbrel_fleet::{AcceptLoss, LossBound, MoveMode, MovePlan, MoveReport, moves::MoveOutcome};
use whimbrel_rpc::controller::{ControlError, ControllerClient, MoveRequest};
use whimbrel_runtime::Clock;

use super::fleet::At;
use crate::{
    args::{DEFAULT_FLEET, Move, MoveArgs},
    exit::{Exit, Refusal},
    output,
};

/// A move waits for a lease to run out and for a drain; longer than this it is stuck and says at what.
const PATIENCE: Duration = Duration::from_secs(120);

pub async fn failover(verb: Move, at: &At) -> anyhow::Result<Exit> {
    run("failover", verb, at, |what| {
        if what.planned {
            MoveMode::Switchover
        } else {
            MoveMode::Failover
        }
    })
    .await
}

pub async fn failback(verb: Move, at: &At) -> anyhow::Result<Exit> {
    run("failback", verb, at, |_| MoveMode::Failback).await
}

async fn run(
    name: &str,
    verb: Move,
    at: &At,
    mode: impl Fn(&MoveArgs) -> MoveMode,
) -> anyhow::Result<Exit> {
    let controller = at.controller().await?;
    let (what, apply) = match verb {
        Move::Plan { what } => (what, None),
        Move::Apply {
            what,
            plan,
            accept_loss,
            declare_lost,
            yes,
        } => (what, Some((plan, accept_loss, declare_lost, yes))),
    };
    let mode = mode(&what);
    let request = MoveRequest::new(what.group.as_str().into(), what.to.as_str().into(), mode);
    let plan = controller.plan_move(&request).await.map_err(refusal)?;
    let Some((given, accept_loss, declare_lost, true)) = apply else {
        show_plan(at, name, &what, &plan)?;
        return Ok(if plan.refused.is_empty() {
            Exit::Ok
        } else {
            Exit::Refused
        });
    };
    if !plan.refused.is_empty() {
        return Err(Refusal::error(
            Exit::Refused,
            format!("nothing was changed: {}", plan.refused.join("; ")),
        ));
    }
    let accept_loss = accepted(accept_loss.as_deref())?;
    let request = MoveRequest {
        accept_loss,
        plan: Some(given.unwrap_or_else(|| plan.hash.clone())),
        declare_lost,
        ..request
    };
    let applied = controller.apply_move(&request).await.map_err(refusal)?;
    let report = wait(&controller, &request, &applied).await?;
    output::print(at.format, &report, report_text)?;
    match &report.outcome {
        MoveOutcome::Done => Ok(Exit::Ok),
        MoveOutcome::Aborted { .. } => Ok(Exit::Refused),
        MoveOutcome::Running { .. } => Ok(Exit::TimedOut),
    }
}

pub(super) fn refusal(error: ControlError) -> anyhow::Error {
    match &error {
        ControlError::Refused { code, message } => {
            let known = crate::codes::all().into_iter().find(|c| c.code == code);
            match known {
                Some(known) => Refusal::coded(Exit::Refused, known.code, message.clone()),
                None => Refusal::error(Exit::Refused, error.to_string()),
            }
        }
        ControlError::Aborted { message } => Refusal::error(Exit::Refused, message.clone()),
        _ => error.into(),
    }
}

fn accepted(text: Option<&str>) -> anyhow::Result<AcceptLoss> {
    match text {
        None => Ok(AcceptLoss::None),
        Some("unknown") => Ok(AcceptLoss::Unknown),
        Some(number) => number.parse().map(AcceptLoss::Records).map_err(|_| {
            Refusal::error(
                Exit::Usage,
                format!("--accept-loss {number}: write a number of records, or unknown"),
            )
        }),
    }
}

pub(super) async fn wait(
    controller: &ControllerClient,
    request: &MoveRequest,
    applied: &MovePlan,
) -> anyhow::Result<MoveReport> {
    let clock = Clock::system();
    let begun = clock.boot_ms();
    let mut said = String::new();
    loop {
        let found = controller.move_status(&request.group).await;
        if let Some(report) = found
            .ok()
            .flatten()
            .filter(|r| r.plan.epoch == applied.epoch)
        {
            let waited = Duration::from_millis(clock.boot_ms().saturating_sub(begun));
            match &report.outcome {
                MoveOutcome::Running { step } if waited < PATIENCE => {
                    if *step != said {
                        output::note(step);
                        said.clone_from(step);
                    }
                }
                _ => return Ok(report),
            }
        } else if Duration::from_millis(clock.boot_ms().saturating_sub(begun)) > PATIENCE {
            return Err(Refusal::error(
                Exit::TimedOut,
                "the controller gave no report of the move; look at it with `status`",
            ));
        }
        clock.sleep(Duration::from_millis(100)).await;
    }
}

fn bound_text(bound: &LossBound) -> String {
    match bound {
        LossBound::AtMost(most) => {
            format!("at most {} records, {} bytes", most.records, most.bytes)
        }
        LossBound::Unknown => "unknown: no surviving majority holds a reservation".to_owned(),
    }
}

fn show_plan(at: &At, name: &str, what: &MoveArgs, plan: &MovePlan) -> anyhow::Result<()> {
    output::print(at.format, plan, |plan| {
        let mut text = format!(
            "{} of group {}: {} -> {}\n  {} topics, {} partitions become writable in {}, one controller commit (epoch {})\n",
            plan.mode,
            plan.group,
            plan.from,
            plan.to,
            plan.topics,
            plan.partitions,
            plan.to,
            plan.epoch
        );
        text.push_str(&format!(
            "  home        {}\n",
            if plan.home_alive {
                "answers the controller"
            } else {
                "does not answer"
            }
        ));
        text.push_str(&format!(
            "  behind      {} ms\n",
            output::or_dash(plan.behind_ms)
        ));
        let loss = if plan.mode == MoveMode::Failover {
            bound_text(&plan.bound)
        } else {
            "none: the home drains first".to_owned()
        };
        text.push_str(&format!("  data at risk  {loss}\n"));
        for reason in &plan.refused {
            text.push_str(&format!("  REFUSED     {reason}\n"));
        }
        let flags = match (plan.mode, &plan.bound) {
            (MoveMode::Failover, LossBound::AtMost(most)) => {
                format!(" --accept-loss {} --declare-lost", most.records)
            }
            (MoveMode::Failover, LossBound::Unknown) => {
                " --accept-loss unknown --declare-lost".to_owned()
            }
            (MoveMode::Switchover, _) => " --planned".to_owned(),
            (MoveMode::Failback, _) => String::new(),
        };
        // The command must find this fleet wherever it is pasted.
        let fleet = if at.fleet == DEFAULT_FLEET {
            String::new()
        } else {
            format!(" --fleet {}", at.fleet)
        };
        if !plan.refused.is_empty() {
            text.push_str("NOTHING CHANGED. It cannot be applied while anything above is REFUSED.");
            return text;
        }
        text.push_str(&format!(
            "NOTHING CHANGED. Apply with: whimbrel {name} apply {} --to {}{flags} --plan {}{fleet} --yes",
            what.group, what.to, plan.hash
        ));
        text
    })
}

fn report_text(report: &MoveReport) -> String {
    let head = match &report.outcome {
        MoveOutcome::Done => format!(
            "{} to {} done in {} ms (fence {} ms)",
            report.plan.mode, report.plan.to, report.total_ms, report.fence_ms
        ),
        MoveOutcome::Aborted { reason } => format!("aborted, the home goes on: {reason}"),
        MoveOutcome::Running { step } => format!("still running: {step}"),
    };
    let clamps = report.clamps.iter().map(|c| {
        [
            c.consumer_group.clone(),
            format!("{}-{}", c.topic, c.partition),
            c.from.to_string(),
            c.to.to_string(),
        ]
    });
    let mut text = format!(
        "{head}\n  loss bound  {}\n  partitions  {}",
        bound_text(&report.bound),
        report.partitions.len()
    );
    if !report.clamps.is_empty() {
        text.push_str(&format!(
            "\n\n{}",
            output::table(["GROUP", "PARTITION", "COMMITTED", "NOW"], clamps)
        ));
    }
    text
}
