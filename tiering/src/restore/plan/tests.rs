use proptest::prelude::*;
use whimbrel_fleet::{
    RegionEpoch, TopicId,
    cut::{Cut, End},
};

use super::*;
use crate::{
    meta::{self, Document, Fleet},
    restore::{Holds, Piece},
    root::Entry,
};

fn id(n: u128) -> TopicId {
    Uuid::from_u128(n)
}

fn at(topic: u128, partition: i32) -> TopicPartition {
    TopicPartition::new(id(topic), partition)
}

fn topic(n: u128, name: &str, epochs: &[i32]) -> meta::Topic {
    meta::Topic {
        name: name.into(),
        id: id(n),
        group: GroupName::default_group(),
        replication_factor: 3,
        leader_epochs: epochs.to_vec(),
        ..meta::Topic::default()
    }
}

fn document(view_version: u64, topics: Vec<meta::Topic>) -> Document {
    let group = meta::Group {
        name: GroupName::default_group(),
        home: "east".into(),
        epoch: RegionEpoch(3),
        ..meta::Group::default()
    };
    Document {
        sequence: view_version,
        view_version,
        fleet: Fleet {
            producer_ids: 5_000,
            groups: vec![group],
            topics,
            ..Fleet::default()
        },
        ..Document::default()
    }
}

fn extent(end: i64, epoch: i32) -> Extent {
    let entry = Entry {
        leader_epoch: epoch,
        random: u64::try_from(end).unwrap(),
        object_bytes: 1_100,
        data_bytes: 1_000,
        records: 1,
        ..Entry::sample(0, end)
    };
    Extent {
        shard: 0,
        topic: "x".into(),
        group: "default".into(),
        region_epoch: 4,
        log_start: 0,
        lineage: vec![whimbrel_fleet::EpochStart {
            epoch,
            start_offset: 0,
        }],
        pieces: vec![Piece {
            base: 0,
            end,
            holds: Holds::Slice(entry),
        }],
        end,
    }
}

fn cut(view_version: u64, ends: &[(TopicPartition, i32, i64)]) -> Chosen {
    let ends = ends.iter().map(|(at, epoch, offset)| {
        (
            *at,
            End {
                epoch: *epoch,
                offset: *offset,
            },
        )
    });
    let cut = Cut {
        group: GroupName::default_group(),
        region_epoch: RegionEpoch(2),
        view_version,
        taken_ms: 77,
        ends: ends.collect(),
    };
    Chosen {
        cut: Some(Picked { offset: 9, cut }),
        ..Chosen::default()
    }
}

fn plan(
    described: &Described,
    extents: &[(TopicPartition, Extent)],
    chosen: Chosen,
) -> Result<Plan, Refused> {
    let marker = Marker {
        format: 1,
        fleet_id: "f".into(),
        region: "east".into(),
        incarnation: Uuid::nil(),
        shards: 1,
        created_ms: 0,
    };
    Plan::new(&Findings {
        marker: &marker,
        asked_ms: None,
        described,
        extents: &extents.iter().cloned().collect(),
        chosen: &[(GroupName::default_group(), chosen)].into(),
        state: None,
        unread: &[],
        remarks: &[],
    })
}

