//! A region of three: fences, elections, ack sets and reassignments, command by command.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_fleet::{LeaderEpoch, Standing, TopicId};

use super::*;
use crate::state::{
    Command, NewTopic,
    tests::{bootstrap, fence, node},
};

/// Brokers 1, 3 and 4 in east, which is home; 2 in west. Topic `t` has three copies, led by `LEADER`.
fn three() -> State {
    let mut state = State::default();
    state.apply(1, bootstrap());
    for (index, id, region) in [
        (2, 1, "east"),
        (3, 2, "west"),
        (4, 3, "east"),
        (5, 4, "east"),
    ] {
        let node = node(id, region, u128::try_from(id).unwrap());
        state.apply(index, Command::RegisterNode { node });
    }
    state.apply(6, topic(&[]));
    state
}

fn topic(configs: &[(&str, &str)]) -> Command {
    Command::CreateTopic(NewTopic {
        name: "t".into(),
        topic_id: TopicId::from_u128(9),
        partitions: 1,
        replication_factor: 3,
        configs: configs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect::<BTreeMap<_, _>>(),
        internal: false,
        copies: Vec::new(),
    })
}

fn at() -> TopicPartition {
    TopicPartition::new(TopicId::from_u128(9), 0)
}

fn partition(state: &State) -> &Partition {
    state.view.partition(at()).unwrap().1
}

fn start(node: NodeId) -> Incarnation {
    Incarnation::from_u128(u128::try_from(node.0).unwrap())
}

/// Leader and the two others, in the order of preference.
fn order(state: &State) -> [NodeId; 3] {
    let replicas = &partition(state).replicas[&"east".into()];
    assert_eq!(partition(state).leader, replicas.first().copied());
    [replicas[0], replicas[1], replicas[2]]
}

fn change(state: &State, isr: &[NodeId]) -> IsrChange {
    IsrChange {
        at: at(),
        leader_epoch: partition(state).leader_epoch,
        version: partition(state).version,
        isr: isr.to_vec(),
        heads: None,
        standing: None,
    }
}

fn propose(state: &mut State, index: u64, by: NodeId, change: IsrChange) {
    let incarnation = start(by);
    let changes = vec![change];
    state.apply(
        index,
        Command::AlterIsr {
            node: by,
            incarnation,
            changes,
        },
    );
}

fn fence_node(state: &mut State, index: u64, node: NodeId) {
    let incarnation = start(node);
    state.apply(index, Command::FenceNode { node, incarnation });
}

fn take_over(state: &mut State, index: u64, node: NodeId) {
    let incarnation = start(node);
    state.apply(index, Command::TakeOver { node, incarnation });
}

#[test]
fn only_the_leader_changes_its_ack_set_and_only_the_version_it_knows() {
    let mut state = three();
    let [a, b, c] = order(&state);
    let old = change(&state, &[a, b]);
    let foreign = change(&state, &[b]);
    propose(&mut state, 10, b, foreign);
    assert_eq!(partition(&state).isr.len(), 3, "a follower has no say");
    propose(&mut state, 11, a, old.clone());
    assert_eq!(partition(&state).isr, [a, b]);
    assert_eq!(state.view.version, 11);
    propose(
        &mut state,
        12,
        a,
        IsrChange {
            isr: vec![a],
            ..old
        },
    );
    assert_eq!(partition(&state).isr, [a, b], "made for an older version");
    assert_eq!(state.view.version, 11);
    let stranger = change(&state, &[a, b, NodeId(2)]);
    propose(&mut state, 13, a, stranger);
    assert_eq!(partition(&state).isr, [a, b], "no replica of the home");
    let whole = change(&state, &[c, a, b]);
    propose(&mut state, 14, a, whole);
    assert_eq!(
        partition(&state).isr,
        [a, b, c],
        "in the order of preference"
    );
}

#[test]
fn a_fenced_follower_leaves_at_once_and_joins_only_after_it_is_heard_again() {
    let mut state = three();
    let [a, b, c] = order(&state);
    fence_node(&mut state, 10, c);
    assert_eq!(partition(&state).isr, [a, b]);
    assert_eq!(partition(&state).leader_epoch, LeaderEpoch(0));
    let back = change(&state, &[a, b, c]);
    propose(&mut state, 11, a, back.clone());
    assert_eq!(partition(&state).isr, [a, b]);
    let incarnation = start(c);
    state.apply(
        12,
        Command::UnfenceNode {
            node: c,
            incarnation,
        },
    );
    propose(&mut state, 13, a, back);
    assert_eq!(partition(&state).isr, [a, b, c]);
}

#[test]
fn a_fenced_leader_keeps_its_partition_until_somebody_takes_over() {
    let mut state = three();
    let [a, b, c] = order(&state);
    take_over(&mut state, 9, a);
    assert_eq!(partition(&state).leader, Some(a), "not without a fence");
    fence_node(&mut state, 10, a);
    assert_eq!(partition(&state).leader, Some(a));
    assert_eq!(state.node_floor[&a], 10);
    take_over(&mut state, 11, a);
    let now = partition(&state);
    assert_eq!((now.leader, now.leader_epoch), (Some(b), LeaderEpoch(1)));
    assert_eq!(now.isr, [b, c]);
    assert_eq!(state.led_from[&b], 11);
}

