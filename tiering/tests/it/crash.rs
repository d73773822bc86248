//! The daemon dies at every write it ever makes, before and after the store did it. After a new start the
//! bucket and its roots agree, nothing is missing, and nothing unnamed stays.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::sync::watch;
use whimbrel_fleet::{Daemon as Registered, HostPort, NodeId, Role, View};
use whimbrel_runtime::{Clock, Shutdown, Tasks, random};
use whimbrel_tiering::{
    MIN_CACHE,
    broker::BrokerLink,
    cache::{Cache, Shelf},
    committer::{CommitError, Committer, Context, Names},
    format::Keys,
    ops::Ops,
    pending::Pending,
    quarantine::Quarantine,
    reader::{Damage, Objects},
    retention::Retention,
    root::{MAX_BYTES, Root},
    skew::{Doubt, Skew},
    store::{Capabilities, Store},
    transfer::Transfer,
    uploader::{Refusals, Uploader},
};

use crate::{
    broker::FakeBroker,
    fault::{Fault, Plan},
    memory::Memory,
    support::{Log, until},
};

pub const SHARDS: u16 = 2;

pub struct Daemon {
    pub tasks: Tasks,
    pub committer: Committer,
    pub retention: Retention,
    pub uploader: Uploader,
}

fn skew(store: &Arc<dyn Store>, committer: &Committer, clock: &Clock) -> Skew {
    Skew::new(
        Arc::clone(store),
        Keys::new("east"),
        committer.clone(),
        clock.clone(),
        Doubt::default(),
    )
}

pub async fn daemon(
    store: Arc<dyn Store>,
    broker: &FakeBroker,
    dir: &Path,
    tasks: &Tasks,
) -> Daemon {
    try_daemon(store, broker, dir, tasks).await.unwrap()
}

pub async fn try_daemon(
    store: Arc<dyn Store>,
    broker: &FakeBroker,
    dir: &Path,
    tasks: &Tasks,
) -> Result<Daemon, CommitError> {
    let clock = Clock::system();
    let address = broker.serve(tasks).await;
    let link = BrokerLink::new(&HostPort::new("127.0.0.1", address.port()), clock.clone()).unwrap();
    let (keys, incarnation, ops) = (Keys::new("east"), random::uuid(), Ops::new(clock.clone()));
    let context = Context {
        store: Arc::clone(&store),
        keys: keys.clone(),
        region: "east".into(),
        incarnation,
        shards: SHARDS,
        clock: clock.clone(),
        tasks: tasks.clone(),
        ops: ops.clone(),
        region_mates: None,
        runs: Arc::default(),
        names: Names::default(),
    };
    let committer = Committer::start(&context).await?;
    let cache = Cache::open(&dir.join("cache"), MIN_CACHE.0).unwrap();
    let objects = Objects::new(
        Arc::clone(&store),
        Shelf::new(Arc::new(cache), clock.clone(), tasks.clone()),
        ops.clone(),
        clock.clone(),
        tasks.clone(),
    );
    let transfer = Transfer {
        store: Arc::clone(&store),
        capabilities: Capabilities::default(),
        clock: clock.clone(),
    };
    let uploader = Uploader {
        broker: link.clone(),
        committer: committer.clone(),
        transfer,
        keys: keys.clone(),
        region: "east".into(),
        incarnation,
        data_dir: dir.to_owned(),
        clock: clock.clone(),
        tasks: tasks.clone(),
        ops,
        pending: Arc::new(parking_lot::Mutex::new(Pending::default())),
        refusals: Refusals::default(),
        objects,
    };
    let quarantine = Quarantine::new(Arc::clone(&store), keys.clone(), Damage::default());
    let retention = Retention {
        skew: skew(&store, &committer, &clock),
        quarantine,
        broker: link,
        committer: committer.clone(),
        store,
        keys,
        incarnation,
        view: None,
        clock,
        tasks: tasks.clone(),
        interval: Duration::from_millis(10),
        grace: Duration::ZERO,
    };
    Ok(Daemon {
        tasks: tasks.clone(),
        committer,
        retention,
        uploader,
    })
}

pub fn logs(dir: &Path) -> Vec<Log> {
    (0..2)
        .map(|p| Log::write(dir, p, &[vec![(4, 50); 2], vec![(2, 500)], vec![(3, 10)]]))
        .collect()
}

/// Runs until everything is uploaded and one log start was followed, or until the death.
pub async fn live(store: Arc<dyn Store>, dir: &Path, dead: impl Fn() -> bool) {
    live_beside(FakeBroker::new(logs(dir)), store, dir, dead).await;
}

