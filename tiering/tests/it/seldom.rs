//! What a daemon does seldom, and may die in: a tail that is saved before it is cut off, a topic that was deleted.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio::sync::watch;
use whimbrel_rpc::proto::node;
use whimbrel_runtime::{Clock, Shutdown, Tasks};
use whimbrel_tiering::{
    committer::Edit,
    format::{Key, Keys, shard_of},
    ops::Ops,
    orphan::{OrphanEntry, Orphans},
    root::{MAX_BYTES, Root},
    store::Store,
};

use crate::{
    broker::FakeBroker,
    crash::{Daemon, SHARDS, daemon, fleet_of, live, logs, named},
    fault::{Fault, Plan, at_each_write, death},
    memory::Memory,
    support::{Log, at},
};

/// A bucket with everything in it.
async fn full(dir: &Path) -> Memory {
    let store = Memory::default();
    live(&Fault::new(store.clone(), Plan::Nothing), dir).await;
    store
}

/// What is above the first segment, as the broker asks for it to be saved.
fn tail(log: &Log) -> node::OrphanRequest {
    let parts = log.segments[1..]
        .iter()
        .map(|(.., path, bytes)| node::FilePart {
            path: path.file_name().unwrap().to_str().unwrap().to_owned(),
            position: 0,
            length: bytes.len() as u64,
        });
    node::OrphanRequest {
        topic: "access.log".into(),
        at: Some(at(0).into()),
        group: "default".into(),
        region_epoch: 2,
        common_epoch: 1,
        from_offset: log.segments[0].1,
        end_offset: log.end(),
        parts: parts.collect(),
        records: 1,
    }
}

/// Saves the tail, and cuts it off once it is safe; or dies.
async fn cut(fault: &Fault<Memory>, dir: &Path) {
    let (broker, tasks) = (FakeBroker::default(), Tasks::new(Shutdown::new()));
    let work = async {
        let d: Daemon = daemon(Arc::new(fault.clone()), &broker, dir, &tasks).await;
        let clock = Clock::system();
        let orphans = Orphans {
            transfer: d.uploader.transfer.clone(),
            keys: Keys::new("east"),
            region: "east".into(),
            incarnation: d.uploader.incarnation,
            data_dir: dir.to_owned(),
            clock: clock.clone(),
            tasks: tasks.clone(),
            ops: Ops::new(clock),
            known: Arc::default(),
        };
        orphans.load().await.unwrap();
        d.retention.sweep().await.unwrap();
        let log = logs(dir).remove(0);
        orphans.store(&tail(&log)).await.unwrap();
        let edit = Edit::Truncate {
            at: at(0),
            epoch: 1,
            offset: log.segments[0].1,
            tail: 2,
        };
        let shard = d.committer.shard_of(at(0));
        d.committer.edit(shard, edit).await.unwrap();
        let mut seen = BTreeMap::new();
        d.retention.delete_pending(&mut seen).await.unwrap();
    };
    fault.or_death(work).await;
    tasks.stop(Duration::ZERO).await;
}

/// True where an entry names an object that begins with the very bytes of the tail.
async fn is_saved(store: &Memory, log: &Log) -> bool {
    let bytes: Vec<u8> = log.segments[1..].iter().flat_map(|s| s.3.clone()).collect();
    let mut saved = false;
    let prefix = Keys::new("east").orphans_prefix();
    for listed in store.list(&prefix).await.unwrap() {
        if listed.key.as_str().ends_with(".json") {
            let text = store.get(&listed.key, u64::MAX).await.unwrap().bytes;
            let entry: OrphanEntry = serde_json::from_slice(&text).unwrap();
            assert_eq!(
                (entry.from_offset, entry.end_offset),
                (log.segments[0].1, log.end())
            );
            let key = Key::parse(&entry.object).unwrap();
            // An entry is written after its object.
            assert!(
                store
                    .get(&key, u64::MAX)
                    .await
                    .unwrap()
                    .bytes
                    .starts_with(&bytes)
            );
            saved = true;
        }
    }
    saved
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_at_any_write_of_a_truncation_finds_its_tail_saved() {
    let dir = tempfile::tempdir().unwrap();
    let (full, keys) = (full(dir.path()).await, Keys::new("east"));
    let log = logs(dir.path()).remove(0);
    let (common, shard) = (log.segments[0].1, shard_of(at(0), SHARDS));
    let root = async |store: &Memory| {
        let found = store.get(&keys.root(shard), MAX_BYTES).await.unwrap();
        Root::decode(&found.bytes).unwrap()
    };
    let writes = at_each_write(
        death,
        || full.branch(),
        async |fault| {
            cut(&fault, dir.path()).await;
            let store = &fault.store;
            let end = root(store).await.partitions[&at(0)].end;
            assert!(
                end == log.end() || is_saved(store, &log).await,
                "{:?}",
                fault.plan
            );
            cut(&fault.sound(), dir.path()).await;
            let now = root(store).await;
            assert_eq!(now.partitions[&at(0)].end, common);
            assert!(is_saved(store, &log).await);
            // What the root had of it stays, and is listed.
            let kept: BTreeSet<_> = now.orphaned.iter().map(|o| (o.from, o.end)).collect();
            let cut_off = log.segments[1..].iter().map(|s| (s.0, s.1));
            assert_eq!(kept, cut_off.collect());
            for orphaned in &now.orphaned {
                store.head(&orphaned.key).await.unwrap();
            }
        },
    )
    .await;
    assert!(
        writes >= 5,
        "two claims, tail, entry, cut: only {writes} writes"
    );
}

/// Lets go of what the fleet has deleted, or dies.
async fn forget(fault: &Fault<Memory>, dir: &Path) {
    let (broker, tasks) = (FakeBroker::default(), Tasks::new(Shutdown::new()));
    let work = async {
        let mut d = daemon(Arc::new(fault.clone()), &broker, dir, &tasks).await;
        let mut view = fleet_of(d.retention.incarnation);
        view.note_deleted(at(0).topic_id);
        let (_tell, told) = watch::channel(Arc::new(view));
        d.retention.view = Some(told);
        let mut swept = d.retention.sweep().await.unwrap();
        d.retention.forget_deleted().await.unwrap();
        let again = d.retention.look_again(&mut swept.spared).await;
        again.unwrap();
        let mut seen = BTreeMap::new();
        d.retention.delete_pending(&mut seen).await.unwrap();
    };
    fault.or_death(work).await;
    tasks.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_at_any_write_of_a_deletion_leaves_nothing_for_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let full = full(dir.path()).await;
    let writes = at_each_write(
        death,
        || full.branch(),
        async |fault| {
            forget(&fault, dir.path()).await;
            forget(&fault.sound(), dir.path()).await;
            assert_eq!(named(&fault.store).await, BTreeMap::new());
        },
    )
    .await;
    assert!(writes >= 8, "claims, objects, roots: only {writes} writes");
}
