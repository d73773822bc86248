//! Whose word moves the bucket's log start.

use std::{sync::Arc, time::Duration};

use whimbrel_runtime::{OnError, Shutdown, Tasks};

use crate::{
    broker::FakeBroker,
    crash::{daemon, logs, roots},
    memory::Memory,
    support::{at, until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_is_not_the_homes_word_deletes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, tasks) = (Memory::default(), Tasks::new(Shutdown::new()));
    let broker = FakeBroker::new(logs(dir.path()));
    let end = logs(dir.path())[1].end();
    let d = daemon(Arc::new(store.clone()), &broker, dir.path(), &tasks).await;
    d.tasks.spawn("uploader", OnError::Log, d.uploader.run());
    until("all uploaded", || {
        (0..2).all(|partition| broker.verified(partition) == end)
    })
    .await;
    let before = roots(&store).await;
    // The slices are of region epoch 1. What a follower, or a log that has lost it, takes for the log start.
    broker.set_log_start(1, 8);
    for (stands, region_epoch) in [(false, 1), (true, 0)] {
        broker.speaks(stands, region_epoch);
        d.retention.follow_log_starts().await;
        assert_eq!(roots(&store).await, before, "{stands} {region_epoch}");
    }
    broker.speaks(true, 1);
    d.retention.follow_log_starts().await;
    let roots = d.committer.roots();
    let mut starts = roots.iter().filter_map(|root| root.partitions.get(&at(1)));
    assert_eq!(starts.next().unwrap().log_start, 8);
    tasks.stop(Duration::ZERO).await;
}
