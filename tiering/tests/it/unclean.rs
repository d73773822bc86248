//! A leader whose log has fewer records than the bucket: the last one that had them is gone, and others follow in their
//! place.

use std::fs;

use whimbrel_rpc::proto::node::{self, read_reply::Outcome};

use crate::{
    broker::FakeBroker,
    daemon::request,
    support::{Log, at, until},
    usage,
    verify::{ask, status, verify},
    world::{Running, World},
};

const SEGMENT: [(usize, usize); 2] = [(5, 300), (5, 300)];

/// Ten records a segment, of these epochs.
fn log(world: &World, name: &str, epochs: &[i32]) -> Log {
    let dir = world.path("data").join(name);
    fs::create_dir_all(&dir).unwrap();
    let segment = SEGMENT.to_vec();
    Log::of_epochs(&dir, 0, epochs.iter().map(|epoch| (*epoch, &segment)))
}

async fn refused(running: &Running) -> String {
    for _ in 0..3_000 {
        let told = status(running).await["refused"].to_string();
        if told.contains("lineage") {
            return told;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("nothing was refused");
}

/// As a reader of `log` asks.
async fn outcome(running: &mut Running, log: &Log, offset: i64) -> Outcome {
    let mut lineage = log.lineage.clone();
    lineage.dedup();
    let lineage = lineage.iter().map(|e| node::EpochStart {
        epoch: e.epoch,
        start_offset: e.start_offset,
    });
    let request = node::ReadRequest {
        at: Some(at(0).into()),
        offset,
        max_bytes: 1 << 20,
        wait_ms: 30_000,
        lineage: lineage.collect(),
        ..node::ReadRequest::default()
    };
    running.ask(request).await.outcome()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_with_fewer_records_than_the_bucket_adds_nothing_before_the_others_are_set_aside()
{
    let world = World::new();
    let before = log(&world, "before", &[1, 2, 3]);
    let broker = FakeBroker::new(vec![log(&world, "before", &[1, 2, 3])]);
    let mut running = world.start(&broker).await;
    until("uploaded", || broker.is_all_verified()).await;
    // Of the ten records of epoch 1 it has all, of the other twenty none; its own go on to 50.
    let after = log(&world, "after", &[1, 5, 5, 5, 5]);
    broker.replace(vec![log(&world, "after", &[1, 5, 5, 5, 5])]);
    let told = refused(&running).await;
    assert!(
        told.contains("WB-314") && told.contains("epoch 5"),
        "{told}"
    );
    assert_eq!(broker.verified(0), before.end());
    // What both have is read, what the bucket alone has is not this leader's.
    assert_eq!(outcome(&mut running, &after, 9).await, Outcome::Ranges);
    assert_eq!(outcome(&mut running, &after, 10).await, Outcome::NotTiered);
    assert_eq!(outcome(&mut running, &before, 10).await, Outcome::Ranges);

    let cut = node::TruncateRequest {
        at: Some(at(0).into()),
        epoch: 1,
        offset: 10,
        tail_epoch: Some(2),
    };
    let cut = running.client.truncate(cut).await.unwrap().into_inner();
    assert_eq!((cut.orphaned_objects.len(), cut.end_offset), (2, 10));
    until("uploaded", || broker.is_all_verified()).await;
    assert!(running.read_all(&after, 0, 1 << 20).await == after.bytes_from(0));
    // The others' records stay in the bucket.
    for object in &cut.orphaned_objects {
        assert!(world.path("bucket").join(object).exists(), "{object}");
    }
    let report = verify(&running, "bytes=true").await;
    assert_eq!(report["ok"], true, "{report}");
    running.stop().await;
    let strays = usage::strays(&world.path("bucket"));
    assert!(strays.is_empty(), "{strays:?}");
}

/// The operator's way out, where nobody who has the bucket's records is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_bucket_alone_has_is_set_aside_by_plan_and_kept_and_the_log_goes_up() {
    let world = World::new();
    let before = log(&world, "before", &[1, 2, 3]);
    let broker = FakeBroker::new(vec![log(&world, "before", &[1, 2, 3])]);
    let mut running = world.start(&broker).await;
    let admin = running.handle.admin;
    until("uploaded", || broker.is_all_verified()).await;
    let path = "POST /set-aside?topic=access.log&partition=0";
    let nothing = request(admin, path).await;
    assert!(
        nothing.starts_with("HTTP/1.1 409") && nothing.contains("one lineage"),
        "{nothing}"
    );
    let unknown = request(admin, "POST /set-aside?topic=other&partition=0").await;
    assert!(unknown.starts_with("HTTP/1.1 404"), "{unknown}");
    // A copy that was left behind by an election of others.
    broker.replace(vec![log(&world, "stale", &[1, 1, 1])]);
    let stale = request(admin, path).await;
    assert!(
        stale.starts_with("HTTP/1.1 409") && stale.contains("not the later one"),
        "{stale}"
    );

    let after = log(&world, "after", &[1, 5, 5, 5, 5]);
    broker.replace(vec![log(&world, "after", &[1, 5, 5, 5, 5])]);
    refused(&running).await;
    let plan = ask(admin, path).await;
    assert_eq!(
        (&plan["offset"], &plan["epoch"], &plan["applied"]),
        (&10.into(), &1.into(), &false.into())
    );
    assert_eq!(
        (&plan["bucket_epoch"], &plan["log_epoch"]),
        (&2.into(), &5.into()),
        "{plan}"
    );
    assert_eq!(broker.verified(0), before.end());
    let drifted = request(admin, &format!("{path}&apply=other")).await;
    assert!(drifted.starts_with("HTTP/1.1 409"), "{drifted}");
    let hash = plan["hash"].as_str().unwrap();
    let done = ask(admin, &format!("{path}&apply={hash}")).await;
    assert_eq!(
        (&done["applied"], &done["objects"]),
        (&true.into(), &plan["objects"]),
        "{done}"
    );
    until("uploaded", || broker.is_all_verified()).await;
    assert!(running.read_all(&after, 0, 1 << 20).await == after.bytes_from(0));
    let kept = done["objects"].as_array().unwrap();
    assert_eq!(kept.len(), 2);
    for object in kept {
        assert!(
            world.path("bucket").join(object.as_str().unwrap()).exists(),
            "{object}"
        );
    }
    let report = verify(&running, "bytes=true").await;
    assert_eq!(report["ok"], true, "{report}");
    running.stop().await;
}
