//! Moves in the state: the fence, then either the move or its abort, then what the report still gets.
//!
//! Each step is recognised when it comes twice and refused when its fence is not the one that stands,
//! so that a deposed leader's late proposal can do nothing.

use std::collections::BTreeMap;

use whimbrel_fleet::{
    Clamp, FailoverGroup, GroupName, LeaderEpoch, LossBound, Move, MoveReport, NodeId,
    PartitionMove, RegionEpoch, RegionName, Topic, TopicPartition, moves::MoveOutcome,
};

use super::{Change, Command, Outcome, Promoted, SetFence, State, UnderWay};
use crate::codes;

/// Moves kept per group. The newest lossy one is kept whatever its age: it decides what producers are
/// forgiven.
const MOVES: usize = 16;
/// Clamps kept in one report; what the coordinators wrote is in their logs in full.
const CLAMPS: usize = 10_000;

pub(super) struct Committed {
    pub(super) epoch: RegionEpoch,
    pub(super) lossy: bool,
    pub(super) bound: LossBound,
    pub(super) partitions: Vec<Promoted>,
    pub(super) fence_ms: u64,
    pub(super) at_ms: i64,
}

impl State {
    /// The commands that concern moves.
    pub(super) fn apply_to_moves(&mut self, index: u64, command: Command) -> Change {
        match command {
            Command::SetFence(fence) => self.set_fence(*fence),
            Command::Move {
                group,
                epoch,
                lossy,
                bound,
                partitions,
                fence_ms,
                at_ms,
            } => self.commit_move(
                index,
                &group,
                Committed {
                    epoch,
                    lossy,
                    bound,
                    partitions,
                    fence_ms,
                    at_ms,
                },
            ),
            Command::AbortMove {
                group,
                epoch,
                reason,
                fence_ms,
                at_ms,
            } => self.abort_move(&group, epoch, reason, fence_ms, at_ms),
            Command::AddClamps {
                group,
                epoch,
                clamps,
            } => self.add_clamps(&group, epoch, clamps),
            Command::FinishMove { group, epoch } => self.finish_move(&group, epoch),
            other => Change::hidden(Outcome::refused(
                codes::BAD_REQUEST,
                format!("{other} does not concern moves"),
            )),
        }
    }

    fn set_fence(&mut self, set: SetFence) -> Change {
        let SetFence {
            group: name,
            fence,
            declare_lost,
            plan,
            at_ms,
        } = set;
        let Some(group) = self.view.groups.get_mut(&name) else {
            return Change::hidden(Outcome::refused(
                codes::UNKNOWN_GROUP,
                format!("there is no failover group {name}"),
            ));
        };
        match &group.fence {
            Some(standing) if *standing == fence => return Change::hidden(Outcome::Done),
            Some(standing) => {
                let message = format!(
                    "a {} of {name} to {} is under way",
                    standing.mode, standing.to
                );
                return Change::hidden(Outcome::refused(codes::MOVE_UNDER_WAY, message));
            }
            None => {}
        }
        if !self.view.regions.contains_key(&fence.to) {
            return Change::hidden(Outcome::refused(
                codes::UNKNOWN_REGION,
                format!("region {} is not one of this fleet", fence.to),
            ));
        }
        if group.home == fence.to {
            return Change::hidden(Outcome::refused(
                codes::ALREADY_HOME,
                format!("{name} is at home in {} already", fence.to),
            ));
        }
        let restoring = self.restoring.as_ref();
        if let Some(restoring) = restoring.filter(|r| r.to != fence.to) {
            let message = format!("{name} comes home to {} first", restoring.to);
            return Change::hidden(Outcome::refused(codes::RESTORE_STANDS, message));
        }
        if fence.epoch != group.epoch.next() {
            let message = format!(
                "{name} is in epoch {}; the plan was for epoch {}",
                group.epoch, fence.epoch
            );
            return Change::hidden(Outcome::refused(codes::PLAN_CHANGED, message));
        }
        group.fence = Some(fence);
        self.under_way.insert(
            name.clone(),
            UnderWay {
                declare_lost,
                at_ms,
            },
        );
        let report = MoveReport {
            group: name.clone(),
            outcome: MoveOutcome::Running {
                step: "fenced".to_owned(),
            },
            bound: plan.bound,
            plan,
            partitions: Vec::new(),
            clamps: Vec::new(),
            fence_ms: 0,
            total_ms: 0,
        };
        self.reports.insert(name, report);
        Change::shown(Outcome::Done)
    }