#[test]
fn logs_end_at_the_cut_and_epochs_begin_above_all_that_were_found() {
    let mut described = Described::new(document(
        5,
        vec![topic(1, "a", &[7, 1]), topic(2, "b", &[0])],
    ));
    described.add(document(
        9,
        vec![topic(1, "a", &[9, 1]), topic(2, "b", &[0])],
    ));
    let extents = [(at(1, 0), extent(100, 8)), (at(1, 1), extent(50, 2))];
    let chosen = cut(5, &[(at(1, 0), 8, 60), (at(1, 1), 3, 50)]);
    let plan = plan(&described, &extents, chosen).unwrap();
    assert!(plan.whole, "{:?}", plan.missing);
    let [a, b] = &plan.topics[..] else {
        panic!("{:?}", plan.topics)
    };
    let ends: Vec<_> = a.partitions.iter().map(|p| (p.log_start, p.end)).collect();
    assert_eq!(ends, [(0, 60), (0, 50)]);
    let epochs: Vec<_> = a.partitions.iter().map(|p| p.leader_epoch).collect();
    let above = |found| Epochs {
        found,
        begins: found + 1_000,
    };
    assert_eq!(epochs, [above(9), above(3)]);
    // Not in the cut: it had no record.
    assert_eq!((b.partitions[0].log_start, b.partitions[0].end), (0, 0));
    assert_eq!(plan.groups[0].region_epoch, above(4));
    assert_eq!(
        plan.producer_ids,
        Epochs {
            found: 5_000,
            begins: 1_005_000
        }
    );
    assert_eq!((plan.totals.objects, plan.totals.object_bytes), (2, 2_200));
    assert_eq!((plan.totals.offsets, plan.totals.bytes), (110, 2_000));
    assert_eq!(plan.hash.len(), 16);
}

#[test]
fn a_topic_that_was_made_between_description_and_cut_is_taken_from_a_later_one() {
    let mut described = Described::new(document(5, vec![topic(1, "a", &[0])]));
    described.add(document(
        8,
        vec![topic(1, "a", &[0, 0]), topic(2, "b", &[4])],
    ));
    let extents = [(at(2, 0), extent(10, 4)), (at(1, 1), extent(10, 0))];
    let chosen = cut(7, &[(at(2, 0), 4, 10), (at(1, 1), 0, 10)]);
    let plan = plan(&described, &extents, chosen).unwrap();
    assert!(plan.whole, "{:?}", plan.missing);
    let found: Vec<_> = plan
        .topics
        .iter()
        .map(|t| (&*t.name, t.partitions.len()))
        .collect();
    assert_eq!(found, [("a", 2), ("b", 1)]);
}

#[test]
fn of_two_topics_with_one_name_the_cuts_comes_back() {
    let mut described = Described::new(document(5, vec![topic(1, "a", &[0])]));
    let mut later = document(8, vec![topic(2, "a", &[4])]);
    later.fleet.deleted = vec![id(1)];
    described.add(later);
    let new = cut(7, &[(at(2, 0), 4, 10)]);
    let extents = [(at(2, 0), extent(10, 4)), (at(1, 0), extent(10, 0))];
    let first = plan(&described, &extents, new).unwrap();
    assert_eq!(
        first.topics.iter().map(|t| t.id).collect::<Vec<_>>(),
        [id(2)]
    );
    // Deleted since the cut: what is left of it comes back, and nobody else's name is taken.
    let old = cut(4, &[(at(1, 0), 0, 20)]);
    let second = plan(&described, &extents, old).unwrap();
    assert_eq!(
        second.topics.iter().map(|t| t.id).collect::<Vec<_>>(),
        [id(1)]
    );
    let missing = &second.missing[0];
    assert_eq!((missing.from_offset, missing.to_offset), (10, 20));
}

#[test]
fn what_nothing_describes_or_names_is_told() {
    let described = Described::new(document(5, vec![topic(1, "a", &[0])]));
    let extents = [(at(3, 0), extent(10, 0))];
    let chosen = cut(6, &[(at(1, 0), 0, 5), (at(2, 0), 0, 7)]);
    let one = plan(&described, &extents, chosen).unwrap();
    assert!(!one.whole);
    let mut told: Vec<_> = one.missing.iter().map(|m| (m.code, m.to_offset)).collect();
    told.sort_unstable();
    // What is not in the cut came later.
    assert_eq!(told, [("WB-316", 5), ("WB-331", 7)]);
    let uncut = plan(&described, &extents, Chosen::default()).unwrap();
    let told: Vec<_> = uncut
        .missing
        .iter()
        .map(|m| (m.code, m.to_offset))
        .collect();
    assert_eq!(told, [("WB-331", 10)]);
    // A cut of a view that the description had: the topic was deleted.
    let chosen = cut(5, &[(at(2, 0), 0, 7)]);
    assert!(plan(&described, &[], chosen).unwrap().whole);
}

