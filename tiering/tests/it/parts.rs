//! Large objects go up in parts, by S3's own requests: the daemon dies at each that changes something, and what it had
//! begun is no object, and does not stay.

use std::{path::Path, sync::Arc, time::Duration};

use whimbrel_runtime::{Shutdown, Tasks};

use crate::{
    broker::FakeBroker,
    crash::{named, whole_life},
    endpoint::{Endpoint, Lie},
    fault::{each_write, or_death},
    support::Log,
};

/// Small enough for several in an object of this test.
const PART_BYTES: u64 = 400;

/// Access key of who dies.
const FIRST: &str = "first";

fn log(dir: &Path) -> Log {
    Log::write(dir, 0, &[vec![(4, 50); 3]])
}

/// Runs as the client with this access key until everything is uploaded, or until its death.
async fn live(endpoint: &Endpoint, key: &str, dir: &Path) {
    let store = endpoint.store_of(key, "").in_parts_of(PART_BYTES);
    let (broker, tasks) = (FakeBroker::new(vec![log(dir)]), Tasks::new(Shutdown::new()));
    let life = whole_life(&broker, Arc::new(store), dir, &tasks);
    if key == FIRST {
        or_death(endpoint, life).await;
    } else {
        life.await;
    }
    tasks.stop(Duration::ZERO).await;
    let too_early = broker.beside(&endpoint.snapshot()).freed_too_early().await;
    assert!(too_early.is_empty(), "{key}: {too_early:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_at_any_request_of_an_upload_in_parts_loses_and_leaks_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let begin = async |at, after| {
        let endpoint = Endpoint::start(Lie::None).await;
        endpoint.strike(FIRST, at, after);
        endpoint
    };
    let mut most = 0;
    let writes = each_write(begin, async |endpoint| {
        live(&endpoint, FIRST, dir.path()).await;
        most = most.max(endpoint.unfinished().len());
        live(&endpoint, "second", dir.path()).await;
        let end = log(dir.path()).end();
        assert_eq!(named(&endpoint.snapshot()).await, [(0, (0, end))].into());
        let left = endpoint.unfinished();
        assert!(left.is_empty(), "{left:?}");
    })
    .await;
    // Two claims, begin, two parts at least, complete, and the root.
    assert!(writes >= 7 && most == 1, "{writes} writes, {most} left");
}
