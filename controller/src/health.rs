//! Which brokers are heard from, as the leader; fences those that are not and gives away what they lead.
//!
//! A broker of a group's home is heard by its lease: it lives while a majority of voters granted it one
//! a moment ago, since without that it can acknowledge nothing. Others are heard by their reports. Only a
//! broker that shares a partition with a live one is fenced: alone, nobody could go on in its place.
//!
//! The order is the safety: the fence is committed; a lease that was granted before it runs out, waited
//! for on this leader's own clock (a new leader waits again); only then does somebody take over. A broker
//! comes back by asking for a lease from a view that shows the fence.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::watch;
use whimbrel_fleet::{
    FailoverGroup, Incarnation, NodeId, RegionName, View,
    lease::{fence_wait_ms, majority},
};
use whimbrel_runtime::{Clock, Shutdown};

use crate::{
    mover::{Answers, Collector},
    positions::Positions,
    raft::Proposer,
    state::{Command, Outcome, State},
};

/// How often it is looked.
const PERIOD: Duration = Duration::from_millis(200);
/// Looks in a row that must find a broker silent: one may have been taken while this process was starved.
const LOOKS: u32 = 2;
/// A follower region's broker that has not reported for so long takes no stream: five reports.
const UNREPORTED_MS: u64 = 5_000;
/// Kafka's `leader.imbalance.check.interval.seconds`.
const REBALANCE_MS: u64 = 300_000;

/// Brokers heard from a moment ago, for whoever registers one.
#[derive(Debug, Default)]
pub(crate) struct Alive {
    nodes: Mutex<BTreeSet<NodeId>>,
    /// Fenced for so long that no lease of theirs can run any more.
    expired: Mutex<BTreeSet<NodeId>>,
}

impl Alive {
    pub(crate) fn is_expired(&self, node: NodeId) -> bool {
        self.expired.lock().contains(&node)
    }

    pub(crate) fn nodes(&self) -> BTreeSet<NodeId> {
        self.nodes.lock().clone()
    }
}

pub(crate) struct Health {
    pub(crate) proposer: Proposer,
    pub(crate) state: watch::Receiver<Arc<State>>,
    pub(crate) positions: Arc<Positions>,
    pub(crate) collector: Collector,
    pub(crate) alive: Arc<Alive>,
    pub(crate) clock: Clock,
}

/// What this leader has seen of one start of a broker.
#[derive(Clone, Copy, Debug)]
struct Seen {
    incarnation: Incarnation,
    /// When this leader first saw it registered.
    since_ms: u64,
    /// When this leader first saw it fenced.
    fenced_ms: Option<u64>,
    silent: u32,
}

impl Seen {
    /// Fenced for so long, under this leader, that no lease can run any more.
    fn is_expired(&mut self, view: &View, node: NodeId, now_ms: u64) -> bool {
        if !view.fenced.contains(&node) {
            self.fenced_ms = None;
            return false;
        }
        let since_ms = *self.fenced_ms.get_or_insert(now_ms);
        let lease_ms = view.groups.values().map(|g| g.lease_ms).max().unwrap_or(0);
        now_ms.saturating_sub(since_ms) >= fence_wait_ms(lease_ms)
    }

    /// What is to be done about the broker, if anything.
    fn next(
        &mut self,
        view: &View,
        node: NodeId,
        heard: Heard,
        now_ms: u64,
        sharing: &BTreeSet<NodeId>,
    ) -> Option<Command> {
        let incarnation = self.incarnation;
        if !view.fenced.contains(&node) {
            let is_gone = self.silent >= LOOKS && sharing.contains(&node);
            return is_gone.then_some(Command::FenceNode { node, incarnation });
        }
        if heard.saw_fence && heard.age_ms <= heard.limit_ms {
            return Some(Command::UnfenceNode { node, incarnation });
        }
        let relieved = self.is_expired(view, node, now_ms) && can_be_relieved(view, node);
        relieved.then_some(Command::TakeOver { node, incarnation })
    }
}

/// How long ago a broker was heard, and by what rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Heard {
    age_ms: u64,
    limit_ms: u64,
    /// It works from a view that shows its newest fence.
    saw_fence: bool,
}

