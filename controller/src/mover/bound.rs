//! The loss bound of a move: what the home's brokers may have acknowledged, less what is durable here.

use std::collections::BTreeMap;

use whimbrel_fleet::{LossBound, NodeId, Position, TopicPartition, View, view::FailoverGroup};

use super::collect::Answers;
use crate::{ceilings::reserved, state::State};

/// The partitions of `group` by the broker that leads them now.
pub(super) fn led_by(view: &View, group: &FailoverGroup) -> BTreeMap<NodeId, Vec<TopicPartition>> {
    let mut led: BTreeMap<NodeId, Vec<TopicPartition>> = BTreeMap::new();
    for (at, partition) in super::decide::partitions(view, group) {
        if let Some(leader) = partition.leader {
            led.entry(leader).or_default().push(at);
        }
    }
    led
}

/// The brokers that lead partitions of `group` now.
pub(crate) fn leaders(view: &View, group: &FailoverGroup) -> Vec<NodeId> {
    led_by(view, group).into_keys().collect()
}

/// Broker by broker, so that one's surplus hides no other's deficit.
pub(super) fn bound(
    state: &State,
    group: &FailoverGroup,
    durable: &BTreeMap<TopicPartition, Position>,
    answers: &Answers,
    voters: usize,
) -> LossBound {
    // What the fleet that a bucket is of wrote above the cut is known to nobody.
    let restore = state.view.restore.as_ref();
    if restore.is_some_and(|restore| restore.region == group.home) {
        return LossBound::Unknown;
    }
    let mut total = Position::default();
    for (node, partitions) in led_by(&state.view, group) {
        let led_from = state.led_from.get(&node).copied().unwrap_or(0);
        let here = sum(partitions.iter().filter_map(|at| durable.get(at)));
        match LossBound::of(reserved(answers, node, voters, led_from), here) {
            LossBound::AtMost(p) => total = sum([&total, &p].into_iter()),
            LossBound::Unknown => return LossBound::Unknown,
        }
    }
    LossBound::AtMost(total)
}

pub(super) fn sum<'a>(positions: impl Iterator<Item = &'a Position>) -> Position {
    positions.fold(Position::default(), |total, p| Position {
        records: total.records.saturating_add(p.records),
        bytes: total.bytes.saturating_add(p.bytes),
    })
}
