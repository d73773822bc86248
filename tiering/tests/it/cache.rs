//! What is kept of a bucket on the local disk: how much, over which events, and how many requests it saves.

use std::{path::PathBuf, sync::Arc, sync::atomic::Ordering};

use parking_lot::Mutex;
use whimbrel_rpc::proto::node::{self, read_reply::Outcome};
use whimbrel_tiering::{MIN_CACHE, store::Folder};

use crate::{
    broker::FakeBroker,
    fault::{Fault, Mood, Plan},
    support::{Log, at, until},
    world::{Running, World},
};

/// Two segments of twelve megabytes, so of two blocks each, and a small one.
fn shape() -> Vec<Vec<(usize, usize)>> {
    vec![
        vec![(4, 100_000); 30],
        vec![(4, 100_000); 30],
        vec![(4, 1_000); 3],
    ]
}

struct Remote {
    world: World,
    log: Log,
    broker: FakeBroker,
    mood: Arc<Mutex<Mood>>,
    store: Fault<Folder>,
}

impl Remote {
    async fn uploaded(shape: &[Vec<(usize, usize)>]) -> (Self, Running) {
        let world = World::new();
        let log = Log::write(&world.path("data"), 0, shape);
        let broker = FakeBroker::new(vec![Log::write(&world.path("data"), 0, shape)]);
        let mood = Arc::new(Mutex::new(Mood::Well));
        let folder = Folder::open(&world.path("bucket")).unwrap();
        let store = Fault::new(folder, Plan::Mood(Arc::clone(&mood)));
        let remote = Self {
            world,
            log,
            broker,
            mood,
            store,
        };
        let running = remote.start().await;
        until("uploaded", || remote.broker.verified(0) == remote.log.end()).await;
        until("released", || remote.broker.pinned() == 0).await;
        (remote, running)
    }

    async fn start(&self) -> Running {
        let store = Arc::new(self.store.clone());
        self.world.start_on(store, &self.broker).await
    }

    fn ranges(&self) -> u64 {
        self.store.ranges.load(Ordering::SeqCst)
    }

    fn files(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.world.path("cache"))
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| !p.file_name().unwrap().to_str().unwrap().starts_with(".tmp"))
            .collect()
    }

    fn tails(&self) -> usize {
        let files = self.files();
        let tails = files.iter().filter(|p| p.extension().unwrap() == "tail");
        tails.count()
    }
}

