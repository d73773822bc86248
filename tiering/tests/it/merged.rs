//! Many quiet partitions: one object and one swap for all that are small and of one shard.

use std::collections::BTreeMap;

use whimbrel_rpc::proto::node::{TimestampRequest, TruncateRequest};
use whimbrel_tiering::{
    format::{Keys, ObjectName},
    root::{MAX_BYTES, Root},
    store::{Folder, Store},
};

use crate::{
    broker::FakeBroker,
    support::{Log, at, until},
    verify::{cost, verify},
    world::World,
};

const SHARDS: u16 = 16;

fn logs(world: &World, partitions: i32, shape: &[Vec<(usize, usize)>]) -> Vec<Log> {
    let dir = world.path("data");
    (0..partitions)
        .map(|p| Log::write(&dir, p, shape))
        .collect()
}

async fn roots(world: &World) -> Vec<Root> {
    let (store, keys) = (
        Folder::open(&world.path("bucket")).unwrap(),
        Keys::new("east"),
    );
    let mut roots = Vec::new();
    for shard in 0..SHARDS {
        let found = store.get(&keys.root(shard), MAX_BYTES).await.unwrap();
        roots.push(Root::decode(&found.bytes).unwrap());
    }
    roots
}

/// Merged objects, and objects of one slice.
async fn objects(world: &World) -> (usize, usize) {
    let (store, keys) = (
        Folder::open(&world.path("bucket")).unwrap(),
        Keys::new("east"),
    );
    let all = store.list(&keys.data_prefix()).await.unwrap();
    let merged = all
        .iter()
        .filter(|l| matches!(keys.parse_object(&l.key), Some(ObjectName::Merged(_))));
    (merged.clone().count(), all.len() - merged.count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slices_of_a_merged_object_read_as_their_logs_were() {
    let world = World::new();
    // Some cross a CRC block and the index's interval.
    let shape = [vec![(3, 40), (5, 20_000), (2, 40)], vec![(4, 100)]];
    let logs_here = logs(&world, 40, &shape);
    let broker = FakeBroker::new(logs(&world, 40, &shape));
    broker.inline();
    let end = logs_here[0].end();
    for remote in [true, false] {
        let mut running = match remote {
            true => {
                world
                    .start_on(std::sync::Arc::new(world.remote()), &broker)
                    .await
            }
            false => world.start(&broker).await,
        };
        until("uploaded", || (0..40).all(|p| broker.verified(p) == end)).await;
        for log in &logs_here {
            assert!(running.read_all(log, 0, 1 << 20).await == log.bytes_from(0));
            assert!(running.read_all(log, 4, 1).await == log.bytes_from(4));
            let stamped = running
                .client
                .offset_for_timestamp(TimestampRequest {
                    at: Some(at(log.partition).into()),
                    timestamp_ms: 1_011,
                })
                .await
                .unwrap()
                .into_inner();
            assert_eq!((stamped.found, stamped.offset), (true, 11));
        }
        running.stop().await;
    }
    let (merged, own) = objects(&world).await;
    assert!(
        merged > 0 && merged + own <= usize::from(SHARDS),
        "{merged} {own}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merged_object_stays_until_its_last_slice_is_gone() {
    let world = World::new();
    let shape = [vec![(3, 40)]];
    let broker = FakeBroker::new(logs(&world, 60, &shape));
    broker.inline();
    let mut running = world.start(&broker).await;
    until("uploaded", || (0..60).all(|p| broker.verified(p) == 3)).await;
    let before = roots(&world).await;
    let shared = before
        .iter()
        .find(|root| root.partitions.len() >= 3)
        .unwrap();
    let of: Vec<_> = shared.partitions.keys().map(|at| at.partition).collect();
    // One is cut, so that the object is an orphan's too; nothing of it may ever be deleted.
    let cut = TruncateRequest {
        at: Some(at(of[0]).into()),
        epoch: -1,
        offset: 0,
        tail_epoch: Some(1),
    };
    let cut = running.client.truncate(cut).await.unwrap().into_inner();
    assert_eq!((cut.orphaned_objects.len(), cut.end_offset), (1, 0));
    running.stop().await;
    let after = roots(&world).await;
    let root = &after[usize::from(shared.shard)];
    assert!(root.pending.is_empty() && root.orphaned.len() == 1);
    let mut edited = shared.clone();
    let keys = Keys::new("east");
    for (n, partition) in of.iter().enumerate() {
        edited.raise_log_start(&keys, at(*partition), 3, 7);
        let expected = usize::from(n + 1 == of.len());
        assert_eq!(
            edited.pending.len(),
            expected,
            "after {} of {}",
            n + 1,
            of.len()
        );
    }
    let mut edited = root.clone();
    for partition in &of {
        edited.raise_log_start(&keys, at(*partition), 3, 7);
    }
    assert!(edited.pending.is_empty(), "an orphan lies in it");
}

/// One cycle of 10,000 quiet partitions, and a hundred of internal topics, costs one object and one swap a shard. A
/// cycle begins when the first partition has waited for 7/8 of its hour, and takes along all that have waited for half
/// of it: at most two cycles in that time, whatever the partitions' phases are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_quiet_partitions_cost_little() {
    const PARTITIONS: i32 = 10_000 + 50 + 50 + 1;
    let world = World::new();
    let broker = FakeBroker::new(logs(&world, PARTITIONS, &[vec![(1, 100)]]));
    broker.inline();
    let running = world.start(&broker).await;
    until("uploaded", || {
        (0..PARTITIONS).all(|p| broker.verified(p) == 1)
    })
    .await;
    running.stop().await;
    let roots = roots(&world).await;
    let swaps: u64 = roots.iter().map(|root| root.stamp.sequence - 1).sum();
    let (merged, own) = objects(&world).await;
    assert_eq!((merged, own, swaps), (16, 0, 16));
    let per_cycle = merged as u64 + swaps + swaps.div_ceil(64);
    let month_s = 30 * 86_400;
    let cycles = 2 * (month_s / (3_600 * 7 / 8) + 1);
    let puts = per_cycle * cycles;
    assert!(puts <= 100_000, "{puts} PUT a month");
    let per_partition: BTreeMap<_, _> = roots
        .iter()
        .flat_map(|root| &root.partitions)
        .map(|(at, p)| (at.partition, p.end))
        .collect();
    assert_eq!(per_partition.len(), 10_101);
}

/// A verification reads an object once, and tells the slices that are bent from those that are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merged_object_is_verified_once_for_all_its_slices() {
    let world = World::new();
    // Three slices fill a block.
    let shape = [vec![(5, 20_000)]];
    let broker = FakeBroker::new(logs(&world, 100, &shape));
    broker.inline();
    let running = world.start(&broker).await;
    until("uploaded", || (0..100).all(|p| broker.verified(p) == 5)).await;
    let (merged, own) = objects(&world).await;
    let report = verify(&running, "bytes=true").await;
    let checked = (merged + own) as u64;
    assert_eq!(
        (&report["objects"], &report["objects_checked"]),
        (&checked.into(), &checked.into()),
        "{report}"
    );
    // Each root; of each object the HEAD, the tail and one range of at most 8 MiB.
    assert_eq!(report["spent"]["requests"], u64::from(SHARDS) + 3 * checked);
    // What was sent and read of them is the topic's.
    let cost = cost(&running).await;
    for cause in ["upload", "verify"] {
        let lines = cost["requests"].as_array().unwrap().iter();
        let lines: Vec<_> = lines
            .filter(|line| line["cause"] == cause && line["heads"] != 0)
            .collect();
        assert_eq!(lines.len(), 1, "{cost}");
        assert_eq!(
            (&lines[0]["topic"], &lines[0]["heads"]),
            (&"access.log".into(), &checked.into())
        );
    }

    let roots = roots(&world).await;
    let (root, key) = roots
        .iter()
        .find_map(|root| {
            let (at, largest) = root
                .partitions
                .iter()
                .max_by_key(|(_, p)| p.entries[0].position())?;
            let key = largest.entries[0].key(&Keys::new("east"), root.shard, *at);
            (largest.entries[0].position() > 256 << 10).then_some((root, key))
        })
        .unwrap();
    let path = world.path("bucket").join(key.as_str());
    let sound = std::fs::read(&path).unwrap();
    let mut bent = sound.clone();
    bent[70_000] ^= 4;
    std::fs::write(&path, bent).unwrap();
    let hit = root.partitions.iter();
    let hit: Vec<_> = hit
        .filter(|(_, p)| p.entries[0].position() < 256 << 10)
        .map(|(at, _)| i64::from(at.partition))
        .collect();
    let report = verify(&running, "bytes=true").await;
    let problems = report["problems"].as_array().unwrap();
    let told: Vec<_> = problems
        .iter()
        .map(|p| p["partition"].as_i64().unwrap())
        .collect();
    assert_eq!(told, hit, "{report}");
    assert!(hit.len() < root.partitions.len());
    std::fs::write(&path, sound).unwrap();
    assert_eq!(verify(&running, "bytes=true").await["ok"], true);
    running.stop().await;
}
