//! A bucket that moves to another place: nothing is lost or named twice, whoever dies or is stopped at whatever
//! write, and readers notice nothing.

mod again;
mod left;
mod serving;
mod spilled;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use uuid::Uuid;
use whimbrel_runtime::{Clock, OnError, Shutdown, Tasks};
use whimbrel_tiering::{
    committer::{CommitError, Committer},
    format::{Keys, Unit},
    moving::{Mover, Tally, Trouble},
    ops::Ops,
    root::{MAX_BYTES, Moved},
    store::{Capabilities, Ledger, Marker, Placed, Store, check_marker},
};

use crate::{
    broker::FakeBroker,
    crash::{Daemon, SHARDS, check, live, logs, roots, try_daemon},
    fault::{Fault, Plan, at_each_write, death, pause},
    memory::Memory,
    support::until,
    zombie::refuses_edits,
};

const NEW: &str = "memory:new";

/// The old place and the new one, with one fate.
#[derive(Clone)]
struct Two {
    from: Fault<Memory>,
    to: Fault<Memory>,
}

impl Two {
    fn new(from: Fault<Memory>) -> Self {
        Self::into(from, Memory::default())
    }

    fn into(from: Fault<Memory>, to: Memory) -> Self {
        let to = Fault {
            store: to,
            ..from.clone()
        };
        Self { from, to }
    }

    /// As another process has them, which nothing happens to.
    fn sound(&self) -> Self {
        Self {
            from: self.from.sound(),
            to: self.to.sound(),
        }
    }

    fn placed(&self) -> Placed {
        let to: Arc<dyn Store> = Arc::new(self.to.clone());
        let open = Arc::new(move |_: &str| Ok(Arc::clone(&to)));
        Placed::new(Arc::new(self.from.clone()), Keys::new("east"), open)
    }
}

fn mover(d: &Daemon, placed: &Placed, dir: &Path) -> Mover {
    Mover {
        placed: placed.clone(),
        keys: Keys::new("east"),
        fleet_id: "fleet-1".into(),
        region: "east".into(),
        from: "memory:old".into(),
        incarnation: d.retention.incarnation,
        committer: d.committer.clone(),
        capabilities: Capabilities::default(),
        scratch_dir: dir.to_owned(),
        clock: Clock::system(),
        tasks: d.tasks.clone(),
        ops: Ops::new(Clock::system()),
        store: Arc::new(placed.clone()),
        ledger: Ledger::new(Keys::new("east")),
        request_timeout: Duration::from_secs(5),
        tally: Tally::default(),
        trouble: Trouble::default(),
        wake: Arc::default(),
    }
}

/// A bucket with its marker and nothing else.
async fn begun() -> Memory {
    let store = Memory::default();
    mark(&store).await;
    store
}

pub async fn mark(store: &dyn Store) {
    let marker = Marker {
        format: 1,
        fleet_id: "fleet-1".into(),
        region: "east".into(),
        incarnation: Uuid::from_u128(0xb0c),
        shards: SHARDS,
        created_ms: 1,
    };
    let marked = check_marker(store, &Keys::new("east"), &marker).await;
    assert_eq!(marked.unwrap(), marker);
}

/// A bucket in which a daemon has lived.
async fn lived(dir: &Path) -> Memory {
    let store = begun().await;
    live(&Fault::new(store.clone(), Plan::Nothing), dir).await;
    store
}

/// What has carried out a move.
pub struct Life {
    pub committer: Committer,
    pub tally: Tally,
}

/// Orders the move and carries it out while uploads go on; returns when all is moved and uploaded, or the daemon ends.
pub async fn life(
    placed: &Placed,
    broker: &FakeBroker,
    dir: &Path,
    tasks: &Tasks,
) -> Result<Life, CommitError> {
    let d = try_daemon(Arc::new(placed.clone()), broker, dir, tasks).await?;
    let mover = mover(&d, placed, dir);
    let tally = mover.tally.clone();
    tasks.spawn("uploader", OnError::Log, d.uploader.run());
    while tasks.failure().is_none() {
        // An order whose answer was lost stands, or is made again.
        let ordered = mover.order_at(NEW, 0).await.is_ok();
        if ordered && mover.round().await.is_ok_and(|done| done) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let (failed, shutdown) = (tasks.clone(), tasks.shutdown());
    let uploaded = until("all uploaded", || {
        failed.failure().is_some() || broker.is_all_verified()
    });
    let _ = shutdown.unless(uploaded).await;
    Ok(Life {
        committer: d.committer,
        tally,
    })
}

/// Every root of the old place is a tombstone that names the new one.
async fn buried(from: &Memory) {
    let keys = Keys::new("east");
    for unit in (0..SHARDS).map(Unit::Shard).chain([Unit::Meta]) {
        let found = from.get(&keys.head_of(unit).unwrap(), MAX_BYTES).await;
        let moved = Moved::decode(&found.unwrap().bytes).unwrap();
        assert_eq!((moved.unit, moved.to.as_str()), (unit, NEW));
    }
}

/// A life that may end with a death, and another that nothing happens to.
async fn moves(two: &Two, dir: &Path) {
    for two in [two.clone(), two.sound()] {
        let broker = FakeBroker::new(logs(dir));
        let tasks = Tasks::new(Shutdown::new());
        let lived = async { drop(life(&two.placed(), &broker, dir, &tasks).await.unwrap()) };
        two.from.or_death(lived).await;
        tasks.stop(Duration::ZERO).await;
    }
}

/// Tombstones stand in the old place; whoever is told of the new one alone finds everything there and nothing more.
async fn arrived(two: &Two, dir: &Path) {
    buried(&two.from.store).await;
    live(&two.to.sound(), dir).await;
    check(&two.to.store, dir).await;
}

/// A daemon dies at every write it makes while its bucket moves, before and after the store did it; another start
/// finishes; a third, told of the new place alone, finds everything and nothing more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_at_any_write_of_a_move_loses_and_leaks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let template = begun().await;
    let writes = at_each_write(
        death,
        || template.branch(),
        async |fault| {
            let two = Two::new(fault.clone());
            moves(&two, dir.path()).await;
            arrived(&two, dir.path()).await;
        },
    )
    .await;
    assert!(writes > 20, "only {writes} writes");
}

