//! A region reads from the bucket of another one what its own does not have.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::sync::watch;
use whimbrel_fleet::View;
use whimbrel_rpc::proto::node::{self, read_reply::Outcome};
use whimbrel_runtime::unit::Span;
use whimbrel_tiering::{Options, format::shard_of, root::Root};

use crate::{
    broker::FakeBroker,
    older_root::objects,
    support::{Log, at, until},
    verify::status,
    world::{Running, World},
};

/// Two regions of one fleet, with a bucket and a daemon each.
struct Two {
    east: World,
    west: World,
    view: watch::Sender<Arc<View>>,
    home: FakeBroker,
    follower: FakeBroker,
}

impl Two {
    fn new() -> Self {
        Self {
            east: World::new(),
            west: World::new(),
            view: watch::Sender::new(Arc::default()),
            home: FakeBroker::default(),
            follower: FakeBroker::default(),
        }
    }

    fn log(&self) -> Log {
        let shape = vec![vec![(5, 3_000), (3, 200)]; 4];
        Log::write(&self.east.path("data"), 0, &shape)
    }

    /// The home, with all of the log in its bucket; it deletes as soon as it may.
    async fn lend(&self) -> Running {
        self.lend_for(Options::default().hold_silence).await
    }

    async fn lend_for(&self, silence: Span) -> Running {
        self.home.replace(vec![self.log()]);
        let changed = |options: &mut Options| {
            options.hold_silence = silence;
            options.delete_grace = Span::millis(1);
            options.retention_interval = Span::millis(10);
        };
        let running = self.east.start_seen(&self.view, &self.home, changed).await;
        until("uploaded", || self.home.is_all_verified()).await;
        running
    }

    async fn borrow(&self) -> Running {
        let bucket = format!("file://{}", self.east.path("bucket").display());
        self.borrow_from("east", bucket).await
    }

    async fn borrow_from(&self, region: &str, bucket: String) -> Running {
        let changed = |options: &mut Options| {
            options.region = "west".to_owned();
            options.node_id = 11;
            options.borrow = [(region.to_owned(), bucket)].into();
        };
        self.west
            .start_seen(&self.view, &self.follower, changed)
            .await
    }

    /// The follower's bucket gets what comes after the first segment.
    async fn follow(&self) {
        let mut log = Log::write(
            &self.west.path("data"),
            0,
            &vec![vec![(5, 3_000), (3, 200)]; 4],
        );
        log.segments.remove(0);
        log.lineage.remove(0);
        self.follower.replace(vec![log]);
        until("uploaded", || self.follower.is_all_verified()).await;
    }

    fn root(&self) -> Root {
        let file = self
            .east
            .path(&format!("bucket/v1/east/root/{}", shard_of(at(0), 16)));
        Root::decode(&fs::read(file).unwrap()).unwrap()
    }

    fn lent(&self) -> Vec<PathBuf> {
        objects(&self.east.path("bucket/v1/east/data"))
            .into_iter()
            .collect()
    }
}

async fn stop(running: Running) {
    assert!(running.tasks.stop(Duration::from_secs(10)).await.is_empty());
}

