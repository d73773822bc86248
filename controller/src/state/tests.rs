//! The state, command by command.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_fleet::{
    AcceptLoss, Fence, GroupName, HostPort, Incarnation, LeaderEpoch, LossBound, MoveMode,
    MovePlan, Node, NodeId, Position, RegionEpoch, TopicId, naming::CONSUMER_OFFSETS,
};

use super::*;
use crate::codes;

pub(crate) use super::restore::sample::{
    abandon_restore, begin_restore, come_home, end_restore, restore,
};

pub(crate) fn node(id: i32, region: &str, incarnation: u128) -> Node {
    let at = HostPort::new("127.0.0.1", 9_092);
    Node {
        id: NodeId(id),
        region: region.into(),
        rack: None,
        incarnation: Incarnation::from_u128(incarnation),
        kafka: at.clone(),
        replica: at.clone(),
        rpc: at.clone(),
        admin: at,
    }
}

pub(crate) fn bootstrap() -> Command {
    Command::Bootstrap {
        fleet_id: "fleet".into(),
        regions: BTreeSet::from(["east".into(), "west".into()]),
        home: "east".into(),
        lease_ms: 1_000,
        offsets_topic_id: TopicId::from_u128(50),
    }
}

/// East with broker 1 at home, west with broker 2.
pub(crate) fn fleet() -> State {
    let mut state = State::default();
    state.apply(1, bootstrap());
    state.apply(
        2,
        Command::RegisterNode {
            node: node(1, "east", 1),
        },
    );
    state.apply(
        3,
        Command::RegisterNode {
            node: node(2, "west", 2),
        },
    );
    state
}

pub(crate) fn topic(name: &str, id: u128, partitions: i32) -> Command {
    Command::CreateTopic(NewTopic {
        name: name.into(),
        topic_id: TopicId::from_u128(id),
        partitions,
        replication_factor: 1,
        configs: BTreeMap::new(),
        internal: false,
        copies: Vec::new(),
    })
}

pub(crate) fn fence(to: &str) -> Command {
    fence_at(to, 2, false)
}

pub(crate) fn fence_at(to: &str, epoch: u32, declare_lost: bool) -> Command {
    let plan = MovePlan {
        group: GroupName::default_group(),
        from: "east".into(),
        to: to.into(),
        mode: MoveMode::Failover,
        epoch: RegionEpoch(epoch),
        partitions: 0,
        topics: 0,
        home_alive: false,
        bound: LossBound::Unknown,
        home: None,
        target: Position::default(),
        behind_ms: None,
        refused: vec![],
        hash: "abc".into(),
    };
    let fence = Fence {
        epoch: RegionEpoch(epoch),
        to: to.into(),
        mode: MoveMode::Failover,
        accept_loss: AcceptLoss::Unknown,
        plan: "abc".into(),
    };
    Command::SetFence(Box::new(SetFence {
        group: GroupName::default_group(),
        fence,
        declare_lost,
        plan,
        at_ms: 1_000,
    }))
}

pub(crate) fn move_at(epoch: u32, partitions: Vec<Promoted>) -> Command {
    Command::Move {
        group: GroupName::default_group(),
        epoch: RegionEpoch(epoch),
        lossy: true,
        bound: LossBound::AtMost(Position {
            records: 9,
            bytes: 90,
        }),
        partitions,
        fence_ms: 1_300,
        at_ms: 3_500,
    }
}

pub(crate) fn kafka_code(applied: &Applied) -> i16 {
    match applied.outcome {
        Outcome::Kafka { error_code, .. } => error_code,
        _ => 0,
    }
}

pub(super) fn refusal(applied: &Applied) -> &str {
    match &applied.outcome {
        Outcome::Refused { code, .. } => code,
        _ => "",
    }
}

#[test]
fn a_fleet_is_bootstrapped_once() {
    let mut state = State::default();
    assert_eq!(
        refusal(&state.apply(
            1,
            Command::RegisterNode {
                node: node(1, "east", 1)
            }
        )),
        codes::NOT_BOOTSTRAPPED
    );
    assert_eq!(
        state.apply(2, bootstrap()),
        Applied {
            version: 2,
            outcome: Outcome::Done
        }
    );
    assert_eq!(
        state.apply(3, bootstrap()).version,
        2,
        "again changes nothing"
    );
    let Command::Bootstrap {
        regions,
        home,
        lease_ms,
        offsets_topic_id,
        ..
    } = bootstrap()
    else {
        unreachable!()
    };
    let other = Command::Bootstrap {
        fleet_id: "other".into(),
        regions,
        home,
        lease_ms,
        offsets_topic_id,
    };
    assert_eq!(refusal(&state.apply(4, other)), codes::FOREIGN_FLEET);
    assert_eq!(state.view.topics[CONSUMER_OFFSETS].partitions.len(), 50);
}

