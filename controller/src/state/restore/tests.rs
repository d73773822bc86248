use whimbrel_fleet::{
    NodeId,
    credential::{Credential, CredentialChange, Mechanism, Secret},
};

use super::*;
use crate::state::{
    Applied, Command,
    tests::{
        self, abandon_restore, begin_restore, bootstrap, come_home, end_restore, fence_at, fleet,
        kafka_code, move_at, node, refusal, topic,
    },
};

fn restore() -> Command {
    tests::restore(1_007)
}

fn with(change: impl FnOnce(&mut BeginRestore)) -> Command {
    let mut begin = begin_restore(1_007);
    change(&mut begin);
    Command::Restore(RestoreStep::Begin(Box::new(begin)))
}

fn home(end: i64) -> Command {
    come_home(1_007, end)
}

fn done(applied: &Applied) {
    assert_eq!(applied.outcome, Outcome::Done);
}

#[test]
fn an_empty_fleet_becomes_the_described_one_with_nobody_at_home() {
    let mut state = fleet();
    done(&state.apply(4, restore()));
    let view = &state.view;
    assert_eq!(view.version, 4);
    let group = &view.groups[&GroupName::default_group()];
    assert_eq!(
        (group.home.as_str(), group.epoch, group.lease_ms),
        ("bucket-of-north", RegionEpoch(1_006), 3_000)
    );
    assert!(view.regions[&group.home].lost);
    let names: Vec<_> = view.topics.keys().map(String::as_str).collect();
    assert_eq!(names, [CONSUMER_OFFSETS, "orders"]);
    let orders = &view.topics["orders"];
    assert_eq!(orders.id, TopicId::from_u128(71));
    assert_eq!(orders.configs["retention.ms"], "5");
    let partition = &orders.partitions[0];
    assert_eq!(
        (partition.leader, partition.leader_epoch),
        (None, LeaderEpoch(1_003))
    );
    // Both regions are filled.
    assert_eq!(partition.head(&"east".into()), Some(NodeId(1)));
    assert_eq!(partition.head(&"west".into()), Some(NodeId(2)));
    // What the fleet had of itself is gone for everybody, and so is what the other one had deleted.
    for id in [50, 90] {
        assert!(state.deleted.contains(&TopicId::from_u128(id)));
        assert!(view.deleted.contains(&TopicId::from_u128(id)));
    }
    assert_eq!(state.next_producer_id, 3_000_000);
    assert!(view.producer_ids > 3_000_000);
}

#[test]
fn leases_of_the_empty_fleet_end_with_it() {
    let fences = restore();
    let fenced = fences.fences();
    assert_eq!(
        fenced,
        Some((&GroupName::default_group(), RegionEpoch(1_006)))
    );
}

#[test]
fn twice_is_once_and_another_process_takes_over() {
    let mut state = fleet();
    done(&state.apply(4, restore()));
    let before = state.clone();
    done(&state.apply(5, restore()));
    assert_eq!(state, before);
    done(&state.apply(6, with(|b| b.restore.address = "127.0.0.1:2".into())));
    assert_eq!(state.view.version, 6);
    let standing = state.view.restore.clone().unwrap();
    assert_eq!(
        (standing.address.as_str(), standing.at_ms),
        ("127.0.0.1:2", 5)
    );
}

#[test]
fn another_job_or_plan_is_refused_while_one_stands() {
    let mut state = fleet();
    done(&state.apply(4, restore()));
    let before = state.clone();
    for other in [
        with(|b| b.restore.job = "other".into()),
        with(|b| b.restore.hash = "other".into()),
    ] {
        assert_eq!(refusal(&state.apply(5, other)), codes::RESTORE_STANDS);
    }
    let other = Command::Restore(RestoreStep::End {
        job: "other".into(),
    });
    assert_eq!(refusal(&state.apply(6, other)), codes::RESTORE_STANDS);
    assert_eq!(state, before);
}