/// An answer that does not depend on what was read before.
async fn first(
    running: &mut Running,
    lineage: Vec<node::EpochStart>,
) -> Result<node::ReadReply, tonic::Status> {
    let request = node::ReadRequest {
        at: Some(at(0).into()),
        offset: 0,
        max_bytes: 1,
        wait_ms: 30_000,
        lineage,
        inline: true,
        doubt: false,
    };
    Ok(running.client.read(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_own_bucket_lacks_is_read_under_a_hold_and_the_lender_keeps_it_meanwhile() {
    let two = Two::new();
    let (lender, log) = (two.lend().await, two.log());
    let mut running = two.borrow().await;
    // All of it, and then only what lies below the own part.
    assert!(running.read_all(&log, 0, 4_000).await == log.bytes_from(0));
    two.follow().await;
    assert!(running.read_all(&log, 0, 4_000).await == log.bytes_from(0));
    let root = two.root();
    assert_eq!(root.holds.len(), 1);
    assert_eq!(
        (root.holds[0].region.as_str(), root.holds[0].incarnation),
        ("west", running.handle.incarnation)
    );
    let told = status(&running).await;
    assert_eq!(told["borrowed"][0]["region"], "east");
    assert_eq!(told["borrowed"][0]["shards"][0]["held"], true, "{told}");
    // The home lets go of two segments.
    let before = two.lent().len();
    two.home.set_log_start(0, log.segments[1].1);
    until("unlinked", || two.root().pending.len() == 2).await;
    let asked = two.home.asked();
    until("looked at often", || two.home.asked() > asked + 20).await;
    assert_eq!(two.lent().len(), before);
    assert!(running.read_all(&log, 0, 4_000).await == log.bytes_from(0));
    stop(running).await;
    until("released", || two.root().holds.is_empty()).await;
    until("deleted", || two.lent().len() == before - 2).await;
    stop(lender).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_on_and_on_keeps_the_lender_from_deleting_for_a_while_only() {
    let two = Two::new();
    let (lender, log) = (two.lend_for(Span::secs(3)).await, two.log());
    let mut running = two.borrow().await;
    first(&mut running, Vec::new()).await.unwrap();
    let taken: Vec<_> = two.root().holds.iter().map(|hold| hold.nonce).collect();
    let before = two.lent().len();
    two.home.set_log_start(0, log.segments[1].1);
    for _ in 0..6_000 {
        let left = log.segments[2].0;
        assert!(running.read_all(&log, left, 4_000).await == log.bytes_from(left));
        if two.lent().len() < before {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(two.lent().len() < before);
    let holds = two.root().holds;
    assert!(holds.iter().all(|hold| !taken.contains(&hold.nonce)));
    stop(running).await;
    stop(lender).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lender_whose_daemons_are_gone_is_read_without_a_hold() {
    let two = Two::new();
    let (lender, log) = (two.lend().await, two.log());
    stop(lender).await;
    let mut running = two.borrow().await;
    assert!(running.read_all(&log, 0, 4_000).await == log.bytes_from(0));
    let told = status(&running).await;
    let shard = &told["borrowed"][0]["shards"][0];
    assert_eq!(shard["held"], false, "{told}");
    assert!(shard["trouble"].is_string(), "{told}");
    assert!(two.root().holds.is_empty());
    // It is back, and is asked when the root is old.
    let lender = two.lend().await;
    until_held(&mut running).await;
    assert_eq!(two.root().holds.len(), 1);
    stop(running).await;
    stop(lender).await;
}

async fn until_held(running: &mut Running) {
    for _ in 0..1_000 {
        first(running, Vec::new()).await.unwrap();
        let told = status(running).await;
        if told["borrowed"][0]["shards"][0]["held"] == Value::Bool(true) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no hold was taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_of_another_lineage_is_not_read_from_the_lender() {
    let two = Two::new();
    let lender = two.lend().await;
    let mut running = two.borrow().await;
    let of = |epoch, start_offset| node::EpochStart {
        epoch,
        start_offset,
    };
    let same = first(&mut running, vec![of(1, 0)]).await.unwrap();
    assert_eq!(same.outcome(), Outcome::Ranges);
    let other = first(&mut running, vec![of(9, 0)]).await.unwrap();
    assert_eq!(other.outcome(), Outcome::NotTiered);
    stop(running).await;
    stop(lender).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_not_the_lenders_is_not_read() {
    let two = Two::new();
    let lender = two.lend().await;
    // Of another region, and no bucket at all: what it might hold is waited for, never said to be nowhere.
    let bucket = format!("file://{}", two.east.path("bucket").display());
    let nothing = format!("file://{}", two.west.path("data").display());
    for (region, bucket) in [("north", bucket), ("east", nothing)] {
        let mut running = two.borrow_from(region, bucket).await;
        let refused = first(&mut running, Vec::new()).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
        let told = status(&running).await;
        assert!(told["borrowed"][0]["trouble"].is_string(), "{told}");
        stop(running).await;
    }
    assert!(two.root().holds.is_empty());
    stop(lender).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_is_looked_for_in_the_lenders_part_first() {
    let two = Two::new();
    let (lender, log) = (two.lend().await, two.log());
    let mut running = two.borrow().await;
    two.follow().await;
    let own = log.segments[1].0;
    // Records are a millisecond apart, the first of them at 1,000.
    for offset in [0, own - 1, own, own + 1] {
        let request = node::TimestampRequest {
            at: Some(at(0).into()),
            timestamp_ms: 1_000 + offset,
        };
        let found = running.client.offset_for_timestamp(request).await;
        let found = found.unwrap().into_inner();
        assert_eq!((found.found, found.offset), (true, offset));
    }
    stop(running).await;
    stop(lender).await;
}
