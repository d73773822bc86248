//! The flow between model sources and a model sink, under any schedule of cuts.

mod world;

use proptest::prelude::*;
use whimbrel_fleet::RegionEpoch;
use whimbrel_rpc::replica::{Batches, RefuseReason, StopReason};

use super::*;
use crate::replica::anomaly::AnomalyKind;
use world::{Log, SINK, SOURCES, Step, World, at, batch, logs, step, view};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_is_cut_the_copy_becomes_equal_and_no_credit_is_exceeded(
        logs in prop::collection::vec(logs(), 1..4),
        steps in prop::collection::vec(step(), 0..300),
    ) {
        let (home, copies): (Vec<_>, Vec<_>) = logs.into_iter().unzip();
        let mut world = World::new(home, copies);
        for step in steps {
            world.step(step);
        }
        world.settle();
        prop_assert_eq!(&world.sink, &world.home);
        let states: Vec<_> = world.flow.status(world.now_ms).into_iter().map(|p| (p.state, p.lag_records)).collect();
        prop_assert!(states.iter().all(|s| *s == ("streaming", 0)), "{:?}", states);
    }
}

fn full(batches: usize) -> Log {
    let mut log = Log::default();
    for _ in 0..batches {
        let next = batch(log.lineage.end_offset, 3, 1);
        log.append(&next).unwrap();
    }
    log
}

#[test]
fn nothing_flows_in_where_this_region_is_home() {
    let mut world = World::new(vec![full(3)], vec![Log::default()]);
    let home = view(2, &[SINK], "west", 2);
    world.event(Event::View(&home));
    world.settle();
    assert_eq!(world.sink[0], Log::default());
    assert!(world.streams.is_empty());
    let away = view(3, &world.leaders.clone(), "east", 3);
    world.event(Event::View(&away));
    world.settle();
    assert_eq!(world.sink[0], world.home[0]);
}

/// The home is lost, and what a bucket has of it is served at `address`, if anywhere.
fn stored(version: u64, address: Option<&str>) -> View {
    let mut view = view(version, &[SOURCES[0], SOURCES[1]], "east", 1);
    for node in SOURCES {
        view.nodes.remove(&node);
    }
    let restore = |address: &str| whimbrel_fleet::Restore {
        job: "j".into(),
        region: "east".into(),
        hash: "h".into(),
        at_ms: 1,
        address: address.into(),
    };
    view.restore = address.map(restore);
    view
}

#[test]
fn a_lost_home_is_followed_in_its_bucket_wherever_that_is_served_and_as_long_as_the_restore_stands()
{
    let mut world = World::new(vec![full(6), full(6)], vec![Log::default(), Log::default()]);
    world.leaders = vec![BUCKET; 2];
    world.event(Event::View(&stored(2, None)));
    world.settle();
    let states = |world: &World| {
        let all = world.flow.status(world.now_ms).into_iter();
        all.map(|p| p.state).collect::<Vec<_>>()
    };
    assert_eq!(states(&world), ["leaderless"; 2]);
    world.event(Event::View(&stored(3, Some("127.0.0.1:1"))));
    assert_eq!(world.streams.keys().collect::<Vec<_>>(), [&BUCKET]);
    let some = |world: &mut World, rounds: usize| {
        for _ in 0..rounds {
            world.connect();
            world.serve(BUCKET);
            world.deliver(BUCKET);
            world.sink_works();
            world.sink_answers();
        }
    };
    some(&mut world, 12);
    let before = world.sink.clone();
    assert!(before != world.home && before.iter().any(|log| !log.batches.is_empty()));
    // Another process has taken over; the same view again changes nothing.
    world.event(Event::View(&stored(4, Some("127.0.0.1:2"))));
    assert!(world.streams[&BUCKET].is_none(), "the old stream goes on");
    some(&mut world, 4);
    world.event(Event::View(&stored(5, Some("127.0.0.1:2"))));
    assert!(world.streams[&BUCKET].is_some());
    some(&mut world, 60);
    assert_eq!(world.sink, world.home);
    assert_eq!(states(&world), ["streaming"; 2]);
    world.event(Event::View(&stored(6, None)));
    assert!(world.streams.is_empty());
    assert_eq!(states(&world), ["leaderless"; 2]);
}

#[test]
fn a_restore_of_another_region_or_inside_one_changes_no_source() {
    let mut other = stored(2, Some("127.0.0.1:1"));
    other.restore.as_mut().unwrap().region = "north".into();
    let restored = stored(2, Some("127.0.0.1:1"));
    let leader = |view: &View, scope| {
        let places = Places::of(view, &"west".into(), scope);
        places.get(at(0)).and_then(|place| place.leader)
    };
    assert_eq!(leader(&other, Scope::Between), None);
    assert_eq!(leader(&restored, Scope::Between), Some(BUCKET));
    // The region's other copies come from its head.
    let mut wide = restored.clone();
    for topic in wide.topics.values_mut() {
        for partition in &mut topic.partitions {
            partition
                .replicas
                .insert("west".into(), vec![SINK, NodeId(11)]);
        }
    }
    assert_eq!(leader(&wide, Scope::Within(NodeId(11))), Some(SINK));
    let address = |view: &View, node| {
        let found = crate::replica::places::address(view, node);
        found.map(|address| address.to_string())
    };
    assert_eq!(address(&restored, BUCKET).as_deref(), Some("127.0.0.1:1"));
    assert_eq!(address(&stored(2, None), BUCKET), None);
    assert_eq!(address(&stored(2, Some("nowhere")), BUCKET), None);
    assert!(address(&restored, SINK).is_some());
}