#[test]
fn nobody_outside_the_ack_set_leads_unless_the_topic_allows_it() {
    for (configs, leader) in [
        (&[][..], None),
        (&[("unclean.leader.election.enable", "true")][..], Some(())),
    ] {
        let mut state = three();
        state.apply(7, Command::DeleteTopic { name: "t".into() });
        let Command::CreateTopic(mut new) = topic(configs) else {
            unreachable!()
        };
        new.topic_id = TopicId::from_u128(10);
        state.apply(8, Command::CreateTopic(new));
        let at = TopicPartition::new(TopicId::from_u128(10), 0);
        let placed = |state: &State| state.view.partition(at).unwrap().1.clone();
        let a = placed(&state).leader.unwrap();
        let alone = IsrChange {
            at,
            leader_epoch: LeaderEpoch(0),
            version: 0,
            isr: vec![a],
            heads: None,
            standing: None,
        };
        propose(&mut state, 10, a, alone);
        fence_node(&mut state, 11, a);
        take_over(&mut state, 12, a);
        let now = placed(&state);
        assert_eq!(now.leader != Some(a), leader.is_some());
        if leader.is_some() {
            assert_eq!(now.isr, [now.leader.unwrap()]);
        } else {
            assert_eq!(now.isr, [a], "it comes back with what it acknowledged");
        }
    }
}

#[test]
fn a_new_start_steps_aside_while_others_live_and_stays_when_it_is_alone() {
    let mut state = three();
    let [a, b, c] = order(&state);
    let again = node(a.0, "east", 77);
    let mut lonely = state.clone();
    state.apply(
        10,
        Command::StartNode {
            node: again.clone(),
            alive: BTreeSet::from([b, c]),
        },
    );
    assert_eq!(partition(&state).leader, Some(b));
    assert_eq!(partition(&state).isr, [b, c]);
    lonely.apply(
        10,
        Command::StartNode {
            node: again,
            alive: BTreeSet::new(),
        },
    );
    let now = partition(&lonely);
    assert_eq!((now.leader, now.leader_epoch), (Some(a), LeaderEpoch(1)));
    assert_eq!(now.isr, [a, b, c]);
}

#[test]
fn the_preferred_leader_comes_back_once_it_is_in_sync() {
    let mut state = three();
    let [a, b, c] = order(&state);
    fence_node(&mut state, 10, a);
    take_over(&mut state, 11, a);
    let elect = || Command::ElectLeaders {
        partitions: vec![at()],
        unclean: false,
    };
    let code = |applied: crate::state::Applied| match applied.outcome {
        Outcome::Partitions { results } => results[0].1,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        code(state.apply(12, elect())),
        kafka::PREFERRED_LEADER_NOT_AVAILABLE
    );
    let incarnation = start(a);
    state.apply(
        13,
        Command::UnfenceNode {
            node: a,
            incarnation,
        },
    );
    let whole = change(&state, &[a, b, c]);
    propose(&mut state, 14, b, whole);
    assert_eq!(code(state.apply(15, elect())), 0);
    let now = partition(&state);
    assert_eq!((now.leader, now.leader_epoch), (Some(a), LeaderEpoch(2)));
    assert_eq!(now.isr, [a, b, c], "the one that led before lives");
    assert_eq!(code(state.apply(16, elect())), kafka::ELECTION_NOT_NEEDED);
    state.apply(17, fence("west"));
    assert_ne!(code(state.apply(18, elect())), 0, "the group is moving");
}

#[test]
fn a_reassignment_ends_when_the_new_replica_is_in_sync() {
    let mut state = three();
    state.apply(7, Command::DeleteTopic { name: "t".into() });
    let Command::CreateTopic(mut new) = topic(&[]) else {
        unreachable!()
    };
    new.topic_id = TopicId::from_u128(10);
    new.replication_factor = 2;
    state.apply(8, Command::CreateTopic(new));
    let at = TopicPartition::new(TopicId::from_u128(10), 0);
    let placed = |state: &State| state.view.partition(at).unwrap().1.clone();
    let east = || RegionName::from("east");
    let before = placed(&state).replicas[&east()].clone();
    let empty = [NodeId(1), NodeId(3), NodeId(4)]
        .into_iter()
        .find(|n| !before.contains(n))
        .unwrap();
    let wanted = vec![empty, before[1]];
    let reassign = |to: Option<Vec<NodeId>>| Command::Reassign {
        changes: vec![(at, to)],
    };
    state.apply(9, reassign(Some(wanted.clone())));
    let now = placed(&state);
    assert_eq!((now.adding, now.removing), (vec![empty], vec![before[0]]));
    assert_eq!(now.leader, Some(before[0]));
    let mut cancelled = state.clone();
    cancelled.apply(10, reassign(None));
    let kept: BTreeSet<_> = placed(&cancelled).replicas[&east()]
        .iter()
        .copied()
        .collect();
    assert_eq!(kept, before.iter().copied().collect());
    let joined = IsrChange {
        at,
        leader_epoch: now.leader_epoch,
        version: now.version,
        isr: vec![empty, before[0], before[1]],
        heads: None,
        standing: None,
    };
    propose(&mut state, 10, before[0], joined);
    let done = placed(&state);
    assert_eq!(done.replicas[&east()], wanted);
    assert_eq!(done.leader, Some(empty));
    assert_eq!(done.isr, wanted);
    assert!(done.adding.is_empty() && done.removing.is_empty());
    assert!(done.leader_epoch > now.leader_epoch);
}

