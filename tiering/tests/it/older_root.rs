//! Roots that went back: from a backup, from an older version that the bucket kept, from a replica of the bucket.
//! What they do not name is not garbage.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use whimbrel_runtime::unit::Span;
use whimbrel_tiering::{
    format::{Keys, shard_of},
    root::Root,
};

use crate::{
    broker::FakeBroker,
    rebuild::rebuild,
    support::{Log, at, until},
    verify::status,
    world::{Running, World},
};

fn log(world: &World, segments: usize) -> Log {
    Log::write(
        &world.path("data"),
        0,
        &vec![vec![(5, 3_000), (3, 200)]; segments],
    )
}

fn shard() -> u16 {
    shard_of(at(0), 16)
}

fn root_file(world: &World) -> PathBuf {
    world.path(&format!("bucket/v1/east/root/{}", shard()))
}

pub fn objects(dir: &Path) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(objects(&path));
        } else {
            all.insert(path);
        }
    }
    all
}

fn data(world: &World) -> BTreeSet<PathBuf> {
    objects(&world.path("bucket/v1/east/data"))
}

/// A daemon that deletes as soon as it may.
async fn hasty(world: &World, broker: &FakeBroker) -> Running {
    world
        .start_with(broker, |options| {
            options.delete_grace = Span::millis(1);
            options.retention_interval = Span::millis(20);
        })
        .await
}

async fn upload(world: &World, broker: &FakeBroker, segments: usize) {
    broker.replace(vec![log(world, segments)]);
    let end = log(world, segments).end();
    until("uploaded", || broker.verified(0) == end).await;
}

/// The newest root is known by the epoch in an object's name, or by the name of a kept root alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_root_is_refused_at_the_start_and_nothing_is_deleted() {
    for by_kept in [false, true] {
        let world = World::new();
        let broker = FakeBroker::default();
        let running = world.start(&broker).await;
        upload(&world, &broker, 2).await;
        let older = fs::read(root_file(&world)).unwrap();
        if by_kept {
            upload(&world, &broker, 4).await;
            running.stop().await;
            let newer = fs::read(root_file(&world)).unwrap();
            let stamp = Root::decode(&newer).unwrap().stamp;
            let keys = Keys::new("east");
            let kept = keys.kept_root(shard(), stamp.epoch, stamp.sequence);
            let kept = world.path("bucket").join(kept.as_str());
            fs::create_dir_all(kept.parent().unwrap()).unwrap();
            fs::write(kept, newer).unwrap();
        } else {
            running.stop().await;
            let running = world.start(&broker).await;
            upload(&world, &broker, 4).await;
            running.stop().await;
        }
        let before = data(&world);
        assert_eq!(before.len(), 4);
        fs::write(root_file(&world), &older).unwrap();
        // The bucket alone has it now.
        broker.replace(Vec::new());

        for _ in 0..2 {
            let running = hasty(&world, &broker).await;
            let told = status(&running).await;
            assert_eq!(told["quarantined_shards"][0]["shard"], shard(), "{told}");
            assert_eq!(told["quarantined_shards"][0]["code"], "WB-312");
            running.stop().await;
            assert!(fs::read(root_file(&world)).unwrap() == older, "claimed");
        }
        let mut running = hasty(&world, &broker).await;
        let plan = rebuild(&running, "").await;
        let hash = plan["hash"].as_str().unwrap();
        let done = rebuild(&running, &format!("?apply={hash}")).await;
        assert_eq!(done["shards"][0]["applied"], true, "{done}");
        let all = log(&world, 4);
        assert!(running.read_all(&all, 0, 1 << 20).await == all.bytes_from(0));
        running.stop().await;
        // The new root is above all that was found: a later start believes it.
        let running = hasty(&world, &broker).await;
        let told = status(&running).await;
        assert_eq!(told["quarantined_shards"].as_array().unwrap().len(), 0);
        running.stop().await;
        assert_eq!(data(&world), before);
    }
}

/// Nothing tells that this root is older. What it does not name is above its end, and no log holds it: it stays,
/// start after start, while a second copy of what the root does name goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_older_root_of_the_same_epoch_does_not_name_stays() {
    let world = World::new();
    let broker = FakeBroker::default();
    let running = world.start(&broker).await;
    upload(&world, &broker, 2).await;
    let (older, named) = (fs::read(root_file(&world)).unwrap(), data(&world));
    upload(&world, &broker, 4).await;
    running.stop().await;
    let before = data(&world);
    assert_eq!((named.len(), before.len()), (2, 4));
    fs::write(root_file(&world), &older).unwrap();
    broker.replace(Vec::new());
    for copy in 1..=3 {
        let twin = named.first().unwrap();
        let name = twin.file_name().unwrap().to_str().unwrap();
        let (stem, _) = name.rsplit_once('-').unwrap();
        let twin_of = twin.with_file_name(format!("{stem}-{copy:016x}"));
        fs::copy(twin, &twin_of).unwrap();
        let running = hasty(&world, &broker).await;
        until("the copy is deleted", || !twin_of.exists()).await;
        running.stop().await;
        assert_eq!(data(&world), before, "start {copy}");
    }
    // The log has it after all: it is uploaded again, and then the first copies are not needed.
    let running = hasty(&world, &broker).await;
    upload(&world, &broker, 5).await;
    until("swept", || data(&world).len() == 5).await;
    running.stop().await;
    assert!(data(&world).is_superset(&named));
}
