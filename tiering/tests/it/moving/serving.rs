//! Whole daemons whose bucket moves while they are read from and written to.

use std::{fs, path::Path, time::Duration};

use whimbrel_tiering::{format::Keys, root::Moved};

use crate::{
    broker::FakeBroker,
    region::{Node, Region},
    support::{Log, until},
    verify::{ask, status},
    world::{Running, World},
};

pub(super) const SHARDS: u16 = 16;

pub(super) fn log(world: &World, partition: i32, segments: usize) -> Log {
    Log::write(
        &world.path("data"),
        partition,
        &vec![vec![(5, 3_000); 40]; segments],
    )
}

fn url(dir: &Path) -> String {
    format!("file://{}", dir.display())
}

/// Plans, and orders what was planned.
pub(super) async fn order(running: &Running, to: &Path) {
    let at = running.handle.admin;
    let plan = ask(at, &format!("POST /move?to={}", url(to))).await;
    assert_eq!(plan["refused"].as_array().unwrap().len(), 0, "{plan}");
    let hash = plan["hash"].as_str().unwrap();
    let done = ask(at, &format!("POST /move?to={}&apply={hash}", url(to))).await;
    assert!(done["ordered"].is_string(), "{done}");
}

pub(super) async fn is_done(running: &Running) -> bool {
    let told = ask(running.handle.admin, "GET /move").await;
    told["move"]["done"] == true
}

pub(super) fn buried(dir: &Path) -> usize {
    let keys = Keys::new("east");
    let is_buried = |shard: &u16| {
        let bytes = fs::read(dir.join(keys.root(*shard).as_str())).unwrap();
        Moved::decode(&bytes).is_ok()
    };
    (0..SHARDS).filter(is_buried).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_and_written_all_the_time_moves_from_folder_to_folder() {
    let world = World::new();
    fs::create_dir(world.path("new")).unwrap();
    let broker = FakeBroker::new((0..4).map(|p| log(&world, p, 2)).collect());
    let mut running = world.start(&broker).await;
    until("all is uploaded", || broker.is_all_verified()).await;
    order(&running, &world.path("new")).await;
    let (old, mut rounds) = (log(&world, 0, 2), 0);
    while !is_done(&running).await {
        assert!(running.read_all(&old, 0, 1 << 20).await == old.bytes_from(0));
        if rounds < 8 {
            broker.lead(log(&world, 10 + rounds, 1));
        }
        rounds += 1;
    }
    until("all is uploaded", || broker.is_all_verified()).await;
    assert_eq!(buried(&world.path("bucket")), usize::from(SHARDS));
    let told = status(&running).await;
    assert_eq!(told["move"]["code"], "WB-340", "{}", told["move"]);
    running.stop().await;
    // The configuration still names the old place.
    let mut running = world.start(&broker).await;
    broker.lead(log(&world, 30, 1));
    until("it goes on where it is", || broker.is_all_verified()).await;
    assert!(running.read_all(&old, 0, 1 << 20).await == old.bytes_from(0));
    running.stop().await;
    // And now the new one, with the old one gone.
    fs::remove_dir_all(world.path("bucket")).unwrap();
    fs::rename(world.path("new"), world.path("bucket")).unwrap();
    let mut running = world.start(&broker).await;
    for partition in [0, 3, 30] {
        let log = log(&world, partition, if partition < 4 { 2 } else { 1 });
        assert!(running.read_all(&log, 0, 1 << 20).await == log.bytes_from(0));
    }
    let verified = crate::verify::verify_at(running.handle.admin, "bytes=true").await;
    assert_eq!(verified["ok"], true, "{verified}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_is_somebodys_is_refused_and_one_that_is_not_full_is_no_place_to_begin() {
    let world = World::new();
    let broker = FakeBroker::new(vec![log(&world, 0, 1)]);
    let running = world.start(&broker).await;
    let used = World::new();
    used.start(&FakeBroker::default()).await.stop().await;
    let to = used.path("bucket");
    let plan = ask(running.handle.admin, &format!("POST /move?to={}", url(&to))).await;
    assert_eq!(plan["refused"].as_array().unwrap().len(), 1, "{plan}");
    running.stop().await;
    // As a move leaves it that has begun.
    let arrival = world.path("bucket/v1/east/move/arrival.json");
    fs::create_dir_all(arrival.parent().unwrap()).unwrap();
    let text = r#"{"format":1,"id":"00000000-0000-0000-0000-000000000001","from":"file:///old","incarnation":"00000000-0000-0000-0000-000000000002"}"#;
    fs::write(&arrival, text).unwrap();
    let refused = world.try_start(&broker).await.unwrap_err();
    assert_eq!(refused.code(), "WB-341", "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_daemons_of_a_region_move_together() {
    let region = Region::new();
    let mut nodes = Vec::new();
    for id in [1, 11, 21] {
        nodes.push(region.start(id).await);
    }
    let lead = |node: &Node, partitions: std::ops::Range<i32>| {
        for partition in partitions {
            node.broker.lead(region.log(node, partition, 2));
        }
    };
    for (n, node) in (0..).zip(&nodes) {
        lead(node, n * 8..n * 8 + 8);
    }
    let end = region.log(&nodes[0], 0, 2).end();
    let known = |node: &Node, to: i32| (0..to).all(|p| node.broker.verified(p) == end);
    until("all is known", || nodes.iter().all(|node| known(node, 24))).await;
    let to = region.world.path("new");
    fs::create_dir(&to).unwrap();
    let at = nodes[0].handle.admin;
    let plan = ask(at, &format!("POST /move?to={}", url(&to))).await;
    let hash = plan["hash"].as_str().unwrap();
    ask(at, &format!("POST /move?to={}&apply={hash}", url(&to))).await;
    lead(&nodes[2], 24..32);
    let log = region.log(&nodes[1], 8, 2);
    loop {
        let mut done = 0;
        for node in &mut nodes {
            // Whoever was told nothing is told to look.
            let told = ask(node.handle.admin, "POST /move").await;
            done += usize::from(told["move"]["done"] == true);
            assert!(node.read_all(&log).await == log.bytes_from(0));
        }
        if done == nodes.len() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    until("all is known", || nodes.iter().all(|node| known(node, 32))).await;
    assert_eq!(buried(&region.world.path("bucket")), usize::from(SHARDS));
    for node in nodes {
        node.stop().await;
    }
}
