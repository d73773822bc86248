//! What holds after any sequence of commands.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use whimbrel_fleet::{
    GroupName, Incarnation, IsrChange, LeaderEpoch, NodeId, Promotion, RegionEpoch, RegionName,
    Standing, TopicId, TopicPartition, View, resource_config::Resource, view::Delta,
};

use super::{tests, *};

fn region() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("east"), Just("west"), Just("moon")]
}

fn promoted() -> impl Strategy<Value = Vec<Promoted>> {
    let one = (1_u128..6, 0_i32..3, 1_i32..5, 0_i64..100).prop_map(
        |(topic, partition, leader, offset)| Promoted {
            at: TopicPartition::new(TopicId::from_u128(topic), partition),
            leader: NodeId(leader),
            promotion: Promotion {
                epoch: LeaderEpoch(0),
                offset,
            },
            isr: vec![NodeId(leader)],
        },
    );
    prop::collection::vec(one, 0..4)
}

fn config() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map("retention.ms", "[12]", 0..2)
}

fn node() -> impl Strategy<Value = (NodeId, Incarnation)> {
    (1_i32..5, 1_u128..9).prop_map(|(id, start)| (NodeId(id), Incarnation::from_u128(start)))
}

fn partition() -> impl Strategy<Value = TopicPartition> {
    (1_u128..6, 0_i32..3).prop_map(|(id, index)| TopicPartition::new(TopicId::from_u128(id), index))
}

fn isr_change() -> impl Strategy<Value = IsrChange> {
    let isr = prop::collection::vec((1_i32..5).prop_map(NodeId), 1..4);
    let heads = prop::option::of(prop::collection::vec((1_i32..5).prop_map(NodeId), 0..3));
    let change = (partition(), 0_i32..3, 0_u32..3, isr, heads, standing());
    change.prop_map(|(at, epoch, version, isr, heads, standing)| IsrChange {
        at,
        leader_epoch: LeaderEpoch(epoch),
        version,
        isr,
        heads,
        standing,
    })
}

fn standing() -> impl Strategy<Value = Option<BTreeMap<RegionName, Standing>>> {
    let region = prop::sample::select(vec!["east", "west"]).prop_map(RegionName::from);
    let copy = (0_i64..3, prop::option::of(0_i64..3)).prop_map(|(end, left_at)| Standing {
        since_ms: 0,
        end,
        left_at,
    });
    prop::option::of(prop::collection::btree_map(region, copy, 0..3))
}

fn shared_topic(name: u128, id: u128, partitions: i32) -> Command {
    match tests::topic(&format!("t{name}"), id, partitions) {
        Command::CreateTopic(topic) => Command::CreateTopic(NewTopic {
            replication_factor: 2,
            ..topic
        }),
        other => other,
    }
}

