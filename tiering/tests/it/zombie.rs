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
    committer::{Committer, Edit},
    format::{Keys, MergedName},
};

use crate::{
    broker::FakeBroker,
    crash::{check, live, logs, roots, try_daemon},
    fault::{Fault, at_each_write, pause},
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
    let writes = at_each_write(pause, Memory::default, async |fault| {
        let done = Arc::new(AtomicBool::new(false));
        let broker = FakeBroker::new(logs(dir.path())).beside(&fault.store);
        broker.set_log_start(1, 8);
        let tasks = Tasks::new(Shutdown::new());
        let first = tokio::spawn(zombie(
            fault.clone(),
            broker.clone(),
            dir.path().to_owned(),
            tasks.clone(),
            Arc::clone(&done),
        ));
        until("stopped, or done with everything", || {
            fault.is_struck() || done.load(Ordering::SeqCst)
        })
        .await;
        live(&fault.sound(), dir.path()).await;
        let before = roots(&fault.store).await;
        fault.resume();
        let ended = first.await.unwrap();
        assert!(ended, "{:?}", fault.plan);
        let too_early = broker.freed_too_early().await;
        assert!(too_early.is_empty(), "{:?}: {too_early:?}", fault.plan);
        assert_eq!(roots(&fault.store).await, before, "{:?}", fault.plan);
        tasks.stop(Duration::ZERO).await;
        // What it uploaded too late is named by nobody, and goes.
        live(&fault.sound(), dir.path()).await;
        check(&fault.store, dir.path()).await;
    })
    .await;
    assert!(writes > 8, "only {writes} writes");
}

/// A whole life, and then one more edit of every shard: true when those were refused, or the life was.
async fn zombie(
    fault: Fault<Memory>,
    broker: FakeBroker,
    dir: PathBuf,
    tasks: Tasks,
    done: Arc<AtomicBool>,
) -> bool {
    let Ok(d) = try_daemon(Arc::new(fault.clone()), &broker, &dir, &tasks).await else {
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
    fault.resumed().await;
    refuses_edits(&d.committer).await
}

/// True when no shard takes one more edit.
pub async fn refuses_edits(committer: &Committer) -> bool {
    let mut refused = true;
    for shard in 0..committer.shards() {
        let name = MergedName {
            shard,
            writer_epoch: 1,
            random: 1,
        };
        let edit = Edit::Unlink(vec![Keys::new("east").merged(&name)]);
        refused &= committer.edit(shard, edit).await.is_err();
    }
    refused
}
