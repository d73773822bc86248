//! A shard that names more objects than its root can hold.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use whimbrel_runtime::{Shutdown, Tasks};
use whimbrel_tiering::{
    committer::{Edit, Outcome},
    format::{Keys, shard_of},
    root::Commit,
    store::Store,
};

use super::{Two, begun, life};
use crate::{
    broker::FakeBroker,
    crash::{SHARDS, try_daemon},
    fault::{Fault, Plan},
    spill,
    support::at,
};

const OBJECTS: i64 = 9_000;

/// Each has its number.
fn object(n: i64) -> Bytes {
    Bytes::from(n.to_be_bytes().repeat(3))
}

fn commit(n: i64) -> Commit {
    let crc64 = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &object(n));
    let mut commit = spill::commit(n);
    commit.entry.object_bytes = 24;
    commit.entry.data_bytes = 8;
    commit.entry.crc64 = crc64;
    commit
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_entries_of_a_root_move_with_all_that_they_name() {
    let (dir, keys) = (tempfile::tempdir().unwrap(), Keys::new("east"));
    let two = Two::new(Fault::new(begun().await, Plan::Nothing));
    let shard = shard_of(at(0), SHARDS);
    let (nobody, tasks) = (FakeBroker::default(), Tasks::new(Shutdown::new()));
    let from: Arc<dyn Store> = Arc::new(two.from.clone());
    let d = try_daemon(from, &nobody, dir.path(), &tasks).await.unwrap();
    for n in 0..OBJECTS {
        let key = commit(n).entry.key(&keys, shard, at(0));
        two.from.store.put_if_absent(&key, object(n)).await.unwrap();
    }
    for from in (0..OBJECTS).step_by(500) {
        let edit = Edit::CommitAll((from..from + 500).map(commit).collect());
        let outcome = d.committer.edit(shard, edit).await.unwrap();
        assert!(matches!(&outcome, Outcome::Committed(refused) if refused.is_empty()));
    }
    tasks.stop(Duration::ZERO).await;
    let tasks = Tasks::new(Shutdown::new());
    drop(
        life(&two.placed(), &nobody, dir.path(), &tasks)
            .await
            .unwrap(),
    );
    tasks.stop(Duration::ZERO).await;
    // Told of the new place alone.
    let tasks = Tasks::new(Shutdown::new());
    let to: Arc<dyn Store> = Arc::new(two.to.sound());
    let d = try_daemon(to, &nobody, dir.path(), &tasks).await.unwrap();
    let partition = d.committer.partition(at(0)).unwrap();
    assert_eq!(partition.objects(), OBJECTS.unsigned_abs());
    assert!(!partition.runs.is_empty());
    let mut entries = partition.entries.clone();
    for run in &partition.runs {
        let older = d.committer.runs().read(run).await.unwrap();
        entries.extend_from_slice(&older);
    }
    let there: BTreeMap<_, _> = entries.iter().map(|e| (e.base, e)).collect();
    assert_eq!(there.len(), usize::try_from(OBJECTS).unwrap());
    for (base, entry) in there {
        let key = entry.key(&keys, shard, at(0));
        let found = two.to.store.get(&key, 24).await.unwrap();
        assert_eq!(found.bytes, object(base / 10));
    }
    tasks.stop(Duration::ZERO).await;
}
