//! A daemon whose every timer is as short as it can be, and files that go before it opens them.

use std::fs;

use serde_json::Value;
use whimbrel_runtime::unit::Span;

use crate::{
    broker::FakeBroker,
    daemon::post,
    support::{Log, until},
    usage,
    verify::{status, verify},
    world::World,
};

const SEGMENT: [(usize, usize); 2] = [(4, 300), (6, 2_000)];

fn log(world: &World, partition: i32, segments: usize) -> Log {
    Log::write(
        &world.path("data"),
        partition,
        &vec![SEGMENT.to_vec(); segments],
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_every_timer_at_its_shortest_the_bucket_is_what_the_logs_are() {
    let world = World::new();
    let broker = FakeBroker::default();
    let mut running = world
        .start_with(&broker, |options| {
            let tiny = Span::millis(5);
            options.retention_interval = tiny;
            options.verify_interval = tiny;
            options.meta_interval = tiny;
            options.compaction_interval = tiny;
            options.compaction_every = tiny;
            options.delete_grace = tiny;
        })
        .await;
    for segments in 1..12 {
        broker.replace((0..3).map(|p| log(&world, p, segments)).collect());
        until("uploaded", || broker.is_all_verified()).await;
        let whole = log(&world, 0, segments);
        // Two of the three lose what is old meanwhile, at a segment's end and inside one.
        if segments > 3 {
            let old = whole.segments[segments - 3].0;
            broker.set_log_start(1, old);
            broker.set_log_start(2, old + 2);
        }
        assert!(running.read_all(&whole, 0, 1 << 20).await == whole.bytes_from(0));
        let last = whole.segments[segments - 1].0;
        for partition in [1, 2] {
            let log = log(&world, partition, segments);
            assert!(running.read_all(&log, last, 1 << 20).await == log.bytes_from(last));
        }
    }
    // One that began by itself may be under way.
    let mut report = String::new();
    while !report.contains("\r\n\r\n{") {
        report = post(running.handle.admin, "/verify?bytes=true").await;
    }
    let body = report.split_once("\r\n\r\n").unwrap().1;
    let told: Value = serde_json::from_str(body).unwrap();
    assert_eq!(told["ok"], true, "{report}");
    let told = status(&running).await;
    assert_eq!(told["damaged"].as_array().unwrap().len(), 0, "{told}");
    running.stop().await;
    let strays = usage::strays(&world.path("bucket"));
    assert!(strays.is_empty(), "{strays:?}");
}

/// As bytes, and as files: the broker may free what lies below the end that it is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_goes_up_before_a_slice_of_its_partition_that_was_refused() {
    for inline in [true, false] {
        let world = World::new();
        let (mut bent, well) = (log(&world, 0, 3), log(&world, 1, 3));
        bent.segments[0].3[90] ^= 1;
        fs::write(&bent.segments[0].2, &bent.segments[0].3).unwrap();
        let (end, broker) = (well.end(), FakeBroker::new(vec![bent, well]));
        if inline {
            broker.inline();
        }
        let running = world.start(&broker).await;
        until("the other partition", || broker.verified(1) == end).await;
        let told = status(&running).await;
        assert_eq!(told["refused"].as_array().unwrap().len(), 1, "{told}");
        assert_eq!(broker.verified(0), 0);
        broker.replace(vec![log(&world, 0, 3), log(&world, 1, 3)]);
        until("uploaded", || broker.is_all_verified()).await;
        assert_eq!(verify(&running, "bytes=true").await["ok"], true);
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_that_goes_before_it_is_opened_waits_for_its_next_offer() {
    let world = World::new();
    let (gone, well) = (log(&world, 0, 2), log(&world, 1, 2));
    let path = gone.segments[0].2.clone();
    let away = path.with_extension("away");
    fs::rename(&path, &away).unwrap();
    let (end, broker) = (well.end(), FakeBroker::new(vec![gone, well]));
    let running = world.start(&broker).await;
    until("the other partition", || broker.verified(1) == end).await;
    assert_eq!(broker.verified(0), 0);
    fs::rename(&away, &path).unwrap();
    until("uploaded", || broker.is_all_verified()).await;
    assert_eq!(verify(&running, "bytes=true").await["ok"], true);
    running.stop().await;
}