async fn live_beside(
    broker: FakeBroker,
    store: Arc<dyn Store>,
    dir: &Path,
    dead: impl Fn() -> bool,
) {
    let ends: Vec<_> = logs(dir).iter().map(Log::end).collect();
    broker.set_log_start(1, 8);
    let tasks = Tasks::new(Shutdown::new());
    let work = async {
        let d = daemon(store, &broker, dir, &tasks).await;
        let mut swept = d.retention.sweep().await.unwrap();
        d.tasks
            .spawn("uploader", whimbrel_runtime::OnError::Log, d.uploader.run());
        until("all uploaded", || {
            ends.iter()
                .enumerate()
                .all(|(p, end)| broker.verified(i32::try_from(p).unwrap()) == *end)
        })
        .await;
        d.retention.follow_log_starts().await;
        // What a death has cut short was spared until it was there again.
        let again = d.retention.look_again(&mut swept.spared).await;
        again.unwrap();
        assert!(swept.spared.is_empty(), "{:?}", swept.spared);
        let mut seen = std::collections::BTreeMap::new();
        d.retention.delete_pending(&mut seen).await.unwrap();
        assert!(
            d.committer
                .roots()
                .iter()
                .all(|root| root.pending.is_empty())
        );
    };
    let death = async {
        while !dead() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = death => {}
    }
    tasks.stop(Duration::ZERO).await;
}

/// The bucket is exactly what its roots say, and they say all that was written.
pub async fn check(store: &Memory, dir: &Path) {
    let keys = Keys::new("east");
    let mut named = BTreeSet::new();
    let mut ends = std::collections::BTreeMap::new();
    for shard in 0..SHARDS {
        let root =
            Root::decode(&store.get(&keys.root(shard), MAX_BYTES).await.unwrap().bytes).unwrap();
        for (at, partition) in &root.partitions {
            ends.insert(at.partition, (partition.start(), partition.end));
            for entry in &partition.entries {
                let key = entry.key(&keys, shard, *at);
                let found = store.get(&key, u64::MAX).await.unwrap();
                let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &found.bytes);
                assert_eq!(
                    (found.bytes.len() as u64, crc),
                    (entry.object_bytes, entry.crc64)
                );
                named.insert(key.to_string());
            }
        }
    }
    let there: BTreeSet<_> = store
        .list(&keys.data_prefix())
        .await
        .unwrap()
        .into_iter()
        .map(|l| l.key.to_string())
        .collect();
    assert_eq!(there, named, "objects in the bucket and in the roots");
    let log = logs(dir).remove(0);
    assert_eq!(
        ends.into_iter().collect::<Vec<_>>(),
        [(0, (0, log.end())), (1, (8, log.end()))]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_at_any_write_loses_and_leaks_nothing() {
    for inline in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let writes = lives(dir.path(), inline).await;
        // Small slices of a partition share an object: its claims, an object and a swap each.
        let least = if inline { 5 } else { 8 };
        assert!(writes > least, "only {writes} writes");
    }
}

