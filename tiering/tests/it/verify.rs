//! Verification on a whole daemon: what it finds, what it names, what it costs.

use std::net::SocketAddr;

use serde_json::Value;

use crate::{
    broker::FakeBroker,
    daemon::{find, post, request},
    support::{Log, until},
    world::{Running, World},
};

pub async fn verify(running: &Running, query: &str) -> Value {
    verify_at(running.handle.admin, query).await
}

pub async fn verify_at(admin: SocketAddr, query: &str) -> Value {
    json(&post(admin, &format!("/verify?{query}")).await)
}

pub async fn status(running: &Running) -> Value {
    status_of(running.handle.admin).await
}

pub async fn status_of(admin: SocketAddr) -> Value {
    json(&request(admin, "GET /status").await)
}

/// Any request of the admin endpoint that is answered with JSON.
pub async fn ask(admin: SocketAddr, line: &str) -> Value {
    json(&request(admin, line).await)
}

pub async fn cost(running: &Running) -> Value {
    json(&request(running.handle.admin, "GET /cost").await)
}

fn json(answer: &str) -> Value {
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {answer}"))
}

/// Two segments in the bucket.
pub async fn tiered(world: &World, local_start: i64) -> (Log, FakeBroker, Running) {
    let shape = [vec![(5, 300); 200], vec![(5, 300); 200]];
    let log = Log::write(&world.path("data"), 0, &shape);
    let offered = Log {
        local_start,
        ..Log::write(&world.path("data"), 0, &shape)
    };
    let broker = FakeBroker::new(vec![offered]);
    let running = world.start(&broker).await;
    until("uploaded", || broker.verified(0) == log.end()).await;
    until("released", || broker.pinned() == 0).await;
    (log, broker, running)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sound_bucket_is_proved_within_its_budget() {
    let world = World::new();
    let (_log, _broker, running) = tiered(&world, 0).await;
    let all = verify(&running, "bytes=true").await;
    assert_eq!(all["ok"], true, "{all}");
    assert_eq!(
        (&all["objects"], &all["objects_checked"]),
        (&2.into(), &2.into())
    );
    assert_eq!(all["logs_checked"], 1);
    // 16 roots; HEAD, tail and one range for each of two objects.
    assert_eq!(all["spent"]["requests"], 16 + 2 * 3);
    assert!(all["spent"]["dollars"].as_f64() > Some(0.0));
    let few = verify(&running, "bytes=true&max-requests=18").await;
    assert_eq!(few["spent"]["requests"], 18);
    assert_eq!(
        (&few["exhausted"], &few["ok"]),
        (&true.into(), &true.into())
    );
    let poor = verify(&running, "max-dollars=0.0000041").await;
    assert_eq!(
        poor["spent"]["requests"], 10,
        "ten GETs are what it pays for"
    );
    let sample = verify(&running, "sample=1").await;
    assert_eq!(sample["objects_checked"], 1);
    let cost = cost(&running).await;
    let uploads = cost["requests"].as_array().unwrap().iter();
    let uploads: Vec<_> = uploads
        .filter(|l| l["cause"] == "upload" && l["puts"] != 0)
        .collect();
    assert_eq!(
        (uploads.len(), &uploads[0]["puts"]),
        (1, &2.into()),
        "{cost}"
    );
    assert_eq!(uploads[0]["topic"], "access.log");
    assert_eq!(cost["stored"][0]["objects"], 2);
    let refused = post(running.handle.admin, "/verify?sample=0").await;
    assert!(refused.starts_with("HTTP/1.1 400"), "{refused}");
    let status = status(&running).await;
    assert_eq!(status["verify"]["last"]["objects_checked"], 1);
    assert!(status["verify"]["last"]["age_seconds"].as_f64() >= Some(0.0));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_that_neither_log_nor_bucket_holds_are_found() {
    let world = World::new();
    let (log, _broker, running) = tiered(&world, 2_500).await;
    let report = verify(&running, "").await;
    let problem = &report["problems"][0];
    assert_eq!(problem["code"], "WB-314", "{report}");
    assert_eq!(
        (&problem["from_offset"], &problem["to_offset"]),
        (&log.end().into(), &2_500.into())
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_stays_quarantined_over_a_restart_until_it_is_sound() {
    let world = World::new();
    let (_log, broker, running) = tiered(&world, 0).await;
    let object = find(&world.path("bucket/v1/east/data"));
    let sound = std::fs::read(&object).unwrap();
    let mut bent = sound.clone();
    bent[5_000] ^= 4;
    std::fs::write(&object, bent).unwrap();
    let report = verify(&running, "bytes=true").await;
    assert_eq!(report["problems_found"], 1, "{report}");
    let listed = world.path("bucket/v1/east/quarantine");
    assert_eq!(std::fs::read_dir(&listed).unwrap().count(), 1);
    running.stop().await;

    let running = world.start(&broker).await;
    let name = object.file_name().unwrap().to_str().unwrap().to_owned();
    let named = status(&running).await["damaged"][0]["object"].to_string();
    assert!(named.contains(&name), "{named}");
    std::fs::write(&object, sound).unwrap();
    // Only what was read whole is proved.
    assert_eq!(verify(&running, "").await["ok"], true);
    assert_eq!(
        status(&running).await["damaged"].as_array().unwrap().len(),
        1
    );
    assert_eq!(verify(&running, "bytes=true").await["ok"], true);
    assert!(
        status(&running).await["damaged"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    assert_eq!(std::fs::read_dir(&listed).unwrap().count(), 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_runs_by_itself() {
    let world = World::new();
    let shape = [vec![(5, 300); 20]];
    let broker = FakeBroker::new(vec![Log::write(&world.path("data"), 0, &shape)]);
    let running = world
        .start_with(&broker, |options| {
            options.verify_interval = whimbrel_runtime::unit::Span::millis(50);
            options.verify_sample = 100;
            options.verify_rate = whimbrel_runtime::unit::Size(0);
        })
        .await;
    until("uploaded", || broker.verified(0) == 100).await;
    let mut checked = 0;
    for _ in 0..600 {
        checked = status(&running).await["verify"]["last"]["objects_checked"]
            .as_u64()
            .unwrap_or(0);
        if checked == 1 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(checked, 1);
    running.stop().await;
}