impl Health {
    pub(crate) async fn run(self, shutdown: Shutdown) {
        let mut seen: BTreeMap<NodeId, Seen> = BTreeMap::new();
        let mut balanced_ms = self.clock.boot_ms();
        while shutdown.unless(self.clock.sleep(PERIOD)).await.is_some() {
            if !self.proposer.is_leader() {
                // Another leader's view of time is not ours: a new term begins from nothing.
                seen.clear();
                self.alive.nodes.lock().clear();
                self.alive.expired.lock().clear();
                balanced_ms = self.clock.boot_ms();
                continue;
            }
            let state = Arc::clone(&self.state.borrow());
            if shutdown
                .unless(self.look(&state, &mut seen))
                .await
                .is_none()
            {
                return;
            }
            let now_ms = self.clock.boot_ms();
            if now_ms.saturating_sub(balanced_ms) >= REBALANCE_MS {
                balanced_ms = now_ms;
                if is_unbalanced(&state.view) {
                    self.propose(Command::ElectLeaders {
                        partitions: Vec::new(),
                        unclean: false,
                    })
                    .await;
                }
            }
        }
    }

    async fn look(&self, state: &State, seen: &mut BTreeMap<NodeId, Seen>) {
        let view = &state.view;
        let sharing = sharing(view);
        if sharing.is_empty() && view.fenced.is_empty() {
            seen.clear();
            return;
        }
        let mut heard = BTreeMap::new();
        for group in view.groups.values() {
            heard.extend(self.by_leases(state, group, &sharing).await);
        }
        self.by_reports(state, &mut heard);
        let now_ms = self.clock.boot_ms();
        seen.retain(|id, _| view.nodes.contains_key(id));
        let (mut alive, mut expired) = (BTreeSet::new(), BTreeSet::new());
        let mut commands = Vec::new();
        for node in view.nodes.values() {
            let fresh = Seen {
                incarnation: node.incarnation,
                since_ms: now_ms,
                fenced_ms: None,
                silent: 0,
            };
            let known = seen.entry(node.id).or_insert(fresh);
            if known.incarnation != node.incarnation {
                *known = fresh;
            }
            let Some(heard) = heard.get(&node.id) else {
                continue;
            };
            // Voters that started a moment ago have heard nobody yet.
            let age_ms = heard.age_ms.min(now_ms.saturating_sub(known.since_ms));
            let is_silent = age_ms > heard.limit_ms;
            known.silent = if is_silent { known.silent + 1 } else { 0 };
            if heard.age_ms <= heard.limit_ms {
                alive.insert(node.id);
            }
            if known.is_expired(view, node.id, now_ms) {
                expired.insert(node.id);
            }
            commands.extend(known.next(view, node.id, *heard, now_ms, &sharing));
        }
        *self.alive.nodes.lock() = alive;
        *self.alive.expired.lock() = expired;
        for command in commands {
            self.propose(command).await;
        }
    }

    /// Brokers of the group's home, by the newest lease that a majority of voters granted.
    async fn by_leases(
        &self,
        state: &State,
        group: &FailoverGroup,
        sharing: &BTreeSet<NodeId>,
    ) -> Vec<(NodeId, Heard)> {
        let view = &state.view;
        let of_home = |id: &&NodeId| view.nodes.get(id).is_some_and(|n| n.region == group.home);
        let nodes: Vec<NodeId> = sharing
            .iter()
            .chain(&view.fenced)
            .filter(of_home)
            .copied()
            .collect();
        // While a fence of a move stands nobody renews, and nobody may.
        if nodes.is_empty() || group.fence.is_some() {
            return Vec::new();
        }
        let voters = self.proposer.voter_ids();
        let answers = self.collector.collect(&group.name, &nodes, &voters).await;
        let now_ns = self.clock.boot_ns();
        nodes
            .into_iter()
            .filter_map(|id| {
                let incarnation = view.nodes.get(&id)?.incarnation;
                let floor = state.node_floor.get(&id).copied().unwrap_or(0);
                let (age_ms, saw_fence) =
                    granted(&answers, id, incarnation, floor, voters.len(), now_ns);
                let heard = Heard {
                    age_ms,
                    limit_ms: group.lease_ms.saturating_mul(3) / 2,
                    saw_fence,
                };
                Some((id, heard))
            })
            .collect()
    }

    fn by_reports(&self, state: &State, heard: &mut BTreeMap<NodeId, Heard>) {
        let view = &state.view;
        let reports = self.positions.reports(view);
        let now_ns = self.clock.boot_ns();
        let is_home = |region: &RegionName| view.groups.values().any(|g| &g.home == region);
        for node in view.nodes.values().filter(|n| !is_home(&n.region)) {
            let age_ms = reports.get(&node.id).map_or(u64::MAX, |r| r.age_ms(now_ns));
            let by_report = Heard {
                age_ms,
                limit_ms: UNREPORTED_MS,
                // It leads nothing that it could have to give up.
                saw_fence: true,
            };
            heard.insert(node.id, by_report);
        }
    }