#[test]
fn a_fleet_that_was_used_is_not_touched() {
    let user = CredentialChange {
        user: "ann".into(),
        mechanism: Mechanism::ScramSha256,
        credential: Some(Credential {
            salt: Secret(vec![1; 16]),
            stored_key: Secret(vec![2; 32]),
            server_key: Secret(vec![3; 32]),
            iterations: 8_192,
        }),
    };
    let used: [(&str, Vec<Command>); 5] = [
        ("topics", vec![topic("t", 1, 1)]),
        (
            "deleted",
            vec![topic("t", 1, 1), Command::DeleteTopic { name: "t".into() }],
        ),
        ("producer", vec![Command::AllocateProducerIds]),
        ("moved", vec![fence_at("west", 2, false)]),
        (
            "users",
            vec![Command::AlterCredentials {
                changes: vec![user],
            }],
        ),
    ];
    for (what, commands) in used {
        let mut state = fleet();
        for (index, command) in (4..).zip(commands) {
            state.apply(index, command);
        }
        let before = state.clone();
        let applied = state.apply(9, restore());
        assert_eq!(refusal(&applied), codes::NOT_EMPTY, "{what}");
        assert_eq!(state, before);
    }
    let applied = State::default().apply(1, restore());
    assert_eq!(refusal(&applied), codes::NOT_BOOTSTRAPPED);
}

#[test]
fn what_no_fleet_can_be_is_refused() {
    type Bend = fn(&mut BeginRestore);
    let bent: [(&str, Bend); 9] = [
        ("region", |b| b.restore.region = "east".into()),
        ("label", |b| b.restore.region = "No Name".into()),
        ("group", |b| b.description.groups.clear()),
        ("epoch", |b| b.description.groups[0].epoch = RegionEpoch(1)),
        ("offsets", |b| drop(b.description.topics.remove(0))),
        ("id", |b| {
            b.description.topics[1].id = TopicId::from_u128(70);
        }),
        ("deleted", |b| {
            b.description.deleted = vec![TopicId::from_u128(71)];
        }),
        ("log", |b| b.description.topics[1].partitions[0].end = 3),
        ("none", |b| b.description.topics[1].partitions.clear()),
    ];
    for (what, bend) in bent {
        let mut state = fleet();
        let before = state.clone();
        let applied = state.apply(4, with(bend));
        assert_eq!(refusal(&applied), codes::BAD_RESTORE, "{what}");
        assert_eq!(state, before);
    }
}

#[test]
fn nobody_writes_before_every_log_ends_where_the_plan_says() {
    let mut state = fleet();
    state.apply(4, restore());
    assert_ne!(kafka_code(&state.apply(5, topic("new", 200, 1))), 0);
    let start = Command::RegisterNode {
        node: node(1, "east", 9),
    };
    done(&state.apply(6, start));
    assert_eq!(state.view.topics["orders"].partitions[0].leader, None);
    assert_eq!(refusal(&state.apply(7, end_restore())), codes::NOT_RESTORED);
    let elsewhere = state.apply(8, fence_at("west", 1_007, true));
    assert_eq!(refusal(&elsewhere), codes::RESTORE_STANDS);
    done(&state.apply(9, fence_at("east", 1_007, true)));
    for short in [39, 41] {
        let applied = state.apply(10, home(short));
        assert_eq!(refusal(&applied), codes::NOT_RESTORED);
    }
    assert_eq!(
        refusal(&state.apply(11, move_at(1_007, vec![]))),
        codes::NOT_RESTORED
    );
    assert_eq!(
        refusal(&state.apply(12, abandon_restore(300))),
        codes::RESTORE_STANDS
    );
    done(&state.apply(13, home(40)));
    let partition = &state.view.topics["orders"].partitions[0];
    assert_eq!(
        (partition.leader, partition.leader_epoch),
        (Some(NodeId(1)), LeaderEpoch(1_004))
    );
    assert_eq!(
        refusal(&state.apply(14, abandon_restore(300))),
        codes::RESTORE_STANDS
    );
}

#[test]
fn it_ends_once_and_the_same_plan_again_finds_it_done() {
    let mut state = fleet();
    state.apply(4, restore());
    state.apply(5, fence_at("east", 1_007, true));
    state.apply(6, home(40));
    done(&state.apply(7, end_restore()));
    assert_eq!(state.view.restore, None);
    assert_eq!(state.restoring, None);
    let regions: Vec<_> = state.view.regions.keys().map(RegionName::as_str).collect();
    assert_eq!(regions, ["east", "west"]);
    let after = state.clone();
    done(&state.apply(8, end_restore()));
    done(&state.apply(9, restore()));
    assert_eq!(state, after);
    let other = with(|b| b.restore.hash = "other".into());
    assert_eq!(refusal(&state.apply(10, other)), codes::NOT_EMPTY);
    // An ordinary move is free again.
    assert_eq!(
        state.apply(11, fence_at("west", 1_008, false)).outcome,
        Outcome::Done
    );
}

