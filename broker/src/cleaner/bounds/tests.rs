use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use uuid::Uuid;
use whimbrel_fleet::{
    FailoverGroup, GroupName, NodeId, Partition as Placed, Position, RegionEpoch, Topic,
    TopicPartition, View,
};
use whimbrel_log::{AppendContext, Disk, DiskOptions, LogConfig};
use whimbrel_rpc::replica::Batches;
use whimbrel_wire::BatchBuilder;

use super::*;
use crate::{
    home::Home,
    partition::{AckSet, Feed, Terms},
};

const END: i64 = 10;
/// Nobody was waited for as yet.
const AT_ONCE: Patience = Patience {
    boot_ns: 0,
    wall_ms: 0,
    most_ms: 100,
};

struct Place {
    _dir: tempfile::TempDir,
    _disk: Arc<Disk>,
    partition: Arc<Partition>,
}

/// A log of ten records, all visible.
fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let options = DiskOptions {
        root: dir.path().to_owned(),
        cluster_id: "fleet".to_owned(),
        node_id: 1,
    };
    let (disk, _) = Disk::open(options, 1).unwrap();
    let log = disk
        .create("t", Uuid::from_u128(1), 0, LogConfig::default())
        .unwrap();
    for _ in 0..END {
        let mut builder = BatchBuilder::new(0);
        builder.add(1, Some(b"k"), Some(b"v"), &[]).unwrap();
        let context = AppendContext::new(0, 1);
        log.append(builder.finish().unwrap(), context).unwrap();
    }
    disk.sync().unwrap();
    log.set_high_watermark(END);
    let partition = Partition::new(log, Home::new(GroupName::default_group()), 0);
    Place {
        _dir: dir,
        _disk: disk,
        partition,
    }
}

/// East is home; every named region has a copy.
fn catalog(place: &Place, regions: &[&str]) -> Catalog {
    let group = FailoverGroup::new(GroupName::default_group(), "east".into());
    let replicas = (1..).map(|n| vec![NodeId(n)]);
    let placed = Placed {
        replicas: regions.iter().map(|r| (*r).into()).zip(replicas).collect(),
        ..Placed::default()
    };
    let topic = Topic {
        name: "t".to_owned(),
        id: place.partition.at.topic_id,
        group: group.name.clone(),
        partitions: vec![placed],
        configs: BTreeMap::new(),
        replication_factor: 1,
        internal: false,
    };
    let view = View {
        groups: BTreeMap::from([(group.name.clone(), group)]),
        topics: BTreeMap::from([(topic.name.clone(), topic)]),
        ..View::default()
    };
    let local = HashMap::from([(place.partition.at, Arc::clone(&place.partition))]);
    Catalog::new(Arc::new(view), local)
}

fn lead(place: &Place) {
    let terms = Terms {
        leader_epoch: 1,
        region_epoch: RegionEpoch(1),
        epoch_start: END,
        open: true,
    };
    let acks = AckSet {
        isr: BTreeSet::from([NodeId(1)]),
        candidates: BTreeSet::from([NodeId(1)]),
        version: 1,
        min: 1,
    };
    let none = BTreeSet::new();
    let position = Position {
        records: 0,
        bytes: 0,
    };
    place
        .partition
        .lead(terms, position, (acks, &none), None, 0);
}

fn follow(place: &Place, feed: Feed) {
    place.partition.follow(RegionEpoch(1), feed, 0);
}

fn told(at: TopicPartition, held_end: i64) -> Batches {
    Batches {
        at,
        region_epoch: RegionEpoch(1),
        leader_epoch: 1,
        log_start: 0,
        log_end: END,
        log_bytes: 100,
        high_watermark: END,
        last_stable_offset: END,
        held_end,
        source_clock_ms: 1,
        next_append_time_ms: -1,
        records: Bytes::new(),
    }
}

/// The bound and the region that is named for it.
fn found(place: &Place, regions: &[&str]) -> (i64, Option<String>) {
    let catalog = catalog(place, regions);
    let (bounds, by, _) = bounds(&catalog, &place.partition, AT_ONCE, false, 1);
    (bounds.upto, by.map(|region| region.as_str().to_owned()))
}