#[test]
fn first_registrations_fill_the_offsets_topic_and_the_home_leads() {
    let state = fleet();
    for partition in &state.view.topics[CONSUMER_OFFSETS].partitions {
        assert_eq!(partition.leader, Some(NodeId(1)));
        assert_eq!(partition.isr, [NodeId(1)]);
        assert_eq!(partition.head(&"west".into()), Some(NodeId(2)));
    }
}

#[test]
fn a_new_incarnation_leads_in_a_new_epoch_and_the_old_one_never_comes_back() {
    let mut state = fleet();
    state.apply(4, topic("t", 7, 1));
    let epoch = |s: &State| s.view.topics["t"].partitions[0].leader_epoch;
    assert_eq!(epoch(&state), LeaderEpoch(0));
    assert_eq!(
        state
            .apply(
                5,
                Command::RegisterNode {
                    node: node(1, "east", 1)
                }
            )
            .version,
        4,
        "the same one again changes nothing"
    );
    state.apply(
        6,
        Command::RegisterNode {
            node: node(1, "east", 11),
        },
    );
    assert_eq!(epoch(&state), LeaderEpoch(1));
    state.apply(
        7,
        Command::RegisterNode {
            node: node(2, "west", 12),
        },
    );
    assert_eq!(
        epoch(&state),
        LeaderEpoch(1),
        "a follower's start changes no leadership"
    );
    assert_eq!(
        refusal(&state.apply(
            8,
            Command::RegisterNode {
                node: node(1, "east", 1)
            }
        )),
        codes::SUPERSEDED
    );
    assert_eq!(
        refusal(&state.apply(
            9,
            Command::RegisterNode {
                node: node(1, "west", 3)
            }
        )),
        codes::NODE_ID_TAKEN
    );
    assert_eq!(
        refusal(&state.apply(
            10,
            Command::RegisterNode {
                node: node(5, "moon", 3)
            }
        )),
        codes::UNKNOWN_REGION
    );
}

#[test]
fn topics_follow_kafkas_rules() {
    let mut state = fleet();
    assert_eq!(
        state.apply(4, topic("a.b", 7, 3)).outcome,
        Outcome::Topic {
            topic_id: TopicId::from_u128(7)
        }
    );
    assert_eq!(
        state.apply(5, topic("a.b", 7, 3)).version,
        4,
        "recognised by its id"
    );
    assert_eq!(
        kafka_code(&state.apply(6, topic("a.b", 8, 3))),
        kafka::TOPIC_ALREADY_EXISTS
    );
    assert_eq!(
        kafka_code(&state.apply(7, topic("a_b", 8, 3))),
        kafka::INVALID_TOPIC_EXCEPTION
    );
    assert_eq!(
        kafka_code(&state.apply(8, topic("../x", 8, 3))),
        kafka::INVALID_TOPIC_EXCEPTION
    );
    assert_eq!(
        kafka_code(&state.apply(9, topic("c", 8, 0))),
        kafka::INVALID_PARTITIONS
    );
    assert_eq!(
        kafka_code(&state.apply(10, topic("c", 7, 1))),
        kafka::INVALID_REQUEST
    );
}