#[test]
fn one_that_is_given_up_leaves_an_empty_fleet_at_home() {
    let mut state = fleet();
    assert_eq!(
        refusal(&state.apply(4, abandon_restore(300))),
        codes::NO_RESTORE
    );
    state.apply(5, restore());
    assert_eq!(
        refusal(&state.apply(6, abandon_restore(70))),
        codes::BAD_RESTORE
    );
    done(&state.apply(7, abandon_restore(300)));
    let group = &state.view.groups[&GroupName::default_group()];
    assert_eq!(
        (group.home.as_str(), group.epoch),
        ("east", RegionEpoch(1_007))
    );
    assert_eq!(state.view.restore, None);
    assert_eq!(state.view.regions.len(), 2);
    let names: Vec<_> = state.view.topics.keys().map(String::as_str).collect();
    assert_eq!(names, [CONSUMER_OFFSETS]);
    let offsets = &state.view.topics[CONSUMER_OFFSETS].partitions;
    assert!(offsets.iter().all(|p| p.leader == Some(NodeId(1))));
    // Half-filled logs of the same ids may lie about: they do not come back to life.
    assert_eq!(refusal(&state.apply(8, restore())), codes::NOT_EMPTY);
    assert_eq!(
        kafka_code(&state.apply(9, topic("t", 71, 1))),
        crate::state::kafka::INVALID_REQUEST
    );
    done(&state.apply(
        10,
        Command::RegisterNode {
            node: node(1, "east", 9),
        },
    ));
}

#[test]
fn a_broker_that_comes_later_is_filled_too() {
    let mut state = State::default();
    state.apply(1, bootstrap());
    done(&state.apply(2, restore()));
    done(&state.apply(
        3,
        Command::RegisterNode {
            node: node(1, "east", 1),
        },
    ));
    let partition = &state.view.topics["orders"].partitions[0];
    assert_eq!(partition.head(&"east".into()), Some(NodeId(1)));
    assert_eq!(partition.leader, None);
}

/// What is left of a command line, a voter and a broker that end between two steps: the steps themselves, said again by whoever
/// comes next, a snapshot that is read back, and a broker that is another incarnation.
#[test]
fn between_any_two_steps_everybody_may_begin_again_and_it_ends_the_same() {
    let steps = || {
        [
            restore(),
            fence_at("east", 1_007, true),
            home(40),
            end_restore(),
        ]
    };
    let start = |incarnation| Command::RegisterNode {
        node: node(1, "east", incarnation),
    };
    let run = |again: Option<usize>| {
        let mut state = fleet();
        state.apply(4, start(9));
        for (n, index) in (0..=4_usize).zip([10, 20, 30, 40, 50]) {
            if again == Some(n) {
                let snapshot = serde_json::to_vec(&state).unwrap();
                state = serde_json::from_slice(&snapshot).unwrap();
                // All of it from the beginning, by a process elsewhere; what is too early is refused.
                let elsewhere = with(|b| b.restore.address = "127.0.0.1:2".into());
                done(&state.apply(index - 5, elsewhere));
                let at_home = n >= 3;
                if !at_home {
                    assert_eq!(
                        refusal(&state.apply(index - 4, end_restore())),
                        codes::NOT_RESTORED
                    );
                }
                if n == 2 {
                    assert_eq!(
                        refusal(&state.apply(index - 3, home(39))),
                        codes::NOT_RESTORED
                    );
                }
            }
            if let Some(step) = steps().into_iter().nth(n) {
                done(&state.apply(index, step));
            }
        }
        state
    };
    let straight = run(None);
    assert_eq!(
        (&straight.view.restore, &straight.restoring),
        (&None, &None)
    );
    for n in 0..=4 {
        assert_eq!(run(Some(n)), straight, "again before step {n}");
    }
    for n in 1..=3 {
        let mut state = fleet();
        for (m, step) in steps().into_iter().enumerate() {
            let index = 10 * (u64::try_from(m).unwrap() + 1);
            if m == n {
                done(&state.apply(index - 5, start(9)));
            }
            done(&state.apply(index, step));
        }
        let group = &state.view.groups[&GroupName::default_group()];
        assert_eq!(
            (group.home.as_str(), group.epoch),
            ("east", RegionEpoch(1_007))
        );
        assert_eq!(
            state.view.topics["orders"].partitions[0].leader,
            Some(NodeId(1))
        );
        assert_eq!(state.view.restore, None);
    }
}