#[test]
fn numbers_that_cannot_be_are_refused_or_told() {
    let described = Described::new(document(5, vec![topic(1, "a", &[0])]));
    let chosen = cut(6, &[(at(1, i32::MAX), 0, 5)]);
    let told = plan(&described, &[], chosen).unwrap();
    assert_eq!((told.whole, told.topics[0].partitions.len()), (false, 1));
    for epochs in [vec![i32::MAX], vec![i32::MAX - 999]] {
        let described = Described::new(document(5, vec![topic(1, "a", &epochs)]));
        let refused = plan(&described, &[], Chosen::default()).unwrap_err();
        assert_eq!(refused.code(), "WB-334");
    }
    let mut spent = document(5, Vec::new());
    spent.fleet.producer_ids = i64::MAX;
    assert!(plan(&Described::new(spent), &[], Chosen::default()).is_err());
}

#[test]
fn without_a_cut_logs_end_where_the_bucket_does() {
    let described = Described::new(document(5, vec![topic(1, "a", &[0])]));
    let mut extents = [(at(1, 0), extent(33, 0))];
    let whole = plan(&described, &extents, Chosen::default()).unwrap();
    assert_eq!((whole.whole, whole.topics[0].partitions[0].end), (true, 33));
    // What the root names and nobody has is missing, also at the end.
    extents[0].1.pieces[0].holds = Holds::Lost("gone".into());
    let lost = plan(&described, &extents, Chosen::default()).unwrap();
    assert_eq!((lost.whole, lost.missing[0].to_offset), (false, 33));
}

proptest! {
    #[test]
    fn whatever_a_bucket_says_every_new_epoch_is_above_and_every_end_is_the_cuts(
        described in proptest::collection::vec((0..6_u128, proptest::collection::vec(-1..2_000_000_000, 0..4)), 0..6),
        later in proptest::collection::vec((0..6_u128, proptest::collection::vec(-1..2_000_000_000, 0..4)), 0..6),
        ends in proptest::collection::btree_map((0..7_u128, any::<i32>()), (-1..2_000_000_000, 0..i64::MAX), 0..6),
        held in proptest::collection::btree_map((0..7_u128, 0..4_i32), (1..100_i64, 0..2_000_000_000), 0..6),
        versions in (0..5_u64, 0..5_u64, 0..5_u64),
    ) {
        let topics = |all: &[(u128, Vec<i32>)]| {
            let by_name: BTreeMap<_, _> = all.iter().map(|(n, e)| (*n, e)).collect();
            by_name.iter().map(|(n, e)| topic(*n, &format!("t{n}"), e)).collect()
        };
        let mut fleet = Described::new(document(versions.0, topics(&described)));
        fleet.add(document(versions.1, topics(&later)));
        let extents: Vec<_> = held
            .iter()
            .map(|((t, p), (end, epoch))| (at(*t, *p), extent(*end, *epoch)))
            .collect();
        let ends: Vec<_> = ends.iter().map(|((t, p), (e, o))| (at(*t, *p), *e, *o)).collect();
        let Ok(plan) = plan(&fleet, &extents, cut(versions.2, &ends)) else {
            return Ok(());
        };
        for topic in &plan.topics {
            prop_assert!(topic.partitions.len() <= fleet.partitions(topic.id));
            for p in &topic.partitions {
                let here = TopicPartition::new(topic.id, p.partition);
                let begins = p.leader_epoch.begins;
                prop_assert!(begins > fleet.leader_epoch(here).into());
                for (_, epoch, _) in ends.iter().filter(|(at, ..)| *at == here) {
                    prop_assert!(begins > i64::from(*epoch));
                }
                for (_, extent) in extents.iter().filter(|(at, _)| *at == here) {
                    prop_assert!(begins > extent.last_epoch().into());
                }
                let named = ends.iter().find(|(at, ..)| *at == here);
                prop_assert_eq!(p.end, named.map_or(0, |(_, _, offset)| *offset));
            }
        }
        prop_assert_eq!(plan.whole, plan.missing.is_empty());
    }
}