/// Two partitions; the source stops the first, of which the copy has three records, and goes on with the second.
fn stopped(reason: StopReason) -> World {
    let mut copy = Log::default();
    copy.append(&batch(0, 3, 1)).unwrap();
    let mut world = World::new(vec![full(3), full(3)], vec![copy, Log::default()]);
    world.step(Step::Connect);
    for _ in 0..2 {
        world.step(Step::SinkAnswers);
    }
    world.step(Step::Connect);
    let stopped = FromSource::Stopped { at: at(0), reason };
    world.event(Event::FromSource(SOURCES[0], stopped));
    world.settle();
    world
}

#[test]
fn a_trimmed_partition_is_stopped_with_its_range_and_the_others_go_on() {
    let world = stopped(StopReason::Trimmed { log_start: 7 });
    let status = world.flow.status(world.now_ms);
    let anomaly = status[0].anomaly.unwrap();
    assert_eq!(
        (anomaly.kind, anomaly.from, anomaly.to),
        (AnomalyKind::Trimmed, 3, 7)
    );
    assert_eq!(status[1].state, "streaming");
    assert_eq!(world.sink[1], world.home[1]);
}

#[test]
fn a_partition_that_compaction_overtook_is_stopped_with_its_range() {
    let world = stopped(StopReason::Cleaned { upto: 9 });
    let status = world.flow.status(world.now_ms);
    let anomaly = status[0].anomaly.unwrap();
    assert_eq!(
        (anomaly.kind, anomaly.from, anomaly.to),
        (AnomalyKind::Overtaken, 3, 9)
    );
    assert_eq!(anomaly.code, "WB-206");
    assert_eq!(status[1].state, "streaming");
}

/// A stream that has brought some frames, which the sink has not looked at yet.
fn under_way() -> World {
    let mut world = World::new(vec![full(5)], vec![Log::default()]);
    world.step(Step::Connect);
    for _ in 0..2 {
        world.step(Step::SinkAnswers);
    }
    world.step(Step::Connect);
    for _ in 0..4 {
        world.step(Step::Serve(0));
        world.step(Step::Deliver(0));
    }
    assert!(!world.to_sink.is_empty());
    world
}

#[test]
fn a_fenced_partition_waits_for_the_view_or_a_while_and_goes_on_from_where_the_sink_stands() {
    for view_changes in [true, false] {
        let mut world = under_way();
        world.to_sink.clear();
        let reason = RefuseReason::Fenced;
        world.event(Event::FromSink(FromSink::Refused { at: at(0), reason }));
        assert_eq!(world.flow.status(0)[0].state, "fenced");
        assert_eq!(world.sink[0], Log::default());
        if view_changes {
            let next = view(2, &world.leaders.clone(), "east", 2);
            world.event(Event::View(&next));
        }
        world.settle();
        assert_eq!(world.sink[0], world.home[0]);
    }
}

#[test]
fn frames_of_a_new_region_epoch_never_close_over_refused_ones_of_the_old() {
    let mut world = under_way();
    // The sink refuses these without a word having come back yet.
    world.to_sink.clear();
    let next = Batches {
        region_epoch: RegionEpoch(2),
        records: batch(15, 1, 1),
        ..world.frame(at(0))
    };
    world.event(Event::FromSource(SOURCES[0], FromSource::Batches(next)));
    assert!(world.to_sink.is_empty());
    world.settle();
    assert_eq!(world.sink[0], world.home[0]);
}

#[test]
fn what_was_under_way_to_a_partition_that_moved_away_is_not_waited_for() {
    let mut world = under_way();
    assert!(world.flow.credit.unsynced() > 0);
    let home = view(2, &[SINK], "west", 2);
    world.event(Event::View(&home));
    assert_eq!(world.flow.credit.unsynced(), 0);

    let mut world = under_way();
    world.event(Event::FromSink(FromSink::Gone(vec![at(0)])));
    assert_eq!(world.flow.credit.unsynced(), 0);
}

#[test]
fn an_orphan_tail_that_cannot_be_stored_is_kept_and_asked_for_again() {
    let mut copy = full(1);
    copy.append(&batch(3, 2, 2)).unwrap();
    let mut world = World::new(vec![full(3)], vec![copy.clone()]);
    for _ in 0..3 {
        world.connect();
        world.sink_answers();
        world.serve(SOURCES[0]);
        world.serve(SOURCES[0]);
        world.deliver(SOURCES[0]);
    }
    assert!(matches!(
        world.to_sink.pop_front(),
        Some(ToSink::Truncate {
            epoch: 1,
            offset: 3,
            ..
        })
    ));
    let refused = FromSink::Refused {
        at: at(0),
        reason: RefuseReason::OrphanNotStored,
    };
    world.event(Event::FromSink(refused));
    assert_eq!(world.flow.status(0)[0].state, "truncating");
    assert_eq!(world.sink[0], copy);
    world.settle();
    assert_eq!(world.sink[0], world.home[0]);
}

#[test]
fn lag_keeps_rising_while_everything_is_down() {
    let mut world = World::new(vec![full(2)], vec![Log::default()]);
    world.settle();
    world.step(Step::CutSource(0));
    world.step(Step::CutSink);
    let now_ms = world.now_ms;
    let behind = |ms| world.flow.status(ms)[0].behind_ms;
    assert_eq!(behind(now_ms + 60_000), behind(now_ms) + 60_000);
}
