//! The daemon dies at every write it ever makes, before and after the store did it. After a new start the
//! bucket and its roots agree, nothing is missing, and nothing unnamed stays.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio::sync::watch;
use uuid::Uuid;
use whimbrel_fleet::{Daemon as Registered, HostPort, NodeId, Role, View};
use whimbrel_runtime::{Clock, Shutdown, Tasks, random};
use whimbrel_tiering::{
    MIN_CACHE,
    broker::BrokerLink,
    cache::{Cache, Shelf},
    committer::{Claims, CommitError, Committer, Context, Mates, Names},
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
    fault::{Fault, Plan, at_each_write, death},
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
    let alone = Who {
        incarnation: random::uuid(),
        clock: Clock::system(),
        mates: None,
    };
    daemon_of(alone, store, broker, dir, tasks).await
}

/// As whom, and among whom, a daemon runs.
pub struct Who {
    pub incarnation: Uuid,
    pub clock: Clock,
    pub mates: Option<Mates>,
}

pub async fn daemon_of(
    who: Who,
    store: Arc<dyn Store>,
    broker: &FakeBroker,
    dir: &Path,
    tasks: &Tasks,
) -> Result<Daemon, CommitError> {
    let Who {
        incarnation,
        clock,
        mates,
    } = who;
    let view = mates.as_ref().map(|mates| mates.view.clone());
    let address = broker.serve(tasks).await;
    let link = BrokerLink::new(&HostPort::new("127.0.0.1", address.port()), clock.clone()).unwrap();
    let (keys, ops) = (Keys::new("east"), Ops::new(clock.clone()));
    let context = Context {
        store: Arc::clone(&store),
        keys: keys.clone(),
        region: "east".into(),
        incarnation,
        shards: SHARDS,
        clock: clock.clone(),
        tasks: tasks.clone(),
        ops: ops.clone(),
        region_mates: mates,
        runs: Arc::default(),
        names: Names::default(),
        claims: Claims::default(),
        hold_silence: Duration::from_secs(900),
    };
    let committer = Committer::start(&context).await?;
    let objects = objects(&store, dir, &ops, &clock, tasks);
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
        view,
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

fn objects(store: &Arc<dyn Store>, dir: &Path, ops: &Ops, clock: &Clock, tasks: &Tasks) -> Objects {
    let cache = Cache::open(&dir.join("cache"), MIN_CACHE.0).unwrap();
    Objects::new(
        Arc::clone(store),
        Shelf::new(Arc::new(cache), clock.clone(), tasks.clone()),
        ops.clone(),
        clock.clone(),
        tasks.clone(),
    )
}

pub fn logs(dir: &Path) -> Vec<Log> {
    (0..2)
        .map(|p| Log::write(dir, p, &[vec![(4, 50); 2], vec![(2, 500)], vec![(3, 10)]]))
        .collect()
}

/// Runs until everything is uploaded and one log start was followed, or until the death.
pub async fn live(fault: &Fault<Memory>, dir: &Path) {
    live_beside(FakeBroker::new(logs(dir)), fault, dir).await;
}

async fn live_beside(broker: FakeBroker, fault: &Fault<Memory>, dir: &Path) {
    let broker = broker.beside(&fault.store);
    broker.set_log_start(1, 8);
    let tasks = Tasks::new(Shutdown::new());
    let life = whole_life(&broker, Arc::new(fault.clone()), dir, &tasks);
    fault.or_death(life).await;
    tasks.stop(Duration::ZERO).await;
    let too_early = broker.freed_too_early().await;
    assert!(too_early.is_empty(), "{:?}: {too_early:?}", fault.plan);
}

/// Uploads all that the broker has, follows its log starts, deletes what nobody needs.
pub async fn whole_life(broker: &FakeBroker, store: Arc<dyn Store>, dir: &Path, tasks: &Tasks) {
    let d = daemon(store, broker, dir, tasks).await;
    let mut swept = d.retention.sweep().await.unwrap();
    d.tasks
        .spawn("uploader", whimbrel_runtime::OnError::Log, d.uploader.run());
    until("all uploaded", || broker.is_all_verified()).await;
    d.retention.follow_log_starts().await;
    // What a death has cut short was spared until it was there again.
    let again = d.retention.look_again(&mut swept.spared).await;
    again.unwrap();
    assert!(swept.spared.is_empty(), "{:?}", swept.spared);
    let mut seen = BTreeMap::new();
    d.retention.delete_pending(&mut seen).await.unwrap();
    assert!(
        d.committer
            .roots()
            .iter()
            .all(|root| root.pending.is_empty())
    );
}

/// The bucket is exactly what its roots say, and they say all that was written.
pub async fn check(store: &Memory, dir: &Path) {
    let log = logs(dir).remove(0);
    let all = [(0, (0, log.end())), (1, (8, log.end()))];
    assert_eq!(named(store).await, all.into());
}

/// The bucket is exactly what its roots say; what they have of each partition.
pub async fn named(store: &Memory) -> BTreeMap<i32, (i64, i64)> {
    let keys = Keys::new("east");
    let mut named = BTreeSet::new();
    let mut bounds = BTreeMap::new();
    for shard in 0..SHARDS {
        let root =
            Root::decode(&store.get(&keys.root(shard), MAX_BYTES).await.unwrap().bytes).unwrap();
        for (at, partition) in &root.partitions {
            bounds.insert(at.partition, (partition.start(), partition.end));
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
    bounds
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
    at_each_write(death, Memory::default, async |fault| {
        live_beside(broker(), &fault, dir).await;
        live_beside(broker(), &fault.sound(), dir).await;
        check(&fault.store, dir).await;
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_and_lies_delays_but_never_bends() {
    let dir = tempfile::tempdir().unwrap();
    for seed in [3, 77, 1_234] {
        let store = Memory::default();
        let logs = logs(dir.path());
        let ends: Vec<_> = logs.iter().map(Log::end).collect();
        let broker = FakeBroker::new(logs).beside(&store);
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
        let too_early = broker.freed_too_early().await;
        assert!(too_early.is_empty(), "seed {seed}: {too_early:?}");
        // A sound store and a new owner: what is unnamed goes, the rest is whole.
        live(&Fault::new(store.clone(), Plan::Nothing), dir.path()).await;
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
    let mut seen = BTreeMap::new();
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

/// A fleet that knows this daemon, and no topic.
pub fn fleet_of(incarnation: Uuid) -> View {
    View {
        daemons: vec![Registered {
            role: Role::Tiering,
            region: "east".into(),
            node: NodeId(1),
            incarnation,
            rpc: None,
            admin: HostPort::new("127.0.0.1", 1),
        }],
        ..View::default()
    }
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
    let mut view = fleet_of(d.retention.incarnation);
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
    let mut seen = BTreeMap::new();
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