fn command() -> impl Strategy<Value = Command> {
    let group = GroupName::default_group;
    prop_oneof![
        1 => Just(tests::bootstrap()),
        4 => (1_i32..5, region(), 1_u128..9).prop_map(|(id, region, incarnation)| Command::RegisterNode { node: tests::node(id, region, incarnation) }),
        4 => (1_u128..6, 1_u128..6, 0_i32..4).prop_map(|(name, id, partitions)| tests::topic(&format!("t{name}"), id, partitions)),
        2 => (1_u128..6).prop_map(|name| Command::DeleteTopic { name: format!("t{name}") }),
        2 => (1_u128..6, 0_i32..6).prop_map(|(name, total)| Command::CreatePartitions(MorePartitions { name: format!("t{name}"), total, copies: Vec::new() })),
        2 => (1_u128..6, config(), config()).prop_map(|(id, before, after)| Command::AlterTopicConfigs { topic_id: TopicId::from_u128(id), before, after }),
        2 => (1_i32..3, config(), config()).prop_map(|(id, before, after)| Command::AlterResourceConfigs { resource: Resource::Broker(NodeId(id)), before, after }),
        2 => Just(Command::AllocateProducerIds),
        4 => (region(), 1_u32..8, any::<bool>()).prop_map(|(to, epoch, lost)| tests::fence_at(to, epoch, lost)),
        3 => (1_u32..8, promoted()).prop_map(|(epoch, promoted)| tests::move_at(epoch, promoted)),
        2 => (1_u32..8).prop_map(move |epoch| Command::AbortMove { group: group(), epoch: RegionEpoch(epoch), reason: String::new(), fence_ms: 0, at_ms: 0 }),
        4 => (1_u128..6, 1_u128..6, 1_i32..4).prop_map(|(name, id, partitions)| shared_topic(name, id, partitions)),
        4 => node().prop_map(|(node, incarnation)| Command::FenceNode { node, incarnation }),
        4 => node().prop_map(|(node, incarnation)| Command::TakeOver { node, incarnation }),
        2 => node().prop_map(|(node, incarnation)| Command::UnfenceNode { node, incarnation }),
        2 => any::<bool>().prop_map(|unclean| Command::ElectLeaders { partitions: Vec::new(), unclean }),
        3 => (1_i32..5, region(), 1_u128..9, prop::collection::btree_set((1_i32..5).prop_map(NodeId), 0..4))
            .prop_map(|(id, region, incarnation, alive)| Command::StartNode { node: tests::node(id, region, incarnation), alive }),
        6 => (node(), isr_change()).prop_map(|((node, incarnation), change)| Command::AlterIsr { node, incarnation, changes: vec![change] }),
        2 => (partition(), prop::option::of(prop::collection::vec((1_i32..5).prop_map(NodeId), 0..4)))
            .prop_map(|(at, wanted)| Command::Reassign { changes: vec![(at, wanted)] }),
        3 => Just(tests::restore(3)),
        3 => (39_i64..41).prop_map(|end| tests::come_home(3, end)),
        1 => Just(tests::end_restore()),
        1 => Just(tests::abandon_restore(72)),
        1 => (1_u32..8).prop_map(move |epoch| Command::FinishMove { group: group(), epoch: RegionEpoch(epoch) }),
    ]
}

/// Every leader epoch by topic id and partition.
fn leader_epochs(view: &View) -> BTreeMap<(TopicId, usize), LeaderEpoch> {
    view.topics
        .values()
        .flat_map(|t| {
            t.partitions
                .iter()
                .enumerate()
                .map(|(i, p)| ((t.id, i), p.leader_epoch))
        })
        .collect()
}

/// Inside a home leadership goes only to a member of the ack set, and in a new epoch; what changed shows
/// in the partition's version.
fn check_elections(before: &View, after: &View, unclean: bool) {
    for topic in after.topics.values() {
        let home = |view: &View| view.groups.get(&topic.group).map(|g| g.home.clone());
        let Some(old) = before
            .topic_by_id(topic.id)
            .filter(|_| home(before) == home(after))
        else {
            continue;
        };
        for (was, now) in old.partitions.iter().zip(&topic.partitions) {
            if was.leader.is_some() && was.leader != now.leader {
                let leader = now.leader.expect("a partition once led stays led");
                assert!(now.leader_epoch > was.leader_epoch);
                assert!(
                    was.isr.contains(&leader) || now.isr.contains(&leader) && unclean,
                    "{leader} was not in the ack set {:?}",
                    was.isr
                );
            }
            let same =
                (was.leader, &was.isr, &was.replicas) == (now.leader, &now.isr, &now.replicas);
            assert!(same || was.version != now.version);
        }
    }
}

