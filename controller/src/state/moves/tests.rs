//! Fence, move, abort, report: step by step.

use whimbrel_fleet::{LeaderEpoch, NodeId, Promotion, TopicId, naming::CONSUMER_OFFSETS};

use super::*;
use crate::state::{
    Command,
    tests::{fence, fence_at, fleet, move_at, node, refusal, topic},
};

fn default() -> GroupName {
    GroupName::default_group()
}

fn at() -> TopicPartition {
    TopicPartition::new(TopicId::from_u128(9), 0)
}

/// Broker 3, the head's follower, has more than the head.
fn promoted() -> Vec<Promoted> {
    let promotion = Promotion {
        epoch: LeaderEpoch(0),
        offset: 70,
    };
    vec![Promoted {
        at: at(),
        leader: NodeId(3),
        promotion,
        isr: vec![NodeId(2), NodeId(3)],
    }]
}

/// East at home; in west brokers 2 and 3 hold the topic. `lost` is declared with the move.
fn moved() -> State {
    let mut state = fleet();
    state.apply(
        4,
        Command::RegisterNode {
            node: node(3, "west", 3),
        },
    );
    state.apply(5, topic("t", 9, 1));
    let replicas = &mut state.view.topics.get_mut("t").unwrap().partitions[0].replicas;
    replicas.insert("west".into(), vec![NodeId(2), NodeId(3)]);
    assert_eq!(
        refusal(&state.apply(6, move_at(2, promoted()))),
        codes::NO_FENCE
    );
    state.apply(7, fence_at("west", 2, true));
    assert_eq!(
        refusal(&state.apply(8, fence_at("east", 2, false))),
        codes::MOVE_UNDER_WAY
    );
    state.apply(9, move_at(2, promoted()));
    state
}

#[test]
fn a_move_makes_the_chosen_replicas_lead_in_new_epochs() {
    let mut state = moved();
    let group = &state.view.groups[&default()];
    assert_eq!(
        (group.home.as_str(), group.epoch, group.fence.as_ref()),
        ("west", RegionEpoch(2), None)
    );
    assert_eq!(group.lossy_promotion(at()), Some(70));
    let partition = &state.view.topics["t"].partitions[0];
    assert_eq!(
        (partition.leader, partition.leader_epoch),
        (Some(NodeId(3)), LeaderEpoch(1))
    );
    assert_eq!(partition.isr, [NodeId(3), NodeId(2)]);
    let done = group.moves.last().unwrap();
    assert_eq!(done.partitions[0].opened, Some(LeaderEpoch(1)));
    assert_eq!(partition.head(&"west".into()), Some(NodeId(3)));
    let offsets = &state.view.topics[CONSUMER_OFFSETS].partitions;
    assert!(offsets.iter().all(|p| p.leader == Some(NodeId(2))));
    let again = state.apply(10, move_at(2, promoted()));
    assert_eq!(
        again.outcome,
        Outcome::Done,
        "recognised when it comes twice"
    );
    assert_eq!(state.view.version, 9);
}

#[test]
fn a_lost_region_is_listed_again_when_it_registers_as_a_follower() {
    let mut state = moved();
    let listed: Vec<_> = state.view.listed_brokers().map(|n| n.id).collect();
    assert_eq!(listed, [NodeId(2), NodeId(3)]);
    state.apply(
        10,
        Command::RegisterNode {
            node: node(1, "east", 21),
        },
    );
    assert_eq!(state.view.listed_brokers().count(), 3);
    assert_eq!(state.view.topics["t"].partitions[0].leader, Some(NodeId(3)));
}

#[test]
fn clamps_are_added_once_and_the_report_closes() {
    let mut state = moved();
    assert_eq!(state.reports[&default()].total_ms, 2_500);
    let clamp = Clamp {
        consumer_group: "g".into(),
        topic: "t".into(),
        partition: 0,
        from: 80,
        to: 70,
    };
    let add = |epoch| Command::AddClamps {
        group: default(),
        epoch: RegionEpoch(epoch),
        clamps: vec![clamp.clone()],
    };
    state.apply(11, add(2));
    state.apply(12, add(2));
    assert_eq!(refusal(&state.apply(13, add(1))), codes::NO_FENCE);
    state.apply(
        14,
        Command::FinishMove {
            group: default(),
            epoch: RegionEpoch(2),
        },
    );
    let report = &state.reports[&default()];
    assert_eq!(
        (report.outcome.clone(), report.clamps.len()),
        (MoveOutcome::Done, 1)
    );
}

#[test]
fn an_abort_lets_the_home_go_on_above_the_fence() {
    let mut state = fleet();
    state.apply(4, fence("west"));
    let reason = "WB-441: x".to_owned();
    let abort = || Command::AbortMove {
        group: default(),
        epoch: RegionEpoch(2),
        reason: reason.clone(),
        fence_ms: 5,
        at_ms: 1_900,
    };
    state.apply(5, abort());
    let group = &state.view.groups[&default()];
    assert_eq!(
        (group.home.as_str(), group.epoch, group.fence.as_ref()),
        ("east", RegionEpoch(3), None)
    );
    assert_eq!(
        state.view.topics[CONSUMER_OFFSETS].partitions[0].leader_epoch,
        LeaderEpoch(2)
    );
    assert_eq!(refusal(&state.apply(6, abort())), codes::NO_FENCE);
    let late = state.apply(7, move_at(2, vec![]));
    assert_eq!(
        refusal(&late),
        codes::NO_FENCE,
        "a deposed leader's late move does nothing"
    );
    assert_eq!(refusal(&state.apply(8, fence("west"))), codes::PLAN_CHANGED);
}

#[test]
fn the_newest_lossy_move_is_never_forgotten() {
    let mut group = FailoverGroup::new(default(), "east".into());
    for epoch in 0..40_u32 {
        let lossy = epoch == 3;
        group.moves.push(Move {
            epoch: RegionEpoch(epoch),
            from: "east".into(),
            to: "west".into(),
            mode: whimbrel_fleet::MoveMode::Failover,
            lossy,
            declared_lost: false,
            bound: LossBound::Unknown,
            partitions: Vec::new(),
            at_ms: 0,
        });
        forget_old_moves(&mut group);
    }
    assert_eq!(group.moves.len(), MOVES);
    assert!(group.moves.iter().any(|m| m.lossy));
    assert_eq!(group.moves.last().unwrap().epoch, RegionEpoch(39));
}