    fn commit_move(&mut self, index: u64, name: &GroupName, done: Committed) -> Change {
        let Some(group) = self.view.groups.get(name) else {
            return Change::hidden(Outcome::refused(
                codes::UNKNOWN_GROUP,
                format!("there is no failover group {name}"),
            ));
        };
        if group.epoch == done.epoch && group.moves.last().is_some_and(|m| m.epoch == done.epoch) {
            return Change::hidden(Outcome::Done);
        }
        if let Some(refusal) = self.refuse_homecoming(group, &done.partitions) {
            return Change::hidden(refusal);
        }
        let fence = self.view.groups.get_mut(name).and_then(|group| {
            let fence = group.fence.take_if(|f| f.epoch == done.epoch)?;
            Some((group, fence))
        });
        let Some((group, fence)) = fence else {
            return Change::hidden(Outcome::refused(
                codes::NO_FENCE,
                format!("{name} has no fence of epoch {}", done.epoch),
            ));
        };
        let under_way = self.under_way.remove(name).unwrap_or(UnderWay {
            declare_lost: false,
            at_ms: done.at_ms,
        });
        let from = std::mem::replace(&mut group.home, fence.to.clone());
        group.epoch = done.epoch;
        let promoted: BTreeMap<TopicPartition, Promoted> =
            done.partitions.into_iter().map(|p| (p.at, p)).collect();
        let opened = opened(&self.view.topics, name);
        let moved: Vec<_> = promoted
            .values()
            .map(|p| PartitionMove {
                at: p.at,
                leader: p.leader,
                promotion: p.promotion,
                opened: opened.get(&p.at).copied(),
            })
            .collect();
        group.moves.push(Move {
            epoch: done.epoch,
            from: from.clone(),
            to: fence.to.clone(),
            mode: fence.mode,
            lossy: done.lossy,
            declared_lost: under_way.declare_lost,
            bound: done.bound,
            partitions: moved.clone(),
            at_ms: done.at_ms,
        });
        forget_old_moves(group);
        self.lead_in(index, name, &fence.to, &promoted);
        if under_way.declare_lost
            && let Some(region) = self.view.regions.get_mut(&from)
        {
            region.lost = true;
        }
        if let Some(report) = self.reports.get_mut(name) {
            report.outcome = MoveOutcome::Running {
                step: "clamps".to_owned(),
            };
            report.bound = done.bound;
            report.partitions = moved;
            report.fence_ms = done.fence_ms;
            report.total_ms = elapsed_ms(under_way.at_ms, done.at_ms);
        }
        Change::shown(Outcome::Done)
    }

    /// Every partition of the group is led in `home` from now on.
    fn lead_in(
        &mut self,
        index: u64,
        name: &GroupName,
        home: &RegionName,
        promoted: &BTreeMap<TopicPartition, Promoted>,
    ) {
        for topic in self.view.topics.values_mut().filter(|t| &t.group == name) {
            for (number, partition) in (0_i32..).zip(topic.partitions.iter_mut()) {
                let chosen = promoted.get(&TopicPartition::new(topic.id, number));
                let (leader, isr) = lead(partition.replicas.get_mut(home), chosen);
                // A reassignment was the old home's.
                partition.adding.clear();
                partition.removing.clear();
                partition.version = partition.version.wrapping_add(1);
                self.led_from.extend(leader.map(|l| (l, index)));
                partition.leader = leader;
                partition.isr = isr;
                // Its new leader has heard of nobody yet.
                partition.keeping_up.clear();
                // Of the others it goes on with what was said: a record that one of them lacks is missing here, too.
                partition.standing.remove(home);
                partition.leader_epoch = partition.leader_epoch.next();
            }
        }
    }

