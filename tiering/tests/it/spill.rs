//! A shard with far more objects than its root can hold.

use std::sync::Arc;

use uuid::Uuid;
use whimbrel_fleet::EpochStart;
use whimbrel_runtime::{Clock, Shutdown, Tasks, random};
use whimbrel_tiering::{
    committer::{Claims, Committer, Context, Edit, Names, Outcome},
    format::Keys,
    ops::Ops,
    root::{Commit, Entry, MAX_BYTES, Root, Standing},
    store::Store,
};

use crate::{
    fault::{Fault, at_each_write, death},
    memory::Memory,
    support::at,
};

const OBJECTS: i64 = 9_000;

/// The `n`th object of a partition, of ten records.
pub fn commit(n: i64) -> Commit {
    Commit {
        at: at(0),
        topic: "t".into(),
        group: "default".into(),
        region_epoch: 1,
        log_start: 0,
        lineage: vec![EpochStart {
            epoch: 1,
            start_offset: 0,
        }],
        entry: Entry {
            base: n * 10,
            end: n * 10 + 10,
            object_end: n * 10 + 10,
            leader_epoch: 1,
            writer_epoch: 1,
            random: u64::try_from(n).unwrap(),
            object_bytes: 1_000,
            data_bytes: 900,
            records: 10,
            first_timestamp_ms: n,
            max_timestamp_ms: n,
            crc64: 3,
            created_ms: 4,
            aborted: false,
            merged: None,
        },
    }
}

/// As the leader says it whose records [`commit`] makes.
fn said(log_start: i64) -> Standing {
    Standing {
        log_start,
        region_epoch: 1,
        leader_epoch: 1,
    }
}

async fn claim(store: &Memory, tasks: &Tasks) -> Committer {
    claim_on(Arc::new(store.clone()), tasks).await
}

async fn claim_on(store: Arc<dyn Store>, tasks: &Tasks) -> Committer {
    let clock = Clock::system();
    let context = Context {
        store,
        keys: Keys::new("east"),
        region: "east".into(),
        incarnation: random::uuid(),
        shards: 1,
        clock: clock.clone(),
        tasks: tasks.clone(),
        ops: Ops::new(clock),
        region_mates: None,
        runs: Arc::default(),
        names: Names::default(),
        claims: Claims::default(),
        hold_silence: std::time::Duration::from_secs(900),
    };
    Committer::start(&context).await.unwrap()
}

