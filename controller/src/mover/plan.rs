//! What a move would do now, and why it would be refused. Pure: the numbers come in.

use std::collections::BTreeSet;

use whimbrel_fleet::{
    LossBound, MoveMode, MovePlan, NodeId, Position, Topic, View, view::FailoverGroup,
};
use whimbrel_rpc::controller::MoveRequest;

use super::{bound, collect::Answers, decide, restored};
use crate::{codes, positions::Reports, state::State};

/// A broker whose newest report or renewal is older than this does not answer: two reports and a half.
pub(crate) const ALIVE_MS: u64 = 2_500;

/// What was measured for the plan.
pub(crate) struct Numbers {
    pub(crate) reports: Reports,
    pub(crate) ceilings: Answers,
    pub(crate) voters: usize,
    pub(crate) now_ns: u64,
    /// How long a planned move holds writes.
    pub(crate) drain_ms: u64,
}

/// `Err` is a refusal without a plan: the request names something that does not exist.
pub(crate) fn plan(
    state: &State,
    request: &MoveRequest,
    numbers: &Numbers,
) -> Result<MovePlan, (&'static str, String)> {
    let view = &state.view;
    let Some(group) = state.group(&request.group) else {
        return Err((
            codes::UNKNOWN_GROUP,
            format!("there is no failover group {}", request.group),
        ));
    };
    let durable = decide::durable_in(view, group, &request.to, &numbers.reports);
    let leaders = bound::led_by(view, group);
    let mut plan = MovePlan {
        group: group.name.clone(),
        from: group.home.clone(),
        to: request.to.clone(),
        mode: request.mode,
        epoch: group.epoch.next(),
        partitions: decide::partitions(view, group).count(),
        topics: view
            .topics
            .values()
            .filter(|t| t.group == group.name)
            .count(),
        home_alive: leaders.keys().any(|node| is_alive(*node, group, numbers)),
        bound: match request.mode {
            MoveMode::Failover => {
                bound::bound(state, group, &durable, &numbers.ceilings, numbers.voters)
            }
            // Nothing moves until the target holds all that the home had.
            MoveMode::Switchover | MoveMode::Failback => LossBound::AtMost(Position::default()),
        },
        home: home_position(view, group, &numbers.reports),
        target: bound::sum(durable.values()),
        behind_ms: behind_ms(view, group, request, numbers),
        refused: Vec::new(),
        hash: String::new(),
    };
    plan.refused = refusals(state, group, request, numbers, &plan, durable.len());
    plan.hash = plan.compute_hash();
    Ok(plan)
}

/// Whether all brokers of the target have reported, and a copy of each partition.
pub(crate) fn is_reported(state: &State, request: &MoveRequest, reports: &Reports) -> bool {
    let view = &state.view;
    let mut of_target = view.nodes.values().filter(|n| n.region == request.to);
    let Some(group) = state
        .group(&request.group)
        .filter(|_| view.regions.contains_key(&request.to))
    else {
        return true;
    };
    of_target.all(|n| reports.contains_key(&n.id))
        && decide::durable_in(view, group, &request.to, reports).len()
            == decide::partitions(view, group).count()
}

fn refusals(
    state: &State,
    group: &FailoverGroup,
    request: &MoveRequest,
    numbers: &Numbers,
    plan: &MovePlan,
    copies: usize,
) -> Vec<String> {
    let view = &state.view;
    let to = &request.to;
    if !view.regions.contains_key(to) {
        return vec![format!(
            "{}: region {to} is not one of this fleet",
            codes::UNKNOWN_REGION
        )];
    }
    if &group.home == to {
        return vec![format!(
            "{}: {} is at home in {to} already",
            codes::ALREADY_HOME,
            group.name
        )];
    }
    let mut refused = Vec::new();
    if let Some(fence) = &group.fence {
        refused.push(format!(
            "{}: a {} to {} is under way",
            codes::MOVE_UNDER_WAY,
            fence.mode,
            fence.to
        ));
    }
    let alive: BTreeSet<NodeId> = view
        .nodes
        .values()
        .filter(|n| &n.region == to && reports_now(n.id, numbers))
        .map(|n| n.id)
        .collect();
    if alive.is_empty() {
        refused.push(format!(
            "{}: no broker of {to} has reported within {ALIVE_MS} ms",
            codes::NO_BROKER
        ));
        return refused;
    }
    let lacking = plan.partitions.saturating_sub(copies);
    if lacking > 0 {
        refused.push(format!(
            "{}: {lacking} of {} partitions have no reported copy in {to}",
            codes::NO_COPY,
            plan.partitions
        ));
    }
    refused.extend(not_restored(state, group, numbers));
    refused.extend(too_few_copies(view, group, request, &alive));
    if request.mode != MoveMode::Failover {
        if !plan.home_alive {
            refused.push(format!(
                "{}: no broker of {} answers; a {} needs it",
                codes::HOME_AWAY,
                group.home,
                request.mode
            ));
        }
        if let Some(ms) = plan.behind_ms.filter(|ms| *ms > numbers.drain_ms) {
            refused.push(format!(
                "{}: {to} is {ms} ms behind; writes are held for at most {} ms",
                codes::TOO_FAR_BEHIND,
                numbers.drain_ms
            ));
        }
    }
    refused
}

