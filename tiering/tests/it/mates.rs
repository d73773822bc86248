//! Daemons of one region, each with a view of the fleet of its own: one that was stopped or not heard of finds out
//! that its shards are another's, goes on beside it, and what it was asked for before changes nothing later.

mod door;
mod silent;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;
use whimbrel_fleet::{Daemon as Registered, EpochStart, NodeId, View};
use whimbrel_runtime::{Clock, OnError, Shutdown, Tasks};
use whimbrel_tiering::{
    committer::{Claims, CommitError, Committer, Context, Edit, Mates, Names, Outcome},
    format::Keys,
    ops::Ops,
    root::{Commit, Entry, MAX_BYTES, Partition, Root, Standing},
    store::Store,
};

use self::door::Door;
use crate::{
    broker::FakeBroker,
    crash::{Daemon, SHARDS, Who, daemon_of, named, whole_life},
    fault::{Fault, at_each_write, pause},
    memory::Memory,
    support::{Log, at, until},
};

/// Nobody is given up here for not answering, unless the test says so: views tell who is there.
const SILENCE: Duration = Duration::from_secs(100_000);

/// A daemon that is registered, with its clock and its view.
#[derive(Clone)]
struct Mate {
    tasks: Tasks,
    door: Door,
    me: Registered,
    clock: Clock,
    view: watch::Sender<Arc<View>>,
    silence: Duration,
}

impl Mate {
    async fn register(id: i32, clock: Clock) -> Self {
        let (tasks, door) = (Tasks::new(Shutdown::new()), Door::default());
        let me = door.open(id, &tasks).await;
        let view = watch::Sender::new(Arc::default());
        let mate = Self {
            tasks,
            door,
            me,
            clock,
            view,
            silence: SILENCE,
        };
        mate.sees(&[&mate], &[]);
        mate
    }

    /// What it believes from now on.
    fn sees(&self, all: &[&Self], fenced: &[i32]) {
        self.view.send_replace(Arc::new(View {
            daemons: all.iter().map(|mate| mate.me.clone()).collect(),
            fenced: fenced.iter().map(|id| NodeId(*id)).collect(),
            ..View::default()
        }));
    }

    fn mates(&self) -> Option<Mates> {
        Some(Mates {
            view: self.view.subscribe(),
            silence: self.silence,
        })
    }

    /// Only what changes roots; there is one shard.
    async fn commits(&self, store: Arc<dyn Store>) -> Committer {
        let context = Context {
            store,
            keys: Keys::new("east"),
            region: "east".into(),
            incarnation: self.me.incarnation,
            shards: 1,
            clock: self.clock.clone(),
            tasks: self.tasks.clone(),
            ops: Ops::new(self.clock.clone()),
            region_mates: self.mates(),
            runs: Arc::default(),
            names: Names::default(),
            claims: Claims::default(),
            hold_silence: Duration::from_secs(900),
        };
        let committer = Committer::start(&context).await.unwrap();
        self.door.lead_to(&committer);
        committer
    }

    /// All of a daemon.
    async fn works(&self, fault: &Fault<Memory>, broker: &FakeBroker, dir: &Path) -> Daemon {
        let who = Who {
            incarnation: self.me.incarnation,
            clock: self.clock.clone(),
            mates: self.mates(),
        };
        let store = Arc::new(fault.clone());
        let d = daemon_of(who, store, broker, dir, &self.tasks).await;
        let d = d.unwrap();
        self.door.lead_to(&d.committer);
        d
    }

    fn owns(&self, committer: &Committer) -> bool {
        let roots = committer.roots();
        let mut owners = roots.iter().map(|root| root.stamp.incarnation);
        owners.all(|owner| owner == self.me.incarnation)
    }

    async fn stop(&self) {
        self.tasks.stop(Duration::ZERO).await;
    }
}

/// Lets `clock` run ten times as fast as the world's while `work` goes on.
async fn hurried<T>(clock: &Clock, work: impl Future<Output = T>) -> T {
    ticking(clock, 10, work).await
}