async fn root(store: &Memory) -> Root {
    let found = store.get(&Keys::new("east").root(0), MAX_BYTES).await;
    Root::decode(&found.unwrap().bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_stays_small_whatever_it_names() {
    let (store, tasks) = (Memory::default(), Tasks::new(Shutdown::new()));
    let committer = claim(&store, &tasks).await;
    for from in (0..OBJECTS).step_by(500) {
        let edit = Edit::CommitAll((from..from + 500).map(commit).collect());
        let outcome = committer.edit(0, edit).await.unwrap();
        assert!(matches!(&outcome, Outcome::Committed(refused) if refused.is_empty()));
        assert!(root(&store).await.encode().len() as u64 <= MAX_BYTES * 3 / 4);
    }
    tasks.stop(std::time::Duration::ZERO).await;
    // Another owner finds all of it, and frees and cuts what lies in parts.
    let tasks = Tasks::new(Shutdown::new());
    let committer = claim(&store, &tasks).await;
    let partition = committer.partition(at(0)).unwrap();
    assert_eq!(partition.objects(), OBJECTS.unsigned_abs());
    assert!(partition.runs.len() < 20, "{} runs", partition.runs.len());
    for offset in [0, 12_345, 40_007, 89_999] {
        let run = partition.run_at(offset);
        let older = match run {
            Some(run) => committer.runs().read(run).await.unwrap().to_vec(),
            None => partition.entries.clone(),
        };
        let entry = older.iter().find(|e| (e.base..e.end).contains(&offset));
        assert_eq!(entry.unwrap().base, offset / 10 * 10);
    }
    let raise = Edit::RaiseLogStart {
        at: at(0),
        said: said(10_005),
    };
    committer.edit(0, raise).await.unwrap();
    let cut = Edit::Truncate {
        at: at(0),
        epoch: 1,
        offset: 80_005,
        tail: 1,
    };
    // Another lineage is meant: not even what lies in parts is looked at.
    let late = Edit::Truncate {
        at: at(0),
        epoch: 1,
        offset: 20_005,
        tail: 0,
    };
    committer.edit(0, late).await.unwrap();
    assert_eq!(root(&store).await.partitions[&at(0)].end, OBJECTS * 10);
    committer.edit(0, cut).await.unwrap();
    let now = root(&store).await;
    let partition = &now.partitions[&at(0)];
    assert_eq!((partition.start(), partition.end), (10_005, 80_005));
    assert_eq!(partition.objects(), 7_001);
    let data = |key: &whimbrel_tiering::format::Key| key.as_str().contains("/data/");
    assert_eq!(now.pending.iter().filter(|u| data(&u.key)).count(), 1_000);
    assert_eq!(now.orphaned.len(), 1_000);
    tasks.stop(std::time::Duration::ZERO).await;
    assert_ne!(now.stamp.nonce, Uuid::nil());
}

/// Commits that make the root give entries away, by the owner in `epoch`; those that are in already stay.
async fn grow(fault: &Fault<Memory>) {
    let tasks = &Tasks::new(Shutdown::new());
    let work = async {
        let committer = claim_on(Arc::new(fault.clone()), tasks).await;
        let epoch = committer.root(0).unwrap().stamp.epoch;
        let commits = (FULL..FULL + 500).map(|n| {
            let mut commit = commit(n);
            commit.entry.writer_epoch = epoch;
            commit
        });
        let all = Edit::CommitAll(commits.collect());
        let _ = committer.edit(0, all).await;
        let raise = Edit::RaiseLogStart {
            at: at(0),
            said: said(2_005),
        };
        let _ = committer.edit(0, raise).await;
        tasks.stop(std::time::Duration::ZERO).await;
    };
    fault.or_death(work).await;
    tasks.stop(std::time::Duration::ZERO).await;
}

/// Just below what makes a root give entries away.
const FULL: i64 = 6_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_at_any_write_of_a_root_that_gives_entries_away_loses_none() {
    let (full, tasks) = (Memory::default(), Tasks::new(Shutdown::new()));
    let committer = claim(&full, &tasks).await;
    for from in (0..FULL).step_by(1_000) {
        let edit = Edit::CommitAll((from..from + 1_000).map(commit).collect());
        committer.edit(0, edit).await.unwrap();
    }
    tasks.stop(std::time::Duration::ZERO).await;
    assert!(root(&full).await.partitions[&at(0)].runs.is_empty());
    let writes = at_each_write(
        death,
        || full.branch(),
        async |fault| {
            grow(&fault).await;
            grow(&fault.sound()).await;
            whole(&fault.store).await;
        },
    )
    .await;
    assert!(
        writes >= 4,
        "claim, part, commit, trim: only {writes} writes"
    );
}

/// Every object from the log's start on is named once, in the root or in a part that is there.
async fn whole(store: &Memory) {
    let (tasks, now) = (Tasks::new(Shutdown::new()), root(store).await);
    let committer = claim(store, &tasks).await;
    let partition = &now.partitions[&at(0)];
    assert!(!partition.runs.is_empty());
    let mut next = 2_000;
    for run in &partition.runs {
        for entry in committer.runs().read(run).await.unwrap().iter() {
            assert_eq!(entry.base, next);
            next = entry.end;
        }
    }
    for entry in &partition.entries {
        assert_eq!(entry.base, next);
        next = entry.end;
    }
    assert_eq!((partition.log_start, next), (2_005, (FULL + 500) * 10));
    tasks.stop(std::time::Duration::ZERO).await;
}
