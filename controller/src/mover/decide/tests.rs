//! Decisions on a small fleet: east's broker 1 at home, west's brokers 2 and 3.

use std::collections::BTreeMap;

use whimbrel_fleet::{Incarnation, LossBound, RegionEpoch, naming::CONSUMER_OFFSETS};
use whimbrel_rpc::controller::{PositionReport, Seal};

use super::*;
use crate::{
    ceilings::Held,
    mover::{bound::bound, collect::Answers},
    positions::Positions,
    state::{
        Command, State,
        tests::{fence, fleet, node, topic},
    },
};

const T: u128 = 9;

/// One topic of two partitions, copied to both brokers of west; the group is fenced for west.
fn fenced() -> State {
    let mut state = fleet();
    state.apply(
        4,
        Command::RegisterNode {
            node: node(3, "west", 3),
        },
    );
    state.apply(5, topic("t", T, 2));
    state.view.topics.remove(CONSUMER_OFFSETS);
    for partition in &mut state.view.topics.get_mut("t").unwrap().partitions {
        partition
            .replicas
            .insert("west".into(), vec![NodeId(2), NodeId(3)]);
    }
    state.apply(6, fence("west"));
    state
}

fn at(partition: i32) -> TopicPartition {
    TopicPartition::new(whimbrel_fleet::TopicId::from_u128(T), partition)
}

/// (epoch, end) of both partitions.
fn report(id: i32, ends: [(i32, i64); 2], sealed: bool) -> PositionReport {
    let mut report = PositionReport::new(
        NodeId(id),
        Incarnation::from_u128(u128::try_from(id).unwrap()),
    );
    for (partition, (last_epoch, end_offset)) in (0..).zip(ends) {
        let bytes = u64::try_from(end_offset).unwrap() * 10;
        report.partitions.push(PartitionPosition {
            at: at(partition),
            end_offset,
            last_epoch,
            bytes,
        });
    }
    if sealed {
        report.seals.push(Seal {
            group: "default".into(),
            epoch: RegionEpoch(2),
        });
    }
    report
}

fn reports(state: &State, all: Vec<PositionReport>) -> Reports {
    let positions = Positions::default();
    for report in all {
        assert!(positions.take(report, &state.view, 0));
    }
    positions.reports(&state.view)
}

fn decide_failover(
    state: &State,
    reports: &Reports,
    patience: Patience,
) -> Result<Decision, Missing> {
    let group = &state.view.groups[&"default".into()];
    failover(
        &state.view,
        group,
        group.fence.as_ref().unwrap(),
        reports,
        patience,
    )
}

#[test]
fn the_most_advanced_replica_is_chosen_by_epoch_before_offset() {
    let state = fenced();
    let reports = reports(
        &state,
        vec![
            report(2, [(1, 90), (2, 10)], true),
            report(3, [(2, 50), (2, 10)], true),
        ],
    );
    let decision = decide_failover(&state, &reports, Patience::All).unwrap();
    let leaders: Vec<_> = decision
        .promoted
        .iter()
        .map(|p| (p.leader, p.promotion.offset))
        .collect();
    assert_eq!(
        leaders,
        [(NodeId(3), 50), (NodeId(2), 10)],
        "of equals the head goes on"
    );
    assert_eq!(decision.promoted[0].isr, [NodeId(3)], "2 has to catch up");
    assert_eq!(decision.promoted[1].isr, [NodeId(2), NodeId(3)]);
}

#[test]
fn an_unsealed_replica_is_waited_for_and_then_left_out() {
    let state = fenced();
    let reports = reports(
        &state,
        vec![
            report(2, [(1, 90), (1, 10)], true),
            report(3, [(1, 99), (1, 99)], false),
        ],
    );
    assert!(
        decide_failover(&state, &reports, Patience::All)
            .unwrap_err()
            .0
            .starts_with(codes::NOT_SEALED)
    );
    let decision = decide_failover(&state, &reports, Patience::AnyReplica).unwrap();
    assert!(
        decision
            .promoted
            .iter()
            .all(|p| p.leader == NodeId(2) && p.isr == [NodeId(2)])
    );
}

#[test]
fn a_report_of_an_earlier_start_counts_for_nothing() {
    let mut state = fenced();
    let positions = Positions::default();
    assert!(positions.take(report(2, [(1, 90), (1, 10)], true), &state.view, 0));
    state.apply(
        7,
        Command::RegisterNode {
            node: node(2, "west", 22),
        },
    );
    assert!(positions.reports(&state.view).is_empty());
    assert!(!positions.take(report(2, [(1, 90), (1, 10)], true), &state.view, 0));
}

#[test]
fn a_planned_move_needs_the_homes_sealed_ends_reached_in_the_same_epoch() {
    let state = fenced();
    let group = &state.view.groups[&"default".into()];
    let fence = group.fence.as_ref().unwrap();
    let decide = |all| planned(&state.view, group, fence, &reports(&state, all));
    let west = || report(2, [(1, 90), (1, 10)], false);
    assert!(
        decide(vec![report(1, [(1, 90), (1, 10)], false), west()])
            .unwrap_err()
            .0
            .starts_with(codes::NOT_SEALED)
    );
    assert!(
        decide(vec![report(1, [(1, 90), (1, 11)], true), west()])
            .unwrap_err()
            .0
            .starts_with(codes::NOT_DRAINED)
    );
    assert!(
        decide(vec![report(1, [(2, 90), (1, 10)], true), west()])
            .unwrap_err()
            .0
            .starts_with(codes::NOT_DRAINED),
        "another epoch's records"
    );
    let decision = decide(vec![
        report(1, [(1, 90), (1, 10)], true),
        west(),
        report(3, [(1, 80), (1, 10)], false),
    ])
    .unwrap();
    assert_eq!(decision.promoted[0].isr, [NodeId(2)]);
    assert_eq!(decision.promoted[1].isr, [NodeId(2), NodeId(3)]);
}

#[test]
fn one_brokers_surplus_hides_no_others_deficit() {
    let mut state = fenced();
    state.apply(
        7,
        Command::RegisterNode {
            node: node(4, "east", 4),
        },
    );
    let partitions = &mut state.view.topics.get_mut("t").unwrap().partitions;
    partitions[0].leader = Some(NodeId(1));
    partitions[1].leader = Some(NodeId(4));
    let group = &state.view.groups[&"default".into()];
    let durable = BTreeMap::from([
        (
            at(0),
            Position {
                records: 100,
                bytes: 0,
            },
        ),
        (
            at(1),
            Position {
                records: 10,
                bytes: 0,
            },
        ),
    ]);
    let held = |id, records| Held {
        node: NodeId(id),
        incarnation: Incarnation::from_u128(1),
        epoch: RegionEpoch(1),
        ceiling: whimbrel_fleet::Ceiling {
            position: Position { records, bytes: 0 },
            sequence: 1,
        },
        view_version: 7,
        at_ns: 0,
    };
    // Broker 1 streamed 40 records that it never reserved; broker 4 reserved 30 that are missing.
    let answers: Answers = (1..=2)
        .map(|voter| (voter, vec![held(1, 60), held(4, 40)]))
        .collect();
    assert_eq!(
        bound(&state, group, &durable, &answers, 3),
        LossBound::AtMost(Position {
            records: 30,
            bytes: 0
        })
    );
    let one: Answers =
        BTreeMap::from([(1, vec![held(1, 60)]), (2, vec![held(1, 60), held(4, 40)])]);
    assert_eq!(bound(&state, group, &durable, &one, 3), LossBound::Unknown);
}