    async fn propose(&self, command: Command) {
        let what = command.to_string();
        match self.proposer.propose(command).await {
            Ok(applied) => match applied.outcome {
                Outcome::Refused { code, message } => {
                    tracing::debug!(what, code, message, "not done");
                }
                _ => tracing::info!(what, version = applied.version, "replicas"),
            },
            Err(error) => tracing::debug!(what, %error, "not proposed"),
        }
    }
}

/// The age of the grant that completed the newest majority, and whether that was asked for from a view at
/// least as new as `floor`.
fn granted(
    answers: &Answers,
    node: NodeId,
    incarnation: Incarnation,
    floor: u64,
    voters: usize,
    now_ns: u64,
) -> (u64, bool) {
    let held = answers.values().flatten();
    let mut mine: Vec<_> = held
        .filter(|h| h.node == node && h.incarnation == incarnation)
        .map(|h| {
            (
                now_ns.saturating_sub(h.at_ns) / 1_000_000,
                h.view_version >= floor,
            )
        })
        .collect();
    mine.sort_by_key(|(age_ms, _)| *age_ms);
    let newest = mine.get(..majority(voters)).unwrap_or_default();
    let age_ms = newest.last().map_or(u64::MAX, |(age_ms, _)| *age_ms);
    (
        age_ms,
        !newest.is_empty() && newest.iter().all(|(_, saw)| *saw),
    )
}

/// Brokers that hold a partition together with a live one of the same region.
fn sharing(view: &View) -> BTreeSet<NodeId> {
    let mut sharing = BTreeSet::new();
    let partitions = view.topics.values().flat_map(|t| &t.partitions);
    for nodes in partitions.flat_map(|p| p.replicas.values()) {
        if nodes.len() > 1 {
            let other = |id: &NodeId| nodes.iter().any(|n| n != id && view.is_live(*n));
            sharing.extend(nodes.iter().copied().filter(other));
        }
    }
    sharing
}

/// True while the fenced broker leads something that a live broker could lead.
fn can_be_relieved(view: &View, id: NodeId) -> bool {
    view.topics.values().any(|topic| {
        let Some(group) = view.group_of(topic).filter(|g| g.fence.is_none()) else {
            return false;
        };
        topic
            .partitions
            .iter()
            .filter(|p| p.leader == Some(id))
            .any(|p| {
                let able = |n: &&NodeId| {
                    view.is_live(**n) && (p.isr.contains(n) || topic.unclean_elections())
                };
                let replicas = p.replicas.get(&group.home);
                replicas.is_some_and(|nodes| nodes.iter().any(|n| able(&n)))
            })
    })
}

/// True while a partition could be led by its preferred replica and is not.
fn is_unbalanced(view: &View) -> bool {
    view.topics.values().any(|topic| {
        let home = view.group_of(topic).map(|g| &g.home);
        topic.partitions.iter().any(|p| {
            let preferred = home.and_then(|h| p.replicas.get(h)?.first());
            preferred.is_some_and(|n| p.leader != Some(*n) && p.isr.contains(n) && view.is_live(*n))
        })
    })
}

#[cfg(test)]
mod tests {
    use whimbrel_fleet::{Ceiling, RegionEpoch};

    use super::*;
    use crate::ceilings::Held;

    fn held(age_ms: u64, view_version: u64) -> Held {
        Held {
            node: NodeId(1),
            incarnation: Incarnation::from_u128(7),
            epoch: RegionEpoch(1),
            ceiling: Ceiling::default(),
            view_version,
            at_ns: 10_000_000_000 - age_ms * 1_000_000,
        }
    }

    fn heard(answers: &Answers, floor: u64) -> (u64, bool) {
        let incarnation = Incarnation::from_u128(7);
        granted(answers, NodeId(1), incarnation, floor, 3, 10_000_000_000)
    }

    #[test]
    fn a_broker_is_as_old_as_the_second_newest_of_three_grants() {
        let mut answers = Answers::from([(1, vec![held(10, 5)]), (2, vec![held(3_000, 5)])]);
        assert_eq!(
            heard(&answers, 0).0,
            3_000,
            "one voter that hears it is no majority"
        );
        answers.insert(3, vec![held(40, 5)]);
        assert_eq!(heard(&answers, 0).0, 40);
        answers.remove(&1);
        answers.remove(&2);
        assert_eq!(
            heard(&answers, 0).0,
            u64::MAX,
            "silence of voters is no life sign"
        );
    }

    #[test]
    fn a_fence_is_seen_once_a_majority_granted_from_a_view_that_shows_it() {
        let mut answers = Answers::from([(1, vec![held(10, 9)]), (2, vec![held(20, 8)])]);
        assert!(!heard(&answers, 9).1);
        answers.insert(2, vec![held(20, 9)]);
        assert!(heard(&answers, 9).1);
    }
}