/// The same with a bucket that is full, nothing more to come, and every object of it in the new place afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_there_before_is_there_after_a_death_at_any_write() {
    let dir = tempfile::tempdir().unwrap();
    let template = lived(dir.path()).await;
    at_each_write(
        death,
        || template.branch(),
        async |fault| {
            let two = Two::new(fault.clone());
            let before = fault.store.branch();
            moves(&two, dir.path()).await;
            let data = Keys::new("east").data_prefix();
            for listed in before.list(&data).await.unwrap() {
                // The old place keeps what it had.
                assert!(
                    two.from.store.head(&listed.key).await.is_ok(),
                    "{}",
                    listed.key
                );
                let there = two.to.store.head(&listed.key).await.unwrap();
                assert_eq!(there.size, listed.size);
            }
            arrived(&two, dir.path()).await;
        },
    )
    .await;
}

/// A daemon is stopped at every write of its move; another one takes over, finishes the move and goes on at the new
/// place; the first goes on and changes nothing.
#[expect(
    clippy::disallowed_methods,
    reason = "what is stopped is no task of anybody's"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mover_that_was_stopped_and_replaced_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let template = begun().await;
    let writes = at_each_write(
        pause,
        || template.branch(),
        async |fault| {
            let (two, done) = (Two::new(fault.clone()), Arc::new(AtomicBool::new(false)));
            let tasks = Tasks::new(Shutdown::new());
            let first = tokio::spawn(zombie(
                two.clone(),
                dir.path().to_owned(),
                tasks.clone(),
                Arc::clone(&done),
            ));
            until("stopped, or done with everything", || {
                fault.is_struck() || done.load(Ordering::SeqCst)
            })
            .await;
            let heirs = Tasks::new(Shutdown::new());
            let broker = FakeBroker::new(logs(dir.path()));
            let heir = life(&two.sound().placed(), &broker, dir.path(), &heirs).await;
            drop(heir.unwrap());
            heirs.stop(Duration::ZERO).await;
            let before = (roots(&two.from.store).await, roots(&two.to.store).await);
            fault.resume();
            assert!(first.await.unwrap(), "{:?}", fault.plan);
            let after = (roots(&two.from.store).await, roots(&two.to.store).await);
            assert!(before == after, "{:?}", fault.plan);
            tasks.stop(Duration::ZERO).await;
            arrived(&two, dir.path()).await;
        },
    )
    .await;
    assert!(writes > 20, "only {writes} writes");
}

/// A move, and then one more edit of every shard: true when those were refused, or the daemon ended before.
async fn zombie(two: Two, dir: PathBuf, tasks: Tasks, done: Arc<AtomicBool>) -> bool {
    let broker = FakeBroker::new(logs(&dir));
    let lived = life(&two.placed(), &broker, &dir, &tasks).await;
    done.store(true, Ordering::SeqCst);
    two.from.resumed().await;
    match lived {
        Ok(life) => refuses_edits(&life.committer).await,
        Err(_) => true,
    }
}

/// A store that answers wrongly and late to every third request delays a move and bends nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_that_fail_and_lie_delay_a_move_and_bend_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for seed in [5, 91, 4_321] {
        let two = Two::new(Fault::seeded(lived(dir.path()).await, seed));
        let broker = FakeBroker::new(logs(dir.path()));
        let tasks = Tasks::new(Shutdown::new());
        drop(
            life(&two.placed(), &broker, dir.path(), &tasks)
                .await
                .unwrap(),
        );
        tasks.stop(Duration::ZERO).await;
        arrived(&two, dir.path()).await;
    }
}