#[test]
fn a_region_that_grows_gets_the_copies_its_topics_want() {
    let state = three();
    let offsets = &state.view.topics[whimbrel_fleet::naming::CONSUMER_OFFSETS];
    for partition in &offsets.partitions {
        let east = &partition.replicas[&"east".into()];
        assert_eq!(east.len(), 3);
        assert_eq!(partition.isr, [NodeId(1)], "the others catch up first");
        assert_eq!(partition.leader, Some(NodeId(1)));
        assert_eq!(partition.replicas[&"west".into()], [NodeId(2)]);
    }
    let firsts: BTreeSet<_> = offsets
        .partitions
        .iter()
        .map(|p| p.replicas[&"east".into()][0])
        .collect();
    assert_eq!(firsts.len(), 3, "preferred leaders are spread");
}

#[test]
fn a_dead_head_gives_its_place_to_a_live_broker_of_its_region() {
    let mut state = three();
    let node = node(5, "west", 5);
    state.apply(7, Command::RegisterNode { node });
    assert_eq!(partition(&state).head(&"west".into()), Some(NodeId(2)));
    fence_node(&mut state, 8, NodeId(2));
    assert_eq!(partition(&state).head(&"west".into()), Some(NodeId(5)));
}

#[test]
fn heads_of_other_regions_are_shown_by_the_leaders_word_and_are_in_no_ack_set() {
    let mut state = three();
    let [a, b, c] = order(&state);
    let west = NodeId(2);
    let told = |state: &State, heads: &[NodeId]| IsrChange {
        heads: Some(heads.to_vec()),
        ..change(state, &[a, b, c])
    };
    let by_follower = told(&state, &[west]);
    propose(&mut state, 10, b, by_follower);
    assert_eq!(partition(&state).keeping_up, []);
    let before = partition(&state).clone();
    // Replicas of the home are no heads, whoever says so.
    let by_leader = told(&state, &[west, b, NodeId(77)]);
    propose(&mut state, 11, a, by_leader.clone());
    let shown = Partition {
        keeping_up: vec![west],
        ..before
    };
    assert_eq!(partition(&state), &shown);
    assert_eq!(state.view.version, 11);
    propose(&mut state, 12, a, by_leader);
    assert_eq!(state.view.version, 11, "nothing new");
    let silent = change(&state, &[a, b]);
    propose(&mut state, 13, a, silent);
    assert_eq!(partition(&state).keeping_up, [west]);
    let behind = told(&state, &[]);
    propose(
        &mut state,
        14,
        a,
        IsrChange {
            isr: vec![a, b],
            ..behind
        },
    );
    assert_eq!(partition(&state).keeping_up, []);
}

#[test]
fn a_copy_that_stands_still_is_remembered_through_a_change_of_leader() {
    let mut state = three();
    let [a, b, c] = order(&state);
    let still = |left_at| Standing {
        since_ms: 5,
        end: 7,
        left_at,
    };
    let told = |state: &State, standing: &[(&str, Standing)]| IsrChange {
        standing: Some(standing.iter().map(|(r, s)| ((*r).into(), *s)).collect()),
        ..change(state, &[a, b, c])
    };
    // The home has no copy that it waits for in this way, nor has a region without one.
    let said = told(
        &state,
        &[
            ("west", still(None)),
            ("east", still(None)),
            ("north", still(None)),
        ],
    );
    let before = partition(&state).clone();
    propose(&mut state, 10, a, said.clone());
    let kept = BTreeMap::from([("west".into(), still(None))]);
    let shown = Partition {
        standing: kept.clone(),
        ..before
    };
    assert_eq!(partition(&state), &shown, "the version stays");
    propose(&mut state, 11, a, said);
    assert_eq!(state.view.version, 10, "nothing new");
    fence_node(&mut state, 12, a);
    take_over(&mut state, 13, a);
    assert_eq!(partition(&state).leader, Some(b));
    assert_eq!(partition(&state).standing, kept);
    let left = IsrChange {
        isr: vec![b, c],
        ..told(&state, &[("west", still(Some(9)))])
    };
    propose(&mut state, 14, b, left);
    assert_eq!(partition(&state).standing[&"west".into()].left_at, Some(9));
    let silent = change(&state, &[b, c]);
    propose(&mut state, 15, b, silent);
    assert!(!partition(&state).standing.is_empty());
    let back = IsrChange {
        isr: vec![b, c],
        ..told(&state, &[])
    };
    propose(&mut state, 16, b, back);
    assert!(partition(&state).standing.is_empty());
}