fn flip(path: &PathBuf, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = at % bytes.len();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_cached_is_served_after_a_restart_without_the_store() {
    let (remote, mut running) = Remote::uploaded(&shape()).await;
    let all = remote.log.bytes_from(0);
    assert!(running.read_all(&remote.log, 0, 8 << 20).await == all);
    until("tails", || remote.tails() == 3).await;
    running.stop().await;
    let mut running = remote.start().await;
    *remote.mood.lock() = Mood::Refuses;
    let before = remote.ranges();
    assert!(running.read_all(&remote.log, 0, 8 << 20).await == all);
    assert_eq!(remote.ranges(), before);
    *remote.mood.lock() = Mood::Well;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bent_byte_in_a_cached_file_is_fetched_again_and_never_served() {
    let (remote, mut running) = Remote::uploaded(&shape()).await;
    let all = remote.log.bytes_from(0);
    assert!(running.read_all(&remote.log, 0, 8 << 20).await == all);
    until("tails", || remote.tails() == 3).await;
    // While it runs, and before it starts.
    for restart in [false, true] {
        let before = remote.ranges();
        for (n, path) in remote.files().iter().enumerate() {
            flip(path, 70_001 * (n + 1));
        }
        if restart {
            running.stop().await;
            running = remote.start().await;
        }
        assert!(running.read_all(&remote.log, 0, 8 << 20).await == all);
        assert!(remote.ranges() > before, "restart: {restart}");
        until("tails", || remote.tails() == 3).await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cache_stays_below_its_limit_and_everything_is_read_through_it() {
    let big = vec![vec![(4, 100_000); 60]; 6];
    let (remote, mut running) = Remote::uploaded(&big).await;
    let bytes: u64 = remote.log.segments.iter().map(|s| s.3.len() as u64).sum();
    assert!(bytes > 2 * MIN_CACHE.0, "{bytes}");
    let (mut offset, mut read) = (0, Vec::new());
    while offset < remote.log.end() {
        let (more, reply) = running.read(0, offset, 8 << 20, false).await;
        read.extend(more);
        offset = reply.next_offset;
        let mut held = 0;
        for entry in std::fs::read_dir(remote.world.path("cache")).unwrap() {
            // One that goes meanwhile counts no more.
            held += entry.unwrap().metadata().map_or(0, |meta| meta.len());
        }
        assert!(held <= MIN_CACHE.0, "{held}");
    }
    assert!(read == remote.log.bytes_from(0));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_one_block_share_one_request() {
    let (remote, running) = Remote::uploaded(&[vec![(4, 100_000); 30]]).await;
    until("tails", || remote.tails() == 1).await;
    running.stop().await;
    let running = remote.start().await;
    let before = remote.ranges();
    let read = || {
        let mut client = running.client.clone();
        async move {
            let request = node::ReadRequest {
                at: Some(at(0).into()),
                offset: 119,
                max_bytes: 1,
                wait_ms: 60_000,
                ..node::ReadRequest::default()
            };
            client.read(request).await.unwrap().into_inner().outcome()
        }
    };
    let all = futures::future::join_all((0..16).map(|_| read())).await;
    assert!(all.iter().all(|outcome| *outcome == Outcome::Ranges));
    assert_eq!(remote.ranges() - before, 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_several_readers_of_a_partition_is_read_ahead_of() {
    // Four blocks a segment; one reader begins in the first, the other in the second, neither at its beginning,
    // where everybody is taken for one that reads on.
    let (remote, mut running) = Remote::uploaded(&vec![vec![(4, 100_000); 80]; 2]).await;
    let mut places = [4, 324];
    for _ in 0..4 {
        for place in &mut places {
            let (_, reply) = running.read(0, *place, 1 << 20, false).await;
            *place = reply.next_offset;
        }
    }
    let blocks = |number: &str| {
        let files = remote.files();
        let found = files.iter().filter(|p| p.extension().unwrap() == number);
        found.count()
    };
    until("blocks ahead of both", || {
        blocks("1") == 2 && blocks("2") == 2
    })
    .await;
    running.stop().await;
}

async fn by_time(running: &mut Running, timestamp_ms: i64) -> Option<i64> {
    let request = node::TimestampRequest {
        at: Some(at(0).into()),
        timestamp_ms,
    };
    let reply = running.client.offset_for_timestamp(request).await.unwrap();
    let reply = reply.into_inner();
    reply.found.then_some(reply.offset)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lookup_by_time_costs_at_most_one_request() {
    let (remote, mut running) = Remote::uploaded(&shape()).await;
    // The small one comes as a whole; of the others this daemon has the indexes since it wrote them.
    for (asked, expected) in [(1_245, 245), (1_110, 110), (1_015, 15), (1_230, 230)] {
        let before = remote.ranges();
        assert_eq!(by_time(&mut running, asked).await, Some(expected));
        assert!(remote.ranges() - before <= 1, "{asked}");
    }
    let before = remote.ranges();
    assert_eq!(by_time(&mut running, 1_252).await, None, "after the last");
    assert_eq!(remote.ranges(), before);
    until("tails", || remote.tails() == 3).await;
    running.stop().await;
    let mut running = remote.start().await;
    for (asked, expected) in [(1_050, 50), (1_170, 170)] {
        let before = remote.ranges();
        assert_eq!(by_time(&mut running, asked).await, Some(expected));
        assert!(remote.ranges() - before <= 1, "{asked}, after a restart");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_somebody_deletes_while_they_are_read_come_again() {
    let (remote, mut running) = Remote::uploaded(&shape()).await;
    let (mut offset, mut all, mut reads) = (0, Vec::new(), 0);
    while offset < remote.log.end() {
        let (bytes, reply) = running.read(0, offset, 3 << 20, false).await;
        assert_eq!(reply.outcome(), Outcome::Ranges, "{}", reply.detail);
        assert!(reply.next_offset > offset);
        all.extend_from_slice(&bytes);
        (offset, reads) = (reply.next_offset, reads + 1);
        // Every other one: some that will be read next, and some that were.
        for path in remote.files().iter().skip(reads % 2).step_by(2) {
            let _ = std::fs::remove_file(path);
        }
    }
    assert!(
        all == remote.log.bytes_from(0) && reads > 4,
        "{reads} reads"
    );
    running.stop().await;
}
