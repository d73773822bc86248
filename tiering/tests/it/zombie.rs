//! A daemon that was stopped, replaced and let go on.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use whimbrel_runtime::{OnError, Shutdown, Tasks};
use whimbrel_tiering::{
    committer::Edit,
    format::{Keys, MergedName},
    store::Store,
};

use crate::{
    broker::FakeBroker,
    crash::{SHARDS, check, live, logs, roots, try_daemon},
    fault::{Fault, Plan},
    memory::Memory,
    support::until,
};

/// A daemon is stopped at every write it ever makes, before and after the store did it; another one takes
/// over and finishes; the first goes on.
#[expect(
    clippy::disallowed_methods,
    reason = "what is stopped is no task of anybody's"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_was_stopped_and_replaced_changes_nothing_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    for at in 0..200 {
        let mut reached = false;
        for after in [false, true] {
            let store = Memory::default();
            let fault = Fault::new(store.clone(), Plan::Pause { at, after });
            let (stopped, resumed) = (Arc::clone(&fault.dead), Arc::clone(&fault.resumed));
            let done = Arc::new(AtomicBool::new(false));
            let broker = FakeBroker::new(logs(dir.path()));
            broker.set_log_start(1, 8);
            let tasks = Tasks::new(Shutdown::new());
            let first = tokio::spawn(zombie(
                Arc::new(fault),
                broker,
                dir.path().to_owned(),
                tasks.clone(),
                Arc::clone(&done),
                Arc::clone(&resumed),
            ));
            until("stopped, or done with everything", || {
                stopped.load(Ordering::SeqCst) || done.load(Ordering::SeqCst)
            })
            .await;
            reached |= stopped.load(Ordering::SeqCst);
            live(Arc::new(store.clone()), dir.path(), || false).await;
            let before = roots(&store).await;
            resumed.store(true, Ordering::SeqCst);
            let ended = first.await.unwrap();
            assert!(ended, "stopped at {at}, after: {after}");
            assert_eq!(
                roots(&store).await,
                before,
                "stopped at {at}, after: {after}"
            );
            tasks.stop(Duration::ZERO).await;
            // What it uploaded too late is named by nobody, and goes.
            live(Arc::new(store.clone()), dir.path(), || false).await;
            check(&store, dir.path()).await;
        }
        if !reached {
            assert!(at > 8, "only {at} writes");
            return;
        }
    }
    panic!("a life has no end");
}

/// A whole life, and then one more edit of every shard: true when those were refused, or the life was.
async fn zombie(
    store: Arc<dyn Store>,
    broker: FakeBroker,
    dir: PathBuf,
    tasks: Tasks,
    done: Arc<AtomicBool>,
    replaced: Arc<AtomicBool>,
) -> bool {
    let Ok(d) = try_daemon(store, &broker, &dir, &tasks).await else {
        return true;
    };
    let all = logs(&dir).remove(0).end();
    d.tasks
        .spawn("uploader", OnError::Shutdown, d.uploader.run());
    let ends = || (0..2).all(|p| broker.verified(p) == all);
    let (failed, shutdown) = (tasks.clone(), tasks.shutdown());
    let _ = shutdown.unless(until("all uploaded", ends)).await;
    if failed.failure().is_none() {
        d.retention.follow_log_starts().await;
        let mut seen = std::collections::BTreeMap::new();
        let _ = d.retention.delete_pending(&mut seen).await;
    }
    done.store(true, Ordering::SeqCst);
    until("replaced", || replaced.load(Ordering::SeqCst)).await;
    let mut refused = true;
    for shard in 0..SHARDS {
        let name = MergedName {
            shard,
            writer_epoch: 1,
            random: 1,
        };
        let edit = Edit::Unlink(vec![Keys::new("east").merged(&name)]);
        refused &= d.committer.edit(shard, edit).await.is_err();
    }
    refused
}