async fn ticking<T>(clock: &Clock, times: u32, work: impl Future<Output = T>) -> T {
    const TICK: Duration = Duration::from_millis(10);
    let ticks = async {
        loop {
            clock.advance(TICK * times);
            tokio::time::sleep(TICK).await;
        }
    };
    tokio::select! {
        done = work => done,
        () = ticks => panic!("a clock has no end"),
    }
}

/// As its callers do: asks until the shard has an owner that answers.
async fn insist(committer: &Committer, shard: u16, edit: Edit) -> Result<Outcome, CommitError> {
    loop {
        match committer.edit(shard, edit.clone()).await {
            Err(error) if error.is_retryable() => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            other => return other,
        }
    }
}

async fn root(store: &Memory) -> Root {
    let found = store.get(&Keys::new("east").root(0), MAX_BYTES).await;
    Root::decode(&found.unwrap().bytes).unwrap()
}

/// `base..end` of the log that in region epoch 1 was of leader epoch 1, and in region epoch 2 is of 2 from 10 on.
fn commit(base: i64, end: i64, region_epoch: u32, writer_epoch: u64) -> Edit {
    let leader_epoch = if base < 10 {
        1
    } else {
        i32::try_from(region_epoch).unwrap()
    };
    let start = |epoch, start_offset| EpochStart {
        epoch,
        start_offset,
    };
    let mut lineage = vec![start(1, 0)];
    if leader_epoch == 2 {
        lineage.push(start(2, 10));
    }
    Edit::Commit(Box::new(Commit {
        at: at(0),
        topic: "t".into(),
        group: "default".into(),
        region_epoch,
        log_start: 0,
        lineage,
        entry: Entry {
            base,
            end,
            object_end: end,
            leader_epoch,
            writer_epoch,
            random: u64::from(region_epoch),
            object_bytes: 1_000,
            data_bytes: 900,
            records: (end - base).unsigned_abs(),
            first_timestamp_ms: 1,
            max_timestamp_ms: 2,
            crc64: 3,
            created_ms: 4,
            aborted: false,
            merged: None,
        },
    }))
}

/// The tail above the common point, as every replica of the old home cuts it.
fn cut() -> Edit {
    Edit::Truncate {
        at: at(0),
        epoch: 1,
        offset: 10,
        tail: 1,
    }
}

/// The word of the first home's leader.
fn raise(log_start: i64) -> Edit {
    let said = Standing {
        log_start,
        region_epoch: 1,
        leader_epoch: 1,
    };
    Edit::RaiseLogStart { at: at(0), said }
}

/// An owner's life in the first home's region: uploads, records deleted, the tail cut after a move; and one more
/// word of the first home, which arrives when another daemon may own the shard.
async fn first_life(fault: Fault<Memory>, committer: Committer, done: Arc<AtomicBool>) {
    until("an owner", || committer.root(0).unwrap().stamp.epoch > 0).await;
    let epoch = committer.root(0).unwrap().stamp.epoch;
    // What was uploaded for an owner before is uploaded again by others.
    let _ = committer.edit(0, commit(0, 10, 1, epoch)).await;
    let _ = committer.edit(0, commit(10, 20, 1, epoch)).await;
    let _ = insist(&committer, 0, raise(5)).await;
    let _ = insist(&committer, 0, cut()).await;
    done.store(true, Ordering::SeqCst);
    fault.resumed().await;
    let _ = insist(&committer, 0, raise(10)).await;
}

/// The owner after it, in the region of the new home: the log goes on from 10.
async fn second_life(committer: &Committer) -> Partition {
    let epoch = committer.root(0).unwrap().stamp.epoch;
    insist(committer, 0, cut()).await.unwrap();
    let end = || committer.partition(at(0)).map_or(0, |p| p.end);
    if end() == 0 {
        let first = commit(0, 10, 1, epoch);
        insist(committer, 0, first).await.unwrap();
    }
    assert_eq!(end(), 10);
    let next = commit(10, 30, 2, epoch);
    insist(committer, 0, next).await.unwrap();
    committer.partition(at(0)).unwrap()
}