    /// The home goes on in an epoch above the fence, so that its leases resume and nobody confuses what
    /// it writes now with what the move would have opened.
    fn abort_move(
        &mut self,
        name: &GroupName,
        epoch: RegionEpoch,
        reason: String,
        fence_ms: u64,
        at_ms: i64,
    ) -> Change {
        let Some(group) = self.view.groups.get_mut(name) else {
            return Change::hidden(Outcome::refused(
                codes::UNKNOWN_GROUP,
                format!("there is no failover group {name}"),
            ));
        };
        if group.fence.take_if(|f| f.epoch == epoch).is_none() {
            return Change::hidden(Outcome::refused(
                codes::NO_FENCE,
                format!("{name} has no fence of epoch {epoch}"),
            ));
        }
        group.epoch = epoch.next();
        for topic in self.view.topics.values_mut().filter(|t| &t.group == name) {
            for partition in topic.partitions.iter_mut().filter(|p| p.leader.is_some()) {
                partition.leader_epoch = partition.leader_epoch.next();
            }
        }
        let begun = self.under_way.remove(name).map_or(at_ms, |u| u.at_ms);
        if let Some(report) = self.reports.get_mut(name) {
            report.outcome = MoveOutcome::Aborted { reason };
            report.fence_ms = fence_ms;
            report.total_ms = elapsed_ms(begun, at_ms);
        }
        Change::shown(Outcome::Done)
    }

    fn add_clamps(&mut self, name: &GroupName, epoch: RegionEpoch, clamps: Vec<Clamp>) -> Change {
        let Some(report) = self.reports.get_mut(name).filter(|r| r.plan.epoch == epoch) else {
            return Change::hidden(Outcome::refused(
                codes::NO_FENCE,
                format!("{name} has no move of epoch {epoch} to report on"),
            ));
        };
        for clamp in clamps {
            if report.clamps.len() < CLAMPS && !report.clamps.contains(&clamp) {
                report.clamps.push(clamp);
            }
        }
        Change::hidden(Outcome::Done)
    }

    fn finish_move(&mut self, name: &GroupName, epoch: RegionEpoch) -> Change {
        let is_moved = self
            .view
            .groups
            .get(name)
            .is_some_and(|g| g.epoch == epoch && g.fence.is_none());
        if let Some(report) = self
            .reports
            .get_mut(name)
            .filter(|r| r.plan.epoch == epoch && is_moved)
        {
            report.outcome = MoveOutcome::Done;
        }
        Change::hidden(Outcome::Done)
    }
}

/// The leader epochs that the partitions of a group go on in when they are moved.
fn opened(
    topics: &BTreeMap<String, Topic>,
    group: &GroupName,
) -> BTreeMap<TopicPartition, LeaderEpoch> {
    let of_group = topics.values().filter(|topic| topic.group == *group);
    let partitions = of_group.flat_map(|topic| {
        let numbered = (0_i32..).zip(&topic.partitions);
        numbered.map(|(number, p)| (TopicPartition::new(topic.id, number), p))
    });
    partitions
        .map(|(at, partition)| (at, partition.leader_epoch.next()))
        .collect()
}

/// Who leads in the new home, and who acknowledges. The leader becomes its region's head. A partition
/// that was created behind the fence was never acknowledged: its head leads.
fn lead(
    replicas: Option<&mut Vec<NodeId>>,
    chosen: Option<&Promoted>,
) -> (Option<NodeId>, Vec<NodeId>) {
    let Some(replicas) = replicas else {
        return (None, Vec::new());
    };
    let Some(chosen) = chosen.filter(|c| replicas.contains(&c.leader)) else {
        return (replicas.first().copied(), replicas.clone());
    };
    replicas.sort_by_key(|node| *node != chosen.leader);
    let mut isr = vec![chosen.leader];
    isr.extend(
        chosen
            .isr
            .iter()
            .filter(|n| **n != chosen.leader && replicas.contains(n)),
    );
    (Some(chosen.leader), isr)
}

fn forget_old_moves(group: &mut FailoverGroup) {
    while group.moves.len() > MOVES {
        let newest_lossy = group.moves.iter().rposition(|m| m.lossy);
        let oldest = usize::from(newest_lossy == Some(0));
        group.moves.remove(oldest);
    }
}

fn elapsed_ms(from_ms: i64, to_ms: i64) -> u64 {
    u64::try_from(to_ms.saturating_sub(from_ms)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
