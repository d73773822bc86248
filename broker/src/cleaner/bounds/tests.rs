use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use uuid::Uuid;
use whimbrel_fleet::{
    FailoverGroup, GroupName, NodeId, Partition as Placed, Position, RegionEpoch, Standing, Topic,
    TopicPartition, View,
};
use whimbrel_log::{AppendContext, Disk, DiskOptions, LogConfig};
use whimbrel_rpc::replica::Batches;
use whimbrel_wire::BatchBuilder;

use super::*;
use crate::{
    home::Home,
    partition::{AckSet, Feed, Now, Terms},
};

const END: i64 = 10;
/// Nobody was waited for as yet.
const AT_ONCE: Patience = Patience {
    boot_ns: 0,
    wall_ms: 0,
    most_ms: 100,
};

const AT_START: Now = Now {
    boot_ns: 0,
    wall_ms: 0,
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
    catalog_with(place, regions, BTreeMap::new())
}

/// With what the controller has recorded of copies that stand still.
fn catalog_with(
    place: &Place,
    regions: &[&str],
    standing: BTreeMap<RegionName, Standing>,
) -> Catalog {
    let group = FailoverGroup::new(GroupName::default_group(), "east".into());
    let replicas = (1..).map(|n| vec![NodeId(n)]);
    let placed = Placed {
        replicas: regions.iter().map(|r| (*r).into()).zip(replicas).collect(),
        standing,
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
    lead_knowing(place, &BTreeMap::new());
}

/// Leads with what an earlier leader said of other regions.
fn lead_knowing(place: &Place, standing: &BTreeMap<RegionName, Standing>) {
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
        .lead(terms, position, (acks, &none), None, AT_START, standing);
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
    let found = bounds(&catalog, &place.partition, AT_ONCE, false, 1);
    let by = found.by.map(|region| region.as_str().to_owned());
    (found.bounds.upto, by)
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
        bounds(&catalog, &place.partition, AT_ONCE, true, 1)
            .bounds
            .upto,
        3
    );
}

/// West's copy, as the controller has it.
fn west(end: i64, left_at: Option<i64>) -> BTreeMap<RegionName, Standing> {
    let standing = Standing {
        since_ms: -1_000_000,
        end,
        left_at,
    };
    BTreeMap::from([("west".into(), standing)])
}

fn patience(boot_ms: u64, wall_ms: i64) -> Patience {
    Patience {
        boot_ns: boot_ms * 1_000_000,
        wall_ms,
        most_ms: 100,
    }
}

#[test]
fn a_region_that_stands_still_is_left_behind_once_that_is_recorded() {
    let place = place();
    lead(&place);
    let (stream, region) = (Arc::new(()), "west".into());
    let regions = ["east", "west"];
    let nothing = catalog(&place, &regions);
    // The records were written at millisecond 1.
    let at = |catalog: &Catalog, boot_ms, wall_ms| {
        let patience = patience(boot_ms, wall_ms);
        let found = bounds(catalog, &place.partition, patience, false, 1);
        (found.bounds.upto, found.left, found.upto_without)
    };
    let hear = |end, boot_ms: u64| {
        let boot_ns = boot_ms * 1_000_000;
        place.partition.set_remote(&region, end, &stream, boot_ns);
    };
    let none = Vec::<RegionName>::new;
    assert_eq!(at(&nothing, 100, 9_000), (0, none(), 0), "not for long");
    hear(4, 90);
    assert_eq!(at(&nothing, 190, 9_000).0, 4, "it came forward");
    hear(4, 150);
    let new = (4, none(), 4);
    assert_eq!(at(&nothing, 191, 101), new, "what it lacks is new");
    let still = vec![region.clone()];
    assert_eq!(at(&nothing, 191, 102), (4, still.clone(), END));
    assert!(place.partition.pass_by(&region, END));
    assert!(!place.partition.pass_by(&region, END), "told once");
    assert_eq!(at(&nothing, 191, 102).0, 4, "not recorded yet");
    let now = Now {
        boot_ns: 191_000_000,
        wall_ms: 102,
    };
    let coarse = std::time::Duration::from_millis(1);
    let record = |known: &BTreeMap<RegionName, Standing>| {
        let regions = [region.clone()];
        place.partition.standing(known, regions.iter(), now, coarse)
    };
    let told = record(&BTreeMap::new()).unwrap();
    assert_eq!((told[&region].end, told[&region].left_at), (4, Some(END)));
    assert_eq!(record(&told), None, "nothing new");
    let recorded = catalog_with(&place, &regions, told.clone());
    assert_eq!(at(&recorded, 191, 102), (END, still, END));
    let comes = |end, empty| {
        let recorded = told[&region].left_at;
        place.partition.passed_by(&region, end, empty, recorded)
    };
    assert_eq!(comes(4, false), Some(END));
    assert_eq!(comes(0, true), None, "filled anew");
    assert_eq!(at(&recorded, 191, 102).0, 4, "waited for again");
    hear(END, 200);
    assert_eq!(at(&recorded, 1_000, 9_000).0, END);
    assert!(!place.partition.pass_by(&region, END), "it has everything");
    assert_eq!(record(&told), Some(BTreeMap::new()));
}

#[test]
fn a_copy_that_comes_before_it_is_recorded_to_be_left_behind_is_not() {
    let place = place();
    lead(&place);
    let region = "west".into();
    assert!(place.partition.pass_by(&region, END));
    assert_eq!(place.partition.passed_by(&region, 4, false, None), None);
    let later = place.partition.passed_by(&region, 4, false, Some(END));
    assert_eq!(later, None, "nothing was cleaned meanwhile");
}

#[test]
fn who_leads_next_knows_who_stands_still_and_who_was_left_behind() {
    let regions = ["east", "west"];
    let upto = |standing: BTreeMap<RegionName, Standing>, boot_ms| {
        let place = place();
        lead_knowing(&place, &standing);
        let catalog = catalog_with(&place, &regions, standing);
        let patience = Patience {
            most_ms: 700_000,
            ..patience(boot_ms, 900_000)
        };
        let found = bounds(&catalog, &place.partition, patience, false, 1);
        (found.bounds.upto, found.left.len())
    };
    let unheard = "it may come back now that there is a leader";
    assert_eq!(upto(west(4, None), 600_000), (0, 0), "{unheard}");
    assert_eq!(upto(west(4, None), 600_001), (0, 1));
    assert_eq!(upto(BTreeMap::new(), 600_001), (0, 0), "not for long");
    assert_eq!(upto(west(4, Some(7)), 1), (7, 0), "as far as that went");
    let place = place();
    let standing = west(4, Some(7));
    lead_knowing(&place, &standing);
    let region = "west".into();
    let comes = |end| place.partition.passed_by(&region, end, false, Some(7));
    assert_eq!((comes(4), comes(7)), (Some(7), None));
}