/// An owner is stopped at every write; another one takes over, in the next home; the first goes on as its mate, and
/// sends it all that it was asked for.
#[expect(
    clippy::disallowed_methods,
    reason = "what is stopped is no task of anybody's"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_that_waited_in_a_stopped_owner_change_nothing_at_the_next() {
    let writes = at_each_write(pause, Memory::default, async |fault| {
        let first = Mate::register(1, Clock::manual()).await;
        let (clock, store) = (first.clock.clone(), Arc::new(fault.clone()));
        let old = hurried(&clock, first.commits(store)).await;
        let done = Arc::new(AtomicBool::new(false));
        let life = first_life(fault.clone(), old.clone(), Arc::clone(&done));
        let life = tokio::spawn(life);
        let is_done = || fault.is_struck() || done.load(Ordering::SeqCst);
        hurried(&clock, until("stopped, or done", is_done)).await;

        let second = Mate::register(11, Clock::system()).await;
        second.sees(&[&first, &second], &[1]);
        let new = second.commits(Arc::new(fault.store.clone())).await;
        until("another owner", || second.owns(&new)).await;
        let expected = second_life(&new).await;
        // The first sees that there is another, and nothing of itself.
        first.sees(&[&first, &second], &[]);
        fault.resume();
        hurried(&clock, life).await.unwrap();
        let there = root(&fault.store).await;
        assert_eq!(there.partitions[&at(0)], expected, "{:?}", fault.plan);
        assert_eq!(there.stamp.incarnation, second.me.incarnation);
        assert_eq!(old.root(0).unwrap().partitions, there.partitions);
        let failure = first.tasks.failure();
        assert_eq!(failure, None, "{:?}", fault.plan);
        first.stop().await;
        second.stop().await;
    })
    .await;
    assert!(writes >= 5, "only {writes} writes");
}

/// Nothing is asked of it: what it serves is as old as its root.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_nobody_hears_finds_out_without_an_edit() {
    let store = Memory::default();
    let first = Mate::register(1, Clock::manual()).await;
    let clock = first.clock.clone();
    let old = hurried(&clock, first.commits(Arc::new(store.clone()))).await;
    let owns = until("an owner", || first.owns(&old));
    hurried(&clock, owns).await;
    let second = Mate::register(11, Clock::system()).await;
    first.sees(&[&first, &second], &[]);
    second.sees(&[&first, &second], &[1]);
    let new = second.commits(Arc::new(store.clone())).await;
    until("another owner", || second.owns(&new)).await;
    let upload = commit(0, 10, 1, new.root(0).unwrap().stamp.epoch);
    insist(&new, 0, upload).await.unwrap();
    // Nothing is asked of the first.
    let knows = until("what the other uploaded", || {
        old.partition(at(0)).is_some_and(|p| p.end == 10)
    });
    hurried(&clock, knows).await;
    assert!(second.owns(&old));
    assert_eq!(first.tasks.failure(), None);
    first.stop().await;
    second.stop().await;
}

/// Whoever was stopped has not heard of anybody for long, and has not asked either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_of_its_own_is_nobodys_silence() {
    let store = Memory::default();
    let first = Mate::register(1, Clock::system()).await;
    let owner = first.commits(Arc::new(store.clone())).await;
    until("an owner", || first.owns(&owner)).await;
    let second = Mate {
        silence: Duration::from_secs(60),
        ..Mate::register(11, Clock::manual()).await
    };
    second.sees(&[&first, &second], &[]);
    let clock = second.clock.clone();
    let other = hurried(&clock, second.commits(Arc::new(store.clone()))).await;
    for base in (0..100).step_by(10) {
        // It is stopped for a while, and when it goes on it follows what the owner did.
        let epoch = owner.root(0).unwrap().stamp.epoch;
        owner
            .edit(0, commit(base, base + 10, 1, epoch))
            .await
            .unwrap();
        clock.advance(Duration::from_secs(600));
        let follows = || other.partition(at(0)).is_some_and(|p| p.end == base + 10);
        ticking(&clock, 1, until("the owner's commit", follows)).await;
        assert_eq!(other.root(0).unwrap().stamp.epoch, 1);
    }
    // One that is asked and does not answer is given up.
    first.stop().await;
    let is_heir = until("another owner", || second.owns(&other));
    hurried(&clock, is_heir).await;
    second.stop().await;
}

