//! A daemon that dies, or is stopped, while it makes roots anew.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use whimbrel_runtime::{Clock, Shutdown, Tasks};
use whimbrel_tiering::{
    format::Keys,
    rebuild::Rebuilder,
    root::{MAX_BYTES, Root},
    store::Store,
};

use crate::{
    broker::FakeBroker,
    crash::{SHARDS, check, daemon, live, logs},
    fault::{Fault, Plan, at_each_write, death, pause},
    memory::Memory,
    support::until,
};

/// What became of the shards' roots.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Gone,
    Bent,
    /// Bent, and one of earlier was kept.
    BentAndKept,
}

async fn objects(store: &Memory) -> BTreeSet<String> {
    let listed = store.list(&Keys::new("east").data_prefix()).await.unwrap();
    listed.iter().map(|l| l.key.to_string()).collect()
}

/// A whole bucket that has lost its roots.
async fn lost(loss: Loss, dir: &Path) -> Memory {
    let (store, keys) = (Memory::default(), Keys::new("east"));
    live(&Fault::new(store.clone(), Plan::Nothing), dir).await;
    for shard in 0..SHARDS {
        let key = keys.root(shard);
        let sound = store.get(&key, MAX_BYTES).await.unwrap().bytes;
        store.delete(&key).await.unwrap();
        if let Loss::BentAndKept = loss {
            let stamp = Root::decode(&sound).unwrap().stamp;
            let kept = keys.kept_root(shard, stamp.epoch, stamp.sequence);
            store.put_if_absent(&kept, sound).await.unwrap();
        }
        if !matches!(loss, Loss::Gone) {
            let bent = Bytes::from_static(b"not a root");
            store.put_if_absent(&key, bent).await.unwrap();
        }
    }
    store
}

/// Makes the roots anew that cannot be believed, and says whether all are there.
async fn rebuild(fault: &Fault<Memory>, dir: &Path, tasks: &Tasks) -> bool {
    let broker = FakeBroker::new(logs(dir));
    broker.set_log_start(1, 8);
    let store: Arc<dyn Store> = Arc::new(fault.clone());
    let d = daemon(Arc::clone(&store), &broker, dir, tasks).await;
    let rebuilder = Rebuilder {
        store,
        keys: Keys::new("east"),
        region: "east".into(),
        committer: d.committer.clone(),
        broker: d.uploader.broker.clone(),
        incarnation: d.uploader.incarnation,
        clock: Clock::system(),
    };
    let hash = rebuilder.plan().await.unwrap().hash;
    let done = rebuilder.apply(&hash).await.unwrap();
    done.shards.iter().all(|shard| shard.applied)
}

/// Every root is made anew, or the daemon dies.
async fn make(fault: &Fault<Memory>, dir: &Path) {
    let tasks = Tasks::new(Shutdown::new());
    let life = async { assert!(rebuild(fault, dir, &tasks).await) };
    fault.or_death(life).await;
    tasks.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_at_any_write_of_a_rebuild_leaves_what_the_next_one_makes_whole() {
    let dir = tempfile::tempdir().unwrap();
    for (loss, least) in [(Loss::Gone, 2), (Loss::Bent, 3), (Loss::BentAndKept, 3)] {
        let bucket = lost(loss, dir.path()).await;
        let before = objects(&bucket).await;
        let writes = at_each_write(
            death,
            || bucket.branch(),
            async |fault| {
                make(&fault, dir.path()).await;
                assert_eq!(objects(&fault.store).await, before, "{loss:?}");
                make(&fault.sound(), dir.path()).await;
                assert_eq!(objects(&fault.store).await, before, "{loss:?}");
                // Retention, the sweep and uploads find nothing to do but what they always do.
                live(&fault.sound(), dir.path()).await;
                check(&fault.store, dir.path()).await;
                assert_eq!(objects(&fault.store).await, before, "{loss:?}");
            },
        )
        .await;
        let each = u64::from(SHARDS) * least;
        assert!(
            writes >= each,
            "{loss:?}: aside, root, claim: {writes} writes"
        );
    }
}

/// It goes on after another one has made the roots and lived with them: what it still does is no second truth.
#[expect(
    clippy::disallowed_methods,
    reason = "what is stopped is no task of anybody's"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_that_was_stopped_and_overtaken_puts_nothing_in_the_place_of_the_new_roots() {
    let dir = tempfile::tempdir().unwrap();
    for loss in [Loss::Gone, Loss::Bent] {
        let bucket = lost(loss, dir.path()).await;
        let before = objects(&bucket).await;
        at_each_write(
            pause,
            || bucket.branch(),
            async |fault| {
                let tasks = Tasks::new(Shutdown::new());
                let (stopped, path) = (fault.clone(), dir.path().to_owned());
                let of_first = tasks.clone();
                let first = tokio::spawn(async move { rebuild(&stopped, &path, &of_first).await });
                until("stopped, or done", || {
                    fault.is_struck() || first.is_finished()
                })
                .await;
                make(&fault.sound(), dir.path()).await;
                live(&fault.sound(), dir.path()).await;
                let named = names(&fault.store).await;
                fault.resume();
                // A shard that it did not begin with is not its to make any more.
                let _ = first.await.unwrap();
                assert_eq!(
                    names(&fault.store).await,
                    named,
                    "{loss:?} {:?}",
                    fault.plan
                );
                tasks.stop(Duration::ZERO).await;
                live(&fault.sound(), dir.path()).await;
                check(&fault.store, dir.path()).await;
                assert_eq!(objects(&fault.store).await, before, "{loss:?}");
            },
        )
        .await;
    }
}

/// What the roots say of each partition.
async fn names(store: &Memory) -> Vec<String> {
    let keys = Keys::new("east");
    let mut all = Vec::new();
    for shard in 0..SHARDS {
        let found = store.get(&keys.root(shard), MAX_BYTES).await.unwrap();
        let root = Root::decode(&found.bytes).unwrap();
        all.push(format!("{:?} {:?}", root.partitions, root.orphaned));
    }
    all
}