#[test]
fn a_leader_without_copies_elsewhere_is_bound_by_what_is_visible_alone() {
    let place = place();
    lead(&place);
    assert_eq!(found(&place, &["east"]), (END, None));
}

#[test]
fn a_leader_is_bound_by_the_slowest_region_and_by_a_silent_one_wholly() {
    let place = place();
    lead(&place);
    let stream = Arc::new(());
    place.partition.set_remote(&"west".into(), 7, &stream, 0);
    let all = ["east", "south", "west"];
    assert_eq!(found(&place, &all), (0, Some("south".to_owned())));
    place.partition.set_remote(&"south".into(), 4, &stream, 0);
    assert_eq!(found(&place, &all), (4, Some("south".to_owned())));
    place.partition.set_remote(&"south".into(), END, &stream, 0);
    assert_eq!(found(&place, &all), (7, Some("west".to_owned())));
    place.partition.set_remote(&"west".into(), END, &stream, 0);
    assert_eq!(found(&place, &all), (END, None), "nobody holds it up");
}

#[test]
fn who_follows_is_bound_by_what_the_leader_said_in_the_home_as_elsewhere() {
    for feed in [Feed::Node(NodeId(2)), Feed::Home] {
        let place = place();
        follow(&place, feed);
        let two = ["east", "west"];
        let west = || Some("west".to_owned());
        assert_eq!(found(&place, &two), (0, west()), "nothing was said yet");
        let at = place.partition.at;
        place.partition.following.frame(&told(at, 6), 1);
        assert_eq!(found(&place, &two), (6, west()));
        let several = ["east", "south", "west"];
        assert_eq!(found(&place, &several), (6, None), "one of the two");
        place.partition.following.frame(&told(at, i64::MAX), 2);
        assert_eq!(found(&place, &["east"]), (END, None));
        follow(&place, feed);
        assert_eq!(found(&place, &two), (0, west()), "said by another leader");
    }
}

#[test]
fn what_is_not_in_the_bucket_and_what_is_led_by_nobody_stays() {
    let place = place();
    assert_eq!(found(&place, &["east"]), (0, None), "no role");
    lead(&place);
    place.partition.set_tiered_end(3);
    let catalog = catalog(&place, &["east"]);
    assert_eq!(
        bounds(&catalog, &place.partition, AT_ONCE, true, 1).0.upto,
        3
    );
}

#[test]
fn a_region_that_stands_still_is_left_behind_until_its_copy_is_empty_or_has_it_all() {
    let place = place();
    lead(&place);
    let (stream, west) = (Arc::new(()), "west".into());
    let catalog = catalog(&place, &["east", "west"]);
    // The records were written at millisecond 1.
    let at = |boot_ms: u64, wall_ms| {
        let patience = Patience {
            boot_ns: boot_ms * 1_000_000,
            wall_ms,
            most_ms: 100,
        };
        let (bounds, by, left) = bounds(&catalog, &place.partition, patience, false, 1);
        (bounds.upto, by, left)
    };
    let hear = |end, boot_ms: u64| {
        let boot_ns = boot_ms * 1_000_000;
        place.partition.set_remote(&west, end, &stream, boot_ns);
    };
    let silent = (0, Some("west".into()), vec![]);
    assert_eq!(at(100, 9_000), silent, "silent, not for long");
    hear(4, 90);
    assert_eq!(at(190, 9_000).0, 4, "it came forward");
    hear(4, 150);
    assert_eq!(at(191, 101).0, 4, "what it lacks is new");
    let left = (END, None, vec!["west".into()]);
    assert_eq!(
        at(191, 102),
        left,
        "it says no more than that it stands still"
    );
    assert_eq!(
        place.partition.passed_by(&west, 4, false),
        None,
        "nothing was cleaned as yet"
    );
    assert!(place.partition.pass_by(&west, END));
    assert!(!place.partition.pass_by(&west, END), "told once");
    assert_eq!(place.partition.passed_by(&west, 4, false), Some(END));
    assert_eq!(
        place.partition.passed_by(&west, 0, true),
        None,
        "filled anew"
    );
    hear(END, 200);
    assert_eq!(at(1_000, 9_000).0, END);
    assert!(!place.partition.pass_by(&west, END), "it has everything");
}
