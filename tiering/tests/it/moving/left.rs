//! What stays behind: a shard with a damaged object until that is whole, and the old place's objects until somebody
//! asks for their end.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use whimbrel_rpc::proto::node;

use super::serving::{SHARDS, buried, is_done, log, order};
use crate::{
    broker::FakeBroker,
    daemon::request,
    support::{at, until},
    verify::{ask, verify_at},
    world::{Running, World},
};

/// All files below `dir`, by their paths there.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

fn objects(world: &World, place: &str, kind: &str) -> Vec<PathBuf> {
    let dir = world.path(place).join("v1/east").join(kind);
    if dir.exists() {
        files(&dir)
    } else {
        Vec::new()
    }
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[100] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// What the daemon says of the move once `holds` is true of it.
async fn until_told(running: &Running, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..3_000 {
        let told = ask(running.handle.admin, "POST /move").await["move"].clone();
        if holds(&told) {
            return told;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not within a minute: {what}");
}

async fn store_orphan(running: &mut Running, log: &crate::support::Log) -> String {
    let (base, end, path, bytes) = &log.segments[1];
    let orphan = node::OrphanRequest {
        topic: "access.log".into(),
        at: Some(at(0).into()),
        group: "default".into(),
        region_epoch: 2,
        common_epoch: 1,
        from_offset: *base,
        end_offset: *end,
        parts: vec![node::FilePart {
            path: path.file_name().unwrap().to_str().unwrap().to_owned(),
            position: 0,
            length: bytes.len() as u64,
        }],
        records: 200,
    };
    let stored = running.client.store_orphan(orphan).await.unwrap();
    stored.into_inner().object
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_object_is_named_and_keeps_its_shard_alone_where_it_is() {
    let world = World::new();
    fs::create_dir(world.path("new")).unwrap();
    let broker = FakeBroker::new((0..4).map(|p| log(&world, p, 2)).collect());
    let mut running = world.start(&broker).await;
    until("all is uploaded", || broker.is_all_verified()).await;
    let tail = store_orphan(&mut running, &log(&world, 0, 2)).await;
    let damaged = objects(&world, "bucket", "data").remove(0);
    flip(&damaged);
    order(&running, &world.path("new")).await;
    let name = damaged.file_name().unwrap().to_str().unwrap().to_owned();
    until_told(&running, "it is named", |told| {
        let trouble = told["trouble"].as_str().unwrap_or_default();
        trouble.contains("WB-316") && trouble.contains(&name)
    })
    .await;
    until_told(&running, "all the others have moved", |_| {
        buried(&world.path("bucket")) == usize::from(SHARDS) - 1
    })
    .await;
    let arrived = objects(&world, "new", "data");
    assert!(
        arrived
            .iter()
            .all(|path| path.file_name() != damaged.file_name())
    );
    assert!(!is_done(&running).await);
    // What has moved takes records, and so does what has not.
    for partition in 20..40 {
        broker.lead(log(&world, partition, 1));
    }
    until("all is uploaded", || broker.is_all_verified()).await;
    flip(&damaged);
    until_told(&running, "done", |told| told["done"] == true).await;
    for partition in 0..4 {
        let log = log(&world, partition, 2);
        assert!(running.read_all(&log, 0, 1 << 20).await == log.bytes_from(0));
    }
    assert!(world.path("new").join(tail).exists());
    let verified = verify_at(running.handle.admin, "bytes=true").await;
    assert_eq!(verified["ok"], true, "{verified}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_old_place_is_emptied_when_that_is_asked_for_and_not_of_what_it_alone_has() {
    let world = World::new();
    fs::create_dir(world.path("new")).unwrap();
    let broker = FakeBroker::new((0..4).map(|p| log(&world, p, 2)).collect());
    let mut running = world.start(&broker).await;
    let admin = running.handle.admin;
    until("all is uploaded", || broker.is_all_verified()).await;
    let tail = store_orphan(&mut running, &log(&world, 0, 2)).await;
    order(&running, &world.path("new")).await;
    until_told(&running, "done", |told| told["done"] == true).await;
    // In the old place alone, as an upload that came too late leaves it.
    let there = objects(&world, "bucket", "data").remove(0);
    let alone = there.with_file_name("merged-00000000000000000009-00000000000000aa");
    fs::copy(&there, &alone).unwrap();
    // A copy in the new place that is not what it should be is found out before anything goes.
    let (before, copies) = (
        objects(&world, "bucket", ""),
        objects(&world, "new", "data"),
    );
    let plan = ask(admin, "POST /move?delete-old").await;
    let hash = plan["hash"].as_str().unwrap();
    assert_eq!(
        (&plan["applied"], &plan["left_objects"]),
        (&false.into(), &1.into()),
        "{plan}"
    );
    flip(&copies[0]);
    let refused = ask(admin, &format!("POST /move?delete-old&apply={hash}")).await;
    assert!(
        refused["refused"][0]
            .as_str()
            .unwrap()
            .contains("not proved"),
        "{refused}"
    );
    assert_eq!(objects(&world, "bucket", ""), before);
    flip(&copies[0]);
    let done = ask(admin, &format!("POST /move?delete-old&apply={hash}")).await;
    assert_eq!(
        (&done["applied"], &done["objects"]),
        (&true.into(), &plan["objects"]),
        "{done}"
    );
    assert_eq!(
        done["left"][0]["why"], "it is not in the new place",
        "{done}"
    );
    assert_eq!(objects(&world, "bucket", "data"), [alone]);
    assert_eq!(objects(&world, "bucket", "orphans"), Vec::<PathBuf>::new());
    assert!(world.path("new").join(tail).exists());
    // Who still begins there is sent on.
    assert_eq!(buried(&world.path("bucket")), usize::from(SHARDS));
    let again = ask(admin, "POST /move?delete-old").await;
    assert_eq!(again["objects"], 0, "{again}");
    running.stop().await;
    let mut running = world.start(&broker).await;
    for partition in 0..4 {
        let log = log(&world, partition, 2);
        assert!(running.read_all(&log, 0, 1 << 20).await == log.bytes_from(0));
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_deleted_of_a_place_that_is_still_in_use() {
    let world = World::new();
    fs::create_dir(world.path("new")).unwrap();
    let broker = FakeBroker::new(vec![log(&world, 0, 1)]);
    let running = world.start(&broker).await;
    until("all is uploaded", || broker.is_all_verified()).await;
    let refused = request(running.handle.admin, "POST /move?delete-old").await;
    assert!(
        refused.starts_with("HTTP/1.1 409") && refused.contains("no move"),
        "{refused}"
    );
    order(&running, &world.path("new")).await;
    until_told(&running, "done", |told| told["done"] == true).await;
    // As if the shard had never moved.
    let root = world.path("bucket/v1/east/root/3");
    fs::copy(world.path("new/v1/east/root/3"), &root).unwrap();
    let plan = ask(running.handle.admin, "POST /move?delete-old").await;
    assert!(
        plan["refused"][0].as_str().unwrap().contains("root/3"),
        "{plan}"
    );
    assert_eq!(plan["objects"], 0, "{plan}");
    running.tasks.stop(Duration::from_secs(10)).await;
}