/// The same with all that a daemon does: it uploads on beside the one that took its shards, and its broker hears of
/// nothing too early.
#[expect(
    clippy::disallowed_methods,
    reason = "what is stopped is no task of anybody's"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_was_stopped_goes_on_beside_the_one_that_took_its_shards() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_owned();
    let writes = at_each_write(pause, Memory::default, async |fault| {
        let broker = || {
            let broker = FakeBroker::new(vec![log(&data)]).beside(&fault.store);
            broker.set_log_start(0, START);
            broker
        };
        let (first, mine) = (Mate::register(1, Clock::manual()).await, broker());
        let clock = first.clock.clone();
        let done = Arc::new(AtomicBool::new(false));
        let (life, told) = ((first.clone(), fault.clone()), Arc::clone(&done));
        let life = tokio::spawn(all_of_it(life, mine.clone(), data.clone(), told));
        let is_done = || fault.is_struck() || done.load(Ordering::SeqCst);
        hurried(&clock, until("stopped, or done", is_done)).await;

        let (second, theirs) = (Mate::register(11, Clock::system()).await, broker());
        second.sees(&[&first, &second], &[1]);
        let d = second.works(&fault.sound(), &theirs, &data).await;
        until("another owner", || second.owns(&d.committer)).await;
        let mut swept = d.retention.sweep().await.unwrap();
        second
            .tasks
            .spawn("uploader", OnError::Shutdown, d.uploader.run());
        until("all uploaded", || theirs.is_all_verified()).await;
        d.retention.follow_log_starts().await;
        d.retention.look_again(&mut swept.spared).await.unwrap();
        let mut seen = BTreeMap::new();
        d.retention.delete_pending(&mut seen).await.unwrap();
        let partitions = || {
            let roots = d.committer.roots().into_iter();
            roots
                .map(|root| root.partitions.clone())
                .collect::<Vec<_>>()
        };
        let before = partitions();
        first.sees(&[&first, &second], &[]);
        fault.resume();
        let old = hurried(&clock, life).await.unwrap();
        assert_eq!(partitions(), before, "{:?}", fault.plan);
        assert!(second.owns(&old), "{:?}", fault.plan);
        for mate in [&first, &second] {
            assert_eq!(mate.tasks.failure(), None, "{:?}", fault.plan);
            mate.stop().await;
        }
        for broker in [&mine, &theirs] {
            let too_early = broker.freed_too_early().await;
            assert!(too_early.is_empty(), "{:?}: {too_early:?}", fault.plan);
        }
        // What was uploaded too late is named by nobody, and goes.
        let tasks = Tasks::new(Shutdown::new());
        let store = Arc::new(fault.store.clone());
        whole_life(&broker(), store, &data, &tasks).await;
        tasks.stop(Duration::ZERO).await;
        let all = [(0, (START, log(&data).end()))];
        assert_eq!(named(&fault.store).await, all.into());
    })
    .await;
    assert!(writes > 8, "only {writes} writes");
}

/// Where the log begins in the end: behind its first segment.
const START: i64 = 8;

fn log(dir: &Path) -> Log {
    Log::write(dir, 0, &[vec![(4, 50); 2], vec![(2, 500)]])
}

/// Uploads all, follows a log start, deletes what nobody needs; and once more after it was stopped.
async fn all_of_it(
    (mate, fault): (Mate, Fault<Memory>),
    broker: FakeBroker,
    dir: PathBuf,
    done: Arc<AtomicBool>,
) -> Committer {
    let d = mate.works(&fault, &broker, &dir).await;
    mate.tasks
        .spawn("uploader", OnError::Shutdown, d.uploader.run());
    until("all uploaded", || broker.is_all_verified()).await;
    let mut seen = BTreeMap::new();
    d.retention.follow_log_starts().await;
    let _ = d.retention.delete_pending(&mut seen).await;
    done.store(true, Ordering::SeqCst);
    fault.resumed().await;
    for shard in 0..SHARDS {
        insist(&d.committer, shard, raise(0)).await.unwrap();
    }
    d.retention.follow_log_starts().await;
    let _ = d.retention.delete_pending(&mut seen).await;
    d.committer
}