#[test]
fn topics_grow_and_go_and_their_ids_never_return() {
    let mut state = fleet();
    state.apply(10, topic("a.b", 7, 3));
    let grow = |total| {
        Command::CreatePartitions(MorePartitions {
            name: "a.b".into(),
            total,
            copies: Vec::new(),
        })
    };
    assert_eq!(
        kafka_code(&state.apply(11, grow(3))),
        kafka::INVALID_PARTITIONS
    );
    assert_eq!(kafka_code(&state.apply(12, grow(5))), 0);
    assert_eq!(state.view.topics["a.b"].partitions.len(), 5);
    assert_eq!(
        kafka_code(&state.apply(13, Command::DeleteTopic { name: "a.b".into() })),
        0
    );
    assert_eq!(state.view.deleted.len(), 1, "and every daemon is told");
    assert_eq!(
        kafka_code(&state.apply(14, Command::DeleteTopic { name: "a.b".into() })),
        kafka::UNKNOWN_TOPIC_OR_PARTITION
    );
    assert_eq!(
        kafka_code(&state.apply(15, topic("d", 7, 1))),
        kafka::INVALID_REQUEST,
        "a deleted topic's id is never used again"
    );
    assert_eq!(
        kafka_code(&state.apply(
            16,
            Command::DeleteTopic {
                name: CONSUMER_OFFSETS.into()
            }
        )),
        kafka::INVALID_REQUEST
    );
    let Command::CreateTopic(mut two) = topic("e", 9, 1) else {
        unreachable!()
    };
    two.replication_factor = 2;
    assert_eq!(
        kafka_code(&state.apply(17, Command::CreateTopic(two))),
        kafka::INVALID_REPLICATION_FACTOR,
        "east has one broker"
    );
}

#[test]
fn copies_are_spread_over_each_regions_brokers() {
    let mut state = fleet();
    state.apply(
        4,
        Command::RegisterNode {
            node: node(3, "east", 3),
        },
    );
    state.apply(
        5,
        Command::RegisterNode {
            node: node(4, "east", 4),
        },
    );
    let Command::CreateTopic(mut wide) = topic("t", 9, 6) else {
        unreachable!()
    };
    wide.replication_factor = 2;
    state.apply(6, Command::CreateTopic(wide));
    let mut led: BTreeMap<NodeId, usize> = BTreeMap::new();
    for partition in &state.view.topics["t"].partitions {
        let east = &partition.replicas[&"east".into()];
        assert_eq!(
            (east.len(), partition.replicas[&"west".into()].len()),
            (2, 1)
        );
        assert_ne!(east[0], east[1]);
        assert_eq!(partition.leader, Some(east[0]));
        *led.entry(east[0]).or_default() += 1;
    }
    assert_eq!(led.values().copied().collect::<Vec<_>>(), [2, 2, 2]);
}

#[test]
fn producer_ids_are_never_given_twice() {
    let mut state = fleet();
    // The first one raises the view's bound, and those after it do not.
    for (index, version, first) in [(4, 4, 0), (5, 4, 1_000)] {
        let given = Applied {
            version,
            outcome: Outcome::ProducerIds { first, len: 1_000 },
        };
        assert_eq!(state.apply(index, Command::AllocateProducerIds), given);
        assert!(state.next_producer_id <= state.view.producer_ids);
    }
}

#[test]
fn a_state_that_is_older_than_the_bound_of_producer_ids_gets_one() {
    let mut state = fleet();
    state.next_producer_id = 7_000_000;
    let unchanged = Command::DeleteTopic {
        name: "none".into(),
    };
    assert_eq!(state.apply(4, unchanged.clone()).version, 4);
    assert_eq!(state.view.producer_ids, 8_000_000);
    assert_eq!(state.apply(5, unchanged).version, 4);
}

#[test]
fn configs_change_only_from_what_they_were() {
    let mut state = fleet();
    state.apply(4, topic("a", 1, 1));
    let configs = |value: &str| BTreeMap::from([("retention.ms".to_owned(), value.to_owned())]);
    let alter = |before: BTreeMap<String, String>, after: BTreeMap<String, String>| {
        Command::AlterTopicConfigs {
            topic_id: TopicId::from_u128(1),
            before,
            after,
        }
    };
    let first = alter(state.view.topics["a"].configs.clone(), configs("1"));
    let done = Outcome::Topic {
        topic_id: TopicId::from_u128(1),
    };
    let applied = state.apply(5, first.clone());
    assert_eq!((applied.version, &applied.outcome), (5, &done));
    assert_eq!(state.view.topics["a"].configs, configs("1"));
    // Repeated, it changes nothing and is no failure.
    let again = state.apply(6, first);
    assert_eq!((again.version, again.outcome), (5, done));
    let late = state.apply(7, alter(BTreeMap::new(), configs("2")));
    assert_eq!((late.version, late.outcome), (5, Outcome::Stale));
    assert_eq!(state.view.topics["a"].configs, configs("1"));
    let gone = Command::AlterTopicConfigs {
        topic_id: TopicId::from_u128(9),
        before: BTreeMap::new(),
        after: configs("1"),
    };
    assert!(matches!(
        state.apply(8, gone).outcome,
        Outcome::Kafka { error_code: 3, .. }
    ));
}