/// A group comes home from a bucket when all of it is there.
fn not_restored(state: &State, group: &FailoverGroup, numbers: &Numbers) -> Option<String> {
    let restore = state.view.restore.as_ref();
    restore.filter(|restore| restore.region == group.home)?;
    let progress = restored::progress(state, &numbers.reports);
    let lacking = progress.partitions.saturating_sub(progress.there);
    (lacking > 0).then(|| {
        format!(
            "{}: {lacking} of {} partitions are not filled from the bucket yet",
            codes::NOT_RESTORED,
            progress.partitions
        )
    })
}

/// Topics that could not take acks=all in the target. Who wants to go there nevertheless lowers the config
/// first: that is on record.
fn too_few_copies(
    view: &View,
    group: &FailoverGroup,
    request: &MoveRequest,
    alive: &BTreeSet<NodeId>,
) -> Option<String> {
    let lacks = |topic: &&Topic| {
        let wanted = view.min_insync_replicas(topic);
        let live = |p: &whimbrel_fleet::Partition| {
            p.replicas.get(&request.to).map_or(0, |nodes| {
                nodes.iter().filter(|n| alive.contains(n)).count()
            })
        };
        topic.partitions.iter().any(|p| live(p) < wanted)
    };
    let names: Vec<_> = view
        .topics
        .values()
        .filter(|t| t.group == group.name)
        .filter(lacks)
        .map(|t| t.name.as_str())
        .take(5)
        .collect();
    let is_short = !names.is_empty();
    is_short.then(|| {
        format!(
            "{}: fewer live copies in {} than min.insync.replicas: {}",
            codes::FEW_COPIES,
            request.to,
            names.join(", ")
        )
    })
}

fn reports_now(node: NodeId, numbers: &Numbers) -> bool {
    numbers
        .reports
        .get(&node)
        .is_some_and(|r| r.age_ms(numbers.now_ns) <= ALIVE_MS)
}

/// A home broker lives while it renewed within the last lease, as any voter saw it, or still reports.
fn is_alive(node: NodeId, group: &FailoverGroup, numbers: &Numbers) -> bool {
    let renewed_ns = numbers
        .ceilings
        .values()
        .flatten()
        .filter(|h| h.node == node)
        .map(|h| h.at_ns)
        .max();
    let renewed = renewed_ns
        .is_some_and(|at| numbers.now_ns.saturating_sub(at) / 1_000_000 <= group.lease_ms);
    let reported = numbers
        .reports
        .get(&node)
        .is_some_and(|r| r.age_ms(numbers.now_ns) <= group.lease_ms.max(1_200));
    renewed || reported
}

/// `None` while a leader of the home has not reported to this controller leader.
fn home_position(view: &View, group: &FailoverGroup, reports: &Reports) -> Option<Position> {
    let mut total = Position::default();
    for (node, partitions) in bound::led_by(view, group) {
        let report = reports.get(&node)?;
        for at in partitions.iter().filter_map(|at| report.partitions.get(at)) {
            total.records = total
                .records
                .saturating_add(u64::try_from(at.end_offset).unwrap_or(0));
            total.bytes = total.bytes.saturating_add(at.bytes);
        }
    }
    Some(total)
}

/// What the target's mirrors said, plus the time since: it keeps rising while nobody reports.
fn behind_ms(
    view: &View,
    group: &FailoverGroup,
    request: &MoveRequest,
    numbers: &Numbers,
) -> Option<u64> {
    let of_target = |id: &NodeId| view.nodes.get(id).is_some_and(|n| n.region == request.to);
    let said = numbers.reports.iter().filter(|(id, _)| of_target(id));
    said.filter_map(|(_, r)| {
        Some(
            r.behind_ms
                .get(&group.name)?
                .saturating_add(r.age_ms(numbers.now_ns)),
        )
    })
    .max()
}
