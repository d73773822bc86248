//! Roots made anew: from kept ones, from the listing, and from both.

mod deaths;

use std::fs;

use serde_json::Value;
use whimbrel_tiering::{
    format::{Keys, shard_of},
    root::Root,
};

use crate::{
    broker::FakeBroker,
    daemon::post,
    support::{Log, at, until},
    verify::{status, verify},
    world::{Running, World},
};

pub async fn rebuild(running: &Running, query: &str) -> Value {
    let answer = post(running.handle.admin, &format!("/rebuild{query}")).await;
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {answer}"))
}

fn log(world: &World, segments: usize) -> Log {
    Log::write(
        &world.path("data"),
        0,
        &vec![vec![(5, 3_000), (3, 200)]; segments],
    )
}

fn files(dir: &std::path::Path) -> usize {
    fs::read_dir(dir).map_or(0, Iterator::count)
}

/// Four objects in a bucket whose root is damaged or gone; the kept one knows two of them.
async fn lost(world: &World, gone: bool, kept: bool) -> (FakeBroker, std::path::PathBuf) {
    let broker = FakeBroker::new(vec![log(world, 2)]);
    let running = world.start(&broker).await;
    until("uploaded", || broker.verified(0) == log(world, 2).end()).await;
    let shard = shard_of(at(0), 16);
    let file = world.path(&format!("bucket/v1/east/root/{shard}"));
    if kept {
        let bytes = fs::read(&file).unwrap();
        let stamp = Root::decode(&bytes).unwrap().stamp;
        let dir = world.path(&format!("bucket/v1/east/root-kept/{shard}"));
        fs::create_dir_all(&dir).unwrap();
        let name = format!("{:020}-{:020}", stamp.epoch, stamp.sequence);
        fs::write(dir.join(name), bytes).unwrap();
        // A newer one that is damaged is passed over.
        fs::write(dir.join(format!("{:020}-{:020}", 9, 9)), b"WBROOT01").unwrap();
    }
    broker.replace(vec![log(world, 4)]);
    let end = log(world, 4).end();
    until("uploaded", || broker.verified(0) == end).await;
    running.stop().await;
    if gone {
        fs::remove_file(&file).unwrap();
    } else {
        fs::write(&file, b"not a root").unwrap();
    }
    (broker, file)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_root_comes_back_with_every_object_and_nothing_is_deleted() {
    // Damaged, gone; without a kept root, and with one that is some objects behind.
    for (gone, kept) in [(false, false), (true, false), (false, true)] {
        let world = World::new();
        let (broker, file) = lost(&world, gone, kept).await;
        let (shard, end) = (shard_of(at(0), 16), log(&world, 4).end());
        let mut running = world.start(&broker).await;
        assert_eq!(
            status(&running).await["quarantined_shards"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
        let plan = rebuild(&running, "").await;
        let planned = &plan["shards"][0];
        assert_eq!(planned["shard"], shard, "{plan}");
        assert_eq!(planned["kept_root"].is_string(), kept);
        let partition = &planned["partitions"][0];
        assert_eq!(
            (&partition["end_offset"], &partition["objects"]),
            (&end.into(), &4.into())
        );
        assert_eq!(partition["unproven"], if kept { 2 } else { 4 });
        assert_eq!(
            rebuild(&running, "").await["hash"],
            plan["hash"],
            "a plan is repeatable"
        );
        let other = rebuild(&running, "?apply=00000000").await;
        assert!(other["shards"][0]["refused"].is_string(), "{other}");
        assert_eq!(file.exists(), !gone, "nothing was changed");

        let hash = plan["hash"].as_str().unwrap();
        let done = rebuild(&running, &format!("?apply={hash}")).await;
        assert_eq!(done["shards"][0]["applied"], true, "{done}");
        assert!(
            status(&running).await["quarantined_shards"]
                .as_array()
                .unwrap()
                .is_empty()
        );
        let all = log(&world, 4);
        assert!(running.read_all(&all, 0, 1 << 20).await == all.bytes_from(0));
        let report = verify(&running, "bytes=true").await;
        assert_eq!(
            (&report["ok"], &report["objects"]),
            (&true.into(), &4.into()),
            "{report}"
        );
        let aside = world.path(&format!("bucket/v1/east/quarantine-root/{shard}"));
        assert_eq!(
            files(&aside),
            usize::from(!gone),
            "the damaged root is put aside"
        );
        // Uploading goes on where it was.
        broker.replace(vec![log(&world, 5)]);
        until("uploaded", || broker.verified(0) == log(&world, 5).end()).await;
        running.stop().await;
        let running = world.start(&broker).await;
        assert_eq!(verify(&running, "bytes=true").await["objects"], 5);
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_that_do_not_fit_are_told_and_kept() {
    let world = World::new();
    let broker = FakeBroker::new(vec![log(&world, 3)]);
    let running = world.start(&broker).await;
    until("uploaded", || broker.verified(0) == log(&world, 3).end()).await;
    running.stop().await;
    let shard = shard_of(at(0), 16);
    fs::remove_file(world.path(&format!("bucket/v1/east/root/{shard}"))).unwrap();
    // The one in the middle is bent: what follows it has nothing to follow on.
    let mut objects = Vec::new();
    let mut dirs = vec![world.path("bucket/v1/east/data")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                objects.push(path);
            }
        }
    }
    objects.sort_by_key(|p| p.file_name().unwrap().to_owned());
    let mut bytes = fs::read(&objects[1]).unwrap();
    bytes[100] ^= 1;
    fs::write(&objects[1], bytes).unwrap();
    broker.replace(Vec::new());
    let running = world.start(&broker).await;
    let plan = rebuild(&running, "").await;
    assert_eq!(plan["shards"][0]["partitions"][0]["objects"], 1, "{plan}");
    assert_eq!(plan["shards"][0]["left_out"].as_array().unwrap().len(), 2);
    let hash = plan["hash"].as_str().unwrap();
    let done = rebuild(&running, &format!("?apply={hash}")).await;
    assert_eq!(done["shards"][0]["applied"], true, "{done}");
    running.stop().await;
    // The sweep of later starts leaves them alone.
    let running = world.start(&broker).await;
    running.stop().await;
    assert!(objects.iter().all(|p| p.exists()));
    let root = fs::read(world.path(&format!("bucket/v1/east/root/{shard}"))).unwrap();
    assert_eq!(Root::decode(&root).unwrap().orphaned.len(), 2);
}

/// The kept root knows older entries by a part that may be gone; small slices share objects.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_of_parts_and_shared_objects_comes_back() {
    const PARTITIONS: i32 = 40;
    for part_is_there in [true, false] {
        let world = World::new();
        let logs = |segments: usize| -> Vec<Log> {
            let shape = vec![vec![(3, 40), (2, 300)]; segments];
            let one = |partition| Log::write(&world.path("data"), partition, &shape);
            (0..PARTITIONS).map(one).collect()
        };
        let broker = FakeBroker::default();
        broker.inline();
        let running = world.start(&broker).await;
        for segments in 1..=5 {
            broker.replace(logs(segments));
            let end = logs(segments)[0].end();
            let all = || (0..PARTITIONS).all(|partition| broker.verified(partition) == end);
            until("uploaded", all).await;
        }
        running.stop().await;
        let shard = shard_of(at(0), 16);
        let file = world.path(&format!("bucket/v1/east/root/{shard}"));
        let mut root = Root::decode(&fs::read(&file).unwrap()).unwrap();
        let shared = |root: &Root| {
            root.partitions
                .values()
                .any(|p| p.entries[0].merged.is_some())
        };
        assert!(shared(&root));
        let spilled = root.spill(1, 7).unwrap();
        let keys = Keys::new("east");
        let write = |key: &str, bytes: &[u8]| {
            let path = world.path("bucket").join(key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        if part_is_there {
            write(keys.root_part(&spilled.name).as_str(), &spilled.bytes);
        }
        let kept = keys.kept_root(shard, root.stamp.epoch, root.stamp.sequence);
        write(kept.as_str(), &root.encode());
        fs::write(&file, b"not a root").unwrap();

        let mut running = world.start(&broker).await;
        let plan = rebuild(&running, "").await;
        let planned = &plan["shards"][0];
        assert_eq!(planned["kept_root"], kept.as_str());
        assert_eq!(planned["left_out"].as_array().unwrap().len(), 0, "{plan}");
        for partition in planned["partitions"].as_array().unwrap() {
            let unproven = if part_is_there { 0 } else { 5 };
            let found = (
                &partition["objects"],
                &partition["unproven"],
                &partition["missing"],
            );
            assert_eq!(found, (&5.into(), &unproven.into(), &0.into()), "{plan}");
        }
        let hash = plan["hash"].as_str().unwrap();
        let done = rebuild(&running, &format!("?apply={hash}")).await;
        assert_eq!(done["shards"][0]["applied"], true, "{done}");
        for log in logs(5) {
            assert!(running.read_all(&log, 0, 1 << 20).await == log.bytes_from(0));
        }
        let report = verify(&running, "bytes=true").await;
        assert_eq!(report["ok"], true, "{report}");
        running.stop().await;
    }
}
