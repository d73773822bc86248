//! Cold reads while the bucket is away: an answer in time, with the reason, and the data when it is back.

use std::{net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use whimbrel_rpc::proto::node::{ReadReply, ReadRequest, read_reply::Outcome};
use whimbrel_runtime::{Clock, Shutdown, Tasks};
use whimbrel_tiering::{Service, store::Folder};

use crate::{
    broker::FakeBroker,
    daemon::request,
    fault::{Fault, Mood, Plan},
    support::{Log, at, until},
    world::{Running, World},
};

async fn ask(running: &mut Running, wait_ms: u32) -> ReadReply {
    let request = ReadRequest {
        at: Some(at(0).into()),
        offset: 0,
        max_bytes: 1 << 20,
        wait_ms,
        ..ReadRequest::default()
    };
    running.ask(request).await
}

async fn status(admin: SocketAddr) -> serde_json::Value {
    let text = request(admin, "GET /status").await;
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_is_answered_in_time_and_says_why_there_is_nothing() {
    let world = World::new();
    let shape = [vec![(5, 300); 200]];
    let log = Log::write(&world.path("data"), 0, &shape);
    let broker = FakeBroker::new(vec![Log::write(&world.path("data"), 0, &shape)]);
    let mood = Arc::new(Mutex::new(Mood::Well));
    let folder = Folder::open(&world.path("bucket")).unwrap();
    let store = Fault::new(folder, Plan::Mood(Arc::clone(&mood)));
    let mut running = world.start_on(Arc::new(store), &broker).await;
    until("uploaded", || broker.verified(0) == log.end()).await;
    for (sick, reason) in [(Mood::Refuses, "HTTP 500, planned"), (Mood::Hangs, "")] {
        *mood.lock() = sick;
        let reply = ask(&mut running, 300).await;
        assert_eq!(reply.outcome(), Outcome::Pending, "{sick:?}");
        assert!(reply.detail.contains(reason), "{}", reply.detail);
    }
    let status = request(running.handle.admin, "GET /status").await;
    assert!(status.contains("open object"), "{status}");
    *mood.lock() = Mood::Well;
    running.stop().await;
    let mut running = world.start(&broker).await;
    assert!(running.read_all(&log, 0, 1 << 20).await == log.bytes_from(0));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_comes_back_is_read_without_a_restart() {
    let world = World::new();
    let shape = [vec![(5, 300); 200]];
    let log = Log::write(&world.path("data"), 0, &shape);
    let broker = FakeBroker::new(vec![Log::write(&world.path("data"), 0, &shape)]);
    let mood = Arc::new(Mutex::new(Mood::Well));
    let folder = Folder::open(&world.path("bucket")).unwrap();
    let store = Fault::new(folder, Plan::Mood(Arc::clone(&mood)));
    let mut running = world.start_on(Arc::new(store), &broker).await;
    until("uploaded", || broker.verified(0) == log.end()).await;
    *mood.lock() = Mood::Refuses;
    assert_eq!(ask(&mut running, 0).await.outcome(), Outcome::Pending);
    *mood.lock() = Mood::Well;
    assert!(running.read_all(&log, 0, 1 << 20).await == log.bytes_from(0));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_pleads_for_less_gets_less_and_the_status_says_what_is_stuck() {
    let world = World::new();
    let shape = [vec![(5, 300); 20]];
    let broker = FakeBroker::new(vec![Log::write(&world.path("data"), 0, &shape)]);
    let end = Log::write(&world.path("data"), 0, &shape).end();
    let mood = Arc::new(Mutex::new(Mood::Well));
    let folder = Folder::open(&world.path("bucket")).unwrap();
    let store = Fault::new(folder, Plan::Mood(Arc::clone(&mood)));
    broker.hold(true);
    let running = world.start_on(Arc::new(store), &broker).await;
    *mood.lock() = Mood::Busy;
    broker.hold(false);
    let admin = running.handle.admin;
    let mut seen = status(admin).await;
    let mut ages = Vec::new();
    for _ in 0..1_500 {
        let stuck = &seen["stuck"][0];
        if stuck["times"].as_u64() >= Some(2) && stuck["step"] == "PUT" && ages.len() > 1 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        seen = status(admin).await;
        ages.extend(seen["oldest_unuploaded_age_seconds"].as_f64());
    }
    let stuck = &seen["stuck"][0];
    assert_eq!(
        (stuck["step"].as_str(), stuck["cause"].as_str()),
        (Some("PUT"), Some("503"))
    );
    assert_eq!(seen["slowed"][0]["prefix"], "v1/east/data");
    assert!(ages.is_sorted() && ages.last() > ages.first(), "{ages:?}");
    *mood.lock() = Mood::Well;
    until("uploaded", || broker.verified(0) == end).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_starts_while_the_store_is_away_says_how_old_what_is_not_uploaded_is() {
    let world = World::new();
    let shape = [vec![(5, 300); 20]];
    let broker = FakeBroker::new(vec![Log::write(&world.path("data"), 0, &shape)]);
    let end = Log::write(&world.path("data"), 0, &shape).end();
    let mood = Arc::new(Mutex::new(Mood::Refuses));
    let folder = Folder::open(&world.path("bucket")).unwrap();
    let store = Arc::new(Fault::new(folder, Plan::Mood(Arc::clone(&mood))));
    let tasks = Tasks::new(Shutdown::new());
    let options = world.options(broker.serve(&tasks).await.port());
    let started = Service::start_on(store, options, tasks.clone(), Clock::system()).await;
    let handle = started.unwrap();
    let mut ages = Vec::new();
    for _ in 0..1_500 {
        ages.extend(status(handle.admin).await["oldest_unuploaded_age_seconds"].as_f64());
        if ages.last() > ages.first() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(ages.is_sorted() && ages.last() > ages.first(), "{ages:?}");
    assert!(handle.ready().is_err());
    *mood.lock() = Mood::Well;
    until("uploaded", || broker.verified(0) == end).await;
    let left = tasks.stop(std::time::Duration::from_secs(10)).await;
    assert!(left.is_empty());
}
