//! Lookups by time after what is oldest was trimmed, and after older entries were given to a part of the root.

use std::fs;

use whimbrel_rpc::proto::node;
use whimbrel_runtime::unit::Span;
use whimbrel_tiering::{
    format::{Keys, shard_of},
    root::Root,
};

use crate::{
    broker::FakeBroker,
    support::{Log, at, until},
    verify::status,
    world::{Running, World},
};

const SEGMENTS: usize = 24;

/// Ten records a segment, in two batches, a record a millisecond from 1,000 on.
fn log(world: &World) -> Log {
    let segment = vec![(4, 50), (6, 80)];
    let epochs = std::iter::repeat_n((1, &segment), SEGMENTS);
    Log::of_epochs(&world.path("data"), 0, epochs)
}

async fn start(world: &World, broker: &FakeBroker) -> Running {
    world
        .start_with(broker, |options| {
            options.retention_interval = Span::millis(10);
            options.delete_grace = Span::millis(1);
        })
        .await
}

/// Each instant has the record that was written then, or the first that is left.
async fn check(running: &mut Running, start: i64, end: i64) {
    for time in (990..1_000 + end + 3).step_by(3) {
        let request = node::TimestampRequest {
            at: Some(at(0).into()),
            timestamp_ms: time,
        };
        let reply = running.client.offset_for_timestamp(request).await;
        let reply = reply.unwrap().into_inner();
        let expected = Some((time - 1_000).max(start)).filter(|offset| *offset < end);
        let found = reply.found.then_some(reply.offset);
        assert_eq!(found, expected, "{time}, begins at {start}");
        if let Some(offset) = found {
            assert_eq!(
                (reply.timestamp_ms, reply.leader_epoch),
                (1_000 + offset, 1)
            );
        }
    }
}

/// The log begins there from now on, and the bucket follows.
async fn trim(running: &mut Running, broker: &FakeBroker, offset: i64) {
    broker.set_log_start(0, offset);
    for _ in 0..3_000 {
        if status(running).await["partitions"][0]["log_start"] == offset {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the bucket does not begin at {offset}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lookup_by_time_finds_the_first_that_is_left_after_a_trim_and_in_parts_of_a_root() {
    let world = World::new();
    let broker = FakeBroker::new(vec![log(&world)]);
    let end = log(&world).end();
    let mut running = start(&world, &broker).await;
    until("uploaded", || broker.is_all_verified()).await;
    check(&mut running, 0, end).await;
    // Between segments, at a batch in one, and inside a batch.
    for offset in [20, 34, 47] {
        trim(&mut running, &broker, offset).await;
        check(&mut running, offset, end).await;
    }
    running.stop().await;

    let keys = Keys::new("east");
    let file = world
        .path("bucket")
        .join(keys.root(shard_of(at(0), 16)).as_str());
    let mut root = Root::decode(&fs::read(&file).unwrap()).unwrap();
    let spilled = root.spill(root.stamp.epoch, 7).unwrap();
    let part = world
        .path("bucket")
        .join(keys.root_part(&spilled.name).as_str());
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(part, &spilled.bytes).unwrap();
    fs::write(&file, root.encode()).unwrap();
    let runs = root.partitions[&at(0)].runs.len();
    assert!(runs > 0 && !root.partitions[&at(0)].entries.is_empty());

    let mut running = start(&world, &broker).await;
    check(&mut running, 47, end).await;
    // In the part, and behind all that it holds.
    let in_root = root.partitions[&at(0)].entries[0].base;
    for offset in [52, in_root - 5, in_root + 13] {
        trim(&mut running, &broker, offset).await;
        check(&mut running, offset, end).await;
    }
    running.stop().await;
}
