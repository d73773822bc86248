//! A root that is made again from one that was kept before compaction replaced what it names.

use std::fs;

use serde_json::Value;
use whimbrel_runtime::unit::Span;
use whimbrel_tiering::{
    format::{Keys, shard_of},
    root::Root,
};

use super::sample;
use crate::{
    rebuild::rebuild,
    support::{at, until},
    verify::verify,
    world::World,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_compaction_left_is_named_again_instead_of_what_it_deleted() {
    let world = World::new();
    let (_, _, broker) = sample(&world.path("data"));
    let running = world
        .start_with(&broker, |options| {
            options.compaction_interval = Span::millis(0)
        })
        .await;
    until("uploaded", || broker.verified(0) == 40).await;
    running.stop().await;
    let shard = shard_of(at(0), 16);
    let file = world.path(&format!("bucket/v1/east/root/{shard}"));
    let root = || Root::decode(&fs::read(&file).unwrap()).unwrap();
    let stamp = root().stamp;
    let kept = Keys::new("east").kept_root(shard, stamp.epoch, stamp.sequence);
    let path = world.path("bucket").join(kept.as_str());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::copy(&file, path).unwrap();

    let running = world
        .start_with(&broker, |options| {
            options.compaction_interval = Span::millis(20);
            options.compaction_every = Span::millis(1);
            options.compaction_ratio = 1;
            options.retention_interval = Span::millis(20);
            options.delete_grace = Span::millis(1);
        })
        .await;
    until("replaced, and what was there before is gone", || {
        let root = root();
        root.partitions[&at(0)].entries[0].is_sparse() && root.pending.is_empty()
    })
    .await;
    running.stop().await;
    let bounds = |root: &Root| -> Vec<_> {
        let entries = root.partitions[&at(0)].entries.iter();
        entries.map(|e| (e.base, e.end, e.random)).collect()
    };
    let before = bounds(&root());
    fs::write(&file, b"not a root").unwrap();

    let running = world.start(&broker).await;
    let plan = rebuild(&running, "").await;
    let planned = &plan["shards"][0];
    assert_eq!(planned["kept_root"], kept.as_str(), "{plan}");
    assert_eq!(planned["partitions"][0]["missing"], 0, "{plan}");
    assert_eq!(planned["left_out"], Value::Array(Vec::new()), "{plan}");
    let hash = plan["hash"].as_str().unwrap();
    let done = rebuild(&running, &format!("?apply={hash}")).await;
    assert_eq!(done["shards"][0]["applied"], true, "{done}");
    assert_eq!(bounds(&root()), before);
    let verified = verify(&running, "bytes=true").await;
    assert_eq!(verified["ok"], true, "{verified}");
    running.stop().await;
}