/// Dies at each write of a life, and lives again; the number of writes.
async fn lives(dir: &Path, inline: bool) -> u64 {
    let broker = || {
        let broker = FakeBroker::new(logs(dir));
        if inline {
            broker.inline();
        }
        broker
    };
    for at in 0..200 {
        let mut reached = false;
        for after in [false, true] {
            let store = Memory::default();
            let fault = Fault::new(store.clone(), Plan::Death { at, after });
            let dead = Arc::clone(&fault.dead);
            let is_dead = || dead.load(Ordering::SeqCst);
            live_beside(broker(), Arc::new(fault), dir, is_dead).await;
            reached |= dead.load(Ordering::SeqCst);
            live_beside(broker(), Arc::new(store.clone()), dir, || false).await;
            check(&store, dir).await;
        }
        if !reached {
            return at;
        }
    }
    panic!("a life has no end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_and_lies_delays_but_never_bends() {
    let dir = tempfile::tempdir().unwrap();
    for seed in [3, 77, 1_234] {
        let store = Memory::default();
        let logs = logs(dir.path());
        let ends: Vec<_> = logs.iter().map(Log::end).collect();
        let broker = FakeBroker::new(logs);
        let tasks = Tasks::new(Shutdown::new());
        let d = daemon(
            Arc::new(Fault::seeded(store.clone(), seed)),
            &broker,
            dir.path(),
            &tasks,
        )
        .await;
        tasks.spawn("uploader", whimbrel_runtime::OnError::Log, d.uploader.run());
        until("all uploaded", || {
            ends.iter()
                .enumerate()
                .all(|(p, end)| broker.verified(i32::try_from(p).unwrap()) == *end)
        })
        .await;
        tasks.stop(Duration::ZERO).await;
        // A sound store and a new owner: what is unnamed goes, the rest is whole.
        live(Arc::new(store.clone()), dir.path(), || false).await;
        check(&store, dir.path()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_was_replaced_stops() {
    let dir = tempfile::tempdir().unwrap();
    let store = Memory::default();
    let broker = FakeBroker::new(logs(dir.path()));
    let (old, new) = (Tasks::new(Shutdown::new()), Tasks::new(Shutdown::new()));
    let first = daemon(Arc::new(store.clone()), &broker, dir.path(), &old).await;
    let second = daemon(Arc::new(store.clone()), &broker, dir.path(), &new).await;
    assert!(
        second
            .committer
            .roots()
            .iter()
            .all(|root| root.stamp.epoch == 2)
    );
    old.spawn(
        "uploader",
        whimbrel_runtime::OnError::Shutdown,
        first.uploader.run(),
    );
    old.shutdown().wait().await;
    assert!(
        old.failure().unwrap().contains("later owner"),
        "{:?}",
        old.failure()
    );
    let mut seen = std::collections::BTreeMap::new();
    assert_eq!(first.retention.delete_pending(&mut seen).await.unwrap(), 0);
    assert!(
        second
            .committer
            .roots()
            .iter()
            .all(|root| root.partitions.is_empty())
    );
    old.stop(Duration::ZERO).await;
    new.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_of_a_deleted_topic_go_and_those_of_an_unknown_one_stay() {
    let dir = tempfile::tempdir().unwrap();
    let store = Memory::default();
    let logs = logs(dir.path());
    let end = logs[0].end();
    let broker = FakeBroker::new(logs);
    let tasks = Tasks::new(Shutdown::new());
    let mut d = daemon(Arc::new(store.clone()), &broker, dir.path(), &tasks).await;
    // A fleet that knows the daemon, and not the topic.
    let mut view = View {
        daemons: vec![Registered {
            role: Role::Tiering,
            region: "east".into(),
            node: NodeId(1),
            incarnation: d.retention.incarnation,
            rpc: None,
            admin: HostPort::new("127.0.0.1", 1),
        }],
        ..View::default()
    };
    let (tell, told) = watch::channel(Arc::new(view.clone()));
    d.retention.view = Some(told);
    let uploading = Tasks::new(Shutdown::new());
    let uploader = Uploader {
        tasks: uploading.clone(),
        ..d.uploader
    };
    uploading.spawn("uploader", whimbrel_runtime::OnError::Log, uploader.run());
    until("all uploaded", || (0..2).all(|p| broker.verified(p) == end)).await;
    uploading.stop(Duration::ZERO).await;
    let objects = async || {
        let data = Keys::new("east").data_prefix();
        store.list(&data).await.unwrap().len()
    };
    let mut seen = std::collections::BTreeMap::new();
    assert_eq!(d.retention.forget_deleted().await.unwrap(), 0);
    d.retention.delete_pending(&mut seen).await.unwrap();
    assert_eq!(objects().await, 6);
    view.note_deleted(crate::support::at(0).topic_id);
    tell.send_replace(Arc::new(view.clone()));
    assert_eq!(d.retention.forget_deleted().await.unwrap(), 2);
    // The fleet registered a later daemon: nothing is deleted by this one.
    tell.send_replace(Arc::new(View {
        daemons: Vec::new(),
        ..view.clone()
    }));
    d.retention.delete_pending(&mut seen).await.unwrap();
    assert_eq!(objects().await, 6);
    tell.send_replace(Arc::new(view));
    d.retention.delete_pending(&mut seen).await.unwrap();
    assert_eq!(objects().await, 0);
    tasks.stop(Duration::ZERO).await;
}

/// Roots as they are, and the objects that they name.
pub async fn roots(store: &Memory) -> Vec<Vec<u8>> {
    let keys = Keys::new("east");
    let mut all = Vec::new();
    for shard in 0..SHARDS {
        let found = store.get(&keys.root(shard), MAX_BYTES).await;
        all.push(found.unwrap().bytes.to_vec());
    }
    all
}