fn check_step(before: &State, after: &State, index: u64, applied: &Applied) {
    assert!(after.view.version >= before.view.version);
    assert_eq!(applied.version, after.view.version);
    if after.view != before.view {
        assert_eq!(
            after.view.version, index,
            "a changed view has a new version"
        );
    }
    let now = leader_epochs(&after.view);
    for (at, was) in leader_epochs(&before.view) {
        assert!(
            now.get(&at).is_none_or(|epoch| *epoch >= was),
            "a leader epoch went down"
        );
    }
    for (name, group) in &after.view.groups {
        assert!(after.view.regions.contains_key(&group.home));
        if let Some(was) = before.view.groups.get(name) {
            assert!(group.epoch >= was.epoch, "a region epoch went down");
            assert!(
                group.home == was.home || group.epoch > was.epoch,
                "a home changed within an epoch"
            );
            let moved = group.home != was.home;
            for topic in after.view.topics.values().filter(|_| moved) {
                for (index, p) in topic.partitions.iter().enumerate() {
                    let was = leader_epochs(&before.view).get(&(topic.id, index)).copied();
                    assert!(
                        was.is_none_or(|epoch| p.leader_epoch > epoch),
                        "a move opens new leader epochs"
                    );
                }
            }
        }
        for partition in after
            .view
            .topics
            .values()
            .filter(|t| &t.group == name)
            .flat_map(|t| &t.partitions)
        {
            let home = partition
                .replicas
                .get(&group.home)
                .cloned()
                .unwrap_or_default();
            assert!(
                partition.leader.is_none_or(|l| home.contains(&l)),
                "the leader is a replica of the home"
            );
            assert!(
                partition.isr.iter().all(|n| home.contains(n)),
                "the ack set is in the home"
            );
            assert!(
                partition.leader.is_none_or(|l| partition.isr.contains(&l)),
                "the leader is in its ack set"
            );
            let distinct: BTreeSet<_> = partition.isr.iter().collect();
            assert_eq!(distinct.len(), partition.isr.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_after_any_commands(commands in prop::collection::vec(command(), 1..60)) {
        let (mut state, mut twin) = (State::default(), State::default());
        state.apply(1, tests::bootstrap());
        twin.apply(1, tests::bootstrap());
        let (mut ids, mut topics) = (BTreeSet::new(), BTreeMap::new());
        // One watcher is sent every version, the other every third.
        let mut watched = [state.view.clone(), state.view.clone()];
        for (index, command) in (2_u64..).zip(commands) {
            let before = state.clone();
            let applied = state.apply(index, command.clone());
            check_step(&before, &state, index, &applied);
            let chosen = matches!(command, Command::ElectLeaders { unclean: true, .. });
            // A replica that completes a reassignment joins and leads in one step.
            let joined = matches!(command, Command::AlterIsr { .. } | Command::Reassign { .. });
            check_elections(&before.view, &state.view, chosen || joined);
            if before.view.version == state.view.version {
                prop_assert_eq!(&before.view, &state.view, "a view has one content");
            }
            for (view, every) in watched.iter_mut().zip([1, 3]) {
                if index % every == 0 && view.version != state.view.version {
                    let delta = Delta::between(view, &state.view);
                    let text = serde_json::to_vec(&delta).unwrap();
                    let read: Delta = serde_json::from_slice(&text).unwrap();
                    prop_assert_eq!(&read, &delta);
                    *view = read.apply(view).unwrap();
                    prop_assert_eq!(&*view, &state.view);
                }
            }
            // The log's form of the command does the same.
            let text = serde_json::to_string(&command).unwrap();
            prop_assert_eq!(&twin.apply(index, serde_json::from_str(&text).unwrap()), &applied);
            prop_assert_eq!(&twin, &state);
            if let Outcome::ProducerIds { first, len } = applied.outcome {
                for id in first..first + i64::from(len) {
                    prop_assert!(ids.insert(id), "a producer id was given twice");
                }
            }
            for topic in state.view.topics.values() {
                let name = topics.entry(topic.id).or_insert_with(|| topic.name.clone());
                prop_assert_eq!(&*name, &topic.name, "a topic id was given twice");
                prop_assert!(!state.deleted.contains(&topic.id));
            }
        }
        let text = serde_json::to_vec(&state).unwrap();
        prop_assert_eq!(serde_json::from_slice::<State>(&text).unwrap(), state);
    }
}
