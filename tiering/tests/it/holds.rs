//! What another region reads by a root stays while its hold stands, whoever owns the shard, and goes afterwards.

use std::{fs, path::PathBuf};

use uuid::Uuid;
use whimbrel_rpc::proto::node::HoldRequest;
use whimbrel_runtime::unit::Span;
use whimbrel_tiering::{format::shard_of, root::Root};

use crate::{
    broker::FakeBroker,
    older_root::objects,
    support::{Log, at, until},
    verify::status,
    world::{Running, World},
};

/// Held, and of another shard.
const HELD: i32 = 0;

fn other() -> i32 {
    let is_other = |p: &i32| shard_of(at(*p), 16) != shard_of(at(HELD), 16);
    (1..).find(is_other).unwrap()
}

fn log(world: &World, partition: i32) -> Log {
    Log::write(
        &world.path("data"),
        partition,
        &[vec![(5, 300); 2], vec![(5, 300); 2], vec![(5, 300)]],
    )
}

fn root(world: &World) -> Root {
    let file = world.path(&format!("bucket/v1/east/root/{}", shard_of(at(HELD), 16)));
    Root::decode(&fs::read(file).unwrap()).unwrap()
}

/// The object that begins at `base`.
fn object(world: &World, partition: i32, base: i64) -> Option<PathBuf> {
    let part = format!("-{partition}-{base:020}-");
    let all = objects(&world.path("bucket/v1/east/data"));
    all.into_iter()
        .find(|path| path.display().to_string().contains(&part))
}

async fn hasty(world: &World, broker: &FakeBroker, silence: Span) -> Running {
    world
        .start_with(broker, |options| {
            options.delete_grace = Span::millis(1);
            options.retention_interval = Span::millis(10);
            options.hold_silence = silence;
        })
        .await
}

/// Three objects of each partition.
async fn filled(world: &World, silence: Span) -> (FakeBroker, Running) {
    let broker = FakeBroker::new(vec![log(world, HELD), log(world, other())]);
    let running = hasty(world, &broker, silence).await;
    until("uploaded", || broker.is_all_verified()).await;
    (broker, running)
}

async fn ask(running: &mut Running, nonce: u128, release: bool) -> bool {
    let request = HoldRequest {
        shard: shard_of(at(HELD), 16).into(),
        region: "west".to_owned(),
        incarnation: Uuid::from_u128(77).as_bytes().to_vec().into(),
        nonce: Uuid::from_u128(nonce).as_bytes().to_vec().into(),
        release,
    };
    let reply = running.client.hold(request).await.unwrap().into_inner();
    assert!(reply.patience_ms > 0);
    reply.stood
}

/// The logs begin at their second segments, and deletion had every chance.
async fn retention_passes(world: &World, broker: &FakeBroker) {
    let begins = log(world, HELD).segments[1].0;
    broker.set_log_start(HELD, begins);
    broker.set_log_start(other(), begins);
    until("unlinked", || !root(world).pending.is_empty()).await;
    until("what nobody holds is deleted", || {
        object(world, other(), 0).is_none()
    })
    .await;
    rounds(broker).await;
}

async fn rounds(broker: &FakeBroker) {
    let asked = broker.asked();
    until("retention was looked at again and again", || {
        broker.asked() > asked + 20
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_unlinked_under_a_hold_stays_until_the_last_one_is_released() {
    let world = World::new();
    let (broker, mut running) = filled(&world, Span::secs(900)).await;
    assert!(!ask(&mut running, 1, false).await);
    retention_passes(&world, &broker).await;
    assert!(!ask(&mut running, 2, false).await);
    assert!(ask(&mut running, 1, false).await, "renewed");
    assert!(object(&world, HELD, 0).is_some());
    let told = status(&running).await;
    let shards = told["shards"].as_array().unwrap();
    let held: Vec<_> = shards.iter().filter(|s| s["held_deletes"] == 1).collect();
    assert_eq!(held.len(), 1, "{told}");
    assert_eq!(held[0]["holds"][0]["region"], "west");
    ask(&mut running, 1, true).await;
    // The second hold came after it was unlinked.
    until("deleted", || object(&world, HELD, 0).is_none()).await;
    until("off the list", || root(&world).pending.is_empty()).await;
    assert_eq!(root(&world).holds.len(), 1);
    ask(&mut running, 2, true).await;
    until("as if there had been none", || {
        root(&world).holds.is_empty()
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hold_stands_under_the_next_owner_too() {
    let world = World::new();
    let (broker, mut running) = filled(&world, Span::secs(900)).await;
    ask(&mut running, 1, false).await;
    retention_passes(&world, &broker).await;
    running.stop().await;
    let mut running = hasty(&world, &broker, Span::secs(900)).await;
    rounds(&broker).await;
    assert!(object(&world, HELD, 0).is_some());
    assert!(ask(&mut running, 1, false).await, "it stood all along");
    ask(&mut running, 1, true).await;
    until("deleted", || object(&world, HELD, 0).is_none()).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_borrower_that_is_silent_holds_no_longer_and_is_told_so() {
    let world = World::new();
    let (broker, mut running) = filled(&world, Span::millis(500)).await;
    ask(&mut running, 1, false).await;
    let begins = log(&world, HELD).segments[1].0;
    broker.set_log_start(HELD, begins);
    until("void", || root(&world).holds.is_empty()).await;
    until("deleted", || object(&world, HELD, 0).is_none()).await;
    assert!(!ask(&mut running, 1, false).await, "it stands anew");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_a_hold_is_refused() {
    let world = World::new();
    let (_broker, mut running) = filled(&world, Span::secs(900)).await;
    let good = HoldRequest {
        shard: 1,
        region: "west".to_owned(),
        incarnation: vec![1; 16].into(),
        nonce: vec![2; 16].into(),
        release: false,
    };
    for bad in [
        HoldRequest {
            shard: 16,
            ..good.clone()
        },
        HoldRequest {
            shard: 70_000,
            ..good.clone()
        },
        HoldRequest {
            region: "../west".to_owned(),
            ..good.clone()
        },
        HoldRequest {
            region: "w".repeat(1_000),
            ..good.clone()
        },
        HoldRequest {
            incarnation: vec![1; 15].into(),
            ..good.clone()
        },
        HoldRequest {
            nonce: vec![1; 17].into(),
            ..good.clone()
        },
    ] {
        running.client.hold(bad).await.unwrap_err();
    }
    for n in 0..40_u8 {
        let more = HoldRequest {
            nonce: vec![n; 16].into(),
            ..good.clone()
        };
        assert_eq!(running.client.hold(more).await.is_ok(), n < 32, "{n}");
    }
    running.stop().await;
}
