//! Readers that go in the middle of a cold read, and a cache that is far smaller than what is read: nothing is left over,
//! and nothing else is answered than what was written.

use std::{path::Path, sync::Arc};

use parking_lot::Mutex;
use tonic::transport::Endpoint;
use whimbrel_rpc::proto::node::{ReadRequest, read_reply::Outcome, tiering_client::TieringClient};
use whimbrel_runtime::unit::{Size, Span};
use whimbrel_tiering::store::Folder;

use crate::{
    broker::FakeBroker,
    fault::{Fault, Mood, Plan},
    support::{Log, at, until},
    verify::status,
    world::{Running, World},
};

/// Files below `dir` that this process has open.
fn open_below(dir: &Path) -> usize {
    let all = std::fs::read_dir("/proc/self/fd").unwrap();
    let paths = all.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
    paths.filter(|path| path.starts_with(dir)).count()
}

/// Files of the cache and their bytes.
fn cached(world: &World) -> Vec<u64> {
    let files = std::fs::read_dir(world.path("cache")).unwrap();
    // One that goes meanwhile counts no more.
    let sizes = files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len()));
    sizes.collect()
}

/// Asks for what lies at `offset` over a connection of its own, and does not wait for the answer.
async fn begin(running: &Running, offset: i64) -> impl Future<Output = ()> + use<> {
    let address = format!("http://{}", running.handle.rpc);
    let channel = Endpoint::from_shared(address).unwrap().connect().await;
    let mut client = TieringClient::new(channel.unwrap());
    async move {
        let request = ReadRequest {
            at: Some(at(0).into()),
            offset,
            max_bytes: 8 << 20,
            wait_ms: 60_000,
            ..ReadRequest::default()
        };
        let _ = client.read(request).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_go_in_the_middle_of_a_read_leave_nothing_open() {
    let world = World::new();
    // Blocks of two segments, four each.
    let shape = vec![vec![(4, 100_000); 80]; 2];
    let log = Log::write(&world.path("data"), 0, &shape);
    let broker = FakeBroker::new(vec![Log::write(&world.path("data"), 0, &shape)]);
    let mood = Arc::new(Mutex::new(Mood::Well));
    let folder = Folder::open(&world.path("bucket")).unwrap();
    let store = Fault::new(folder, Plan::Mood(Arc::clone(&mood)));
    let asked = || store.ranges.load(std::sync::atomic::Ordering::SeqCst);
    let mut running = world
        .start_changed(Arc::new(store.clone()), &broker, |options| {
            options.request_timeout = Span::secs(1);
        })
        .await;
    until("uploaded", || broker.is_all_verified()).await;
    until("released", || broker.pinned() == 0).await;
    for round in 0..3 {
        *mood.lock() = if round == 0 { Mood::Hangs } else { Mood::Well };
        let before = asked();
        let mut readers = Vec::new();
        for n in 0..24 {
            readers.push(begin(&running, (n * 27 + round * 5) % log.end()).await);
        }
        let all = futures::future::join_all(readers);
        // All at once, with their connections, while the store is being asked.
        tokio::select! {
            _ = all => {}
            () = until("the store is asked", || asked() > before) => {}
        }
        *mood.lock() = Mood::Well;
    }
    let dir = world.dir.path().canonicalize().unwrap();
    let left = || {
        (
            open_below(&dir.join("cache")),
            open_below(&dir.join("bucket")),
        )
    };
    until("every file is closed", || left() == (0, 0)).await;
    assert!(running.read_all(&log, 0, 8 << 20).await == log.bytes_from(0));
    until("every file is closed", || left() == (0, 0)).await;
    let told = status(&running).await;
    assert_eq!(told["stuck"].as_array().unwrap().len(), 0, "{told}");
    // What the cache counts is what it has.
    let held: u64 = cached(&world).iter().sum();
    assert_eq!(told["cache"]["bytes"], held, "{told}");
    running.stop().await;
    assert_eq!(left(), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_of_a_fifth_of_what_is_read_serves_all_of_it_while_files_go() {
    const LIMIT: u64 = 10 << 20;
    let world = World::new();
    // Objects of a block each: more than five times as much as the cache may hold.
    let shape = vec![vec![(4, 100_000); 3]; 48];
    let log = Log::write(&world.path("data"), 0, &shape);
    let broker = FakeBroker::new(vec![Log::write(&world.path("data"), 0, &shape)]);
    let bytes: u64 = log.segments.iter().map(|s| s.3.len() as u64).sum();
    assert!(bytes > 5 * LIMIT, "{bytes}");
    let mut running = world
        .start_changed(Arc::new(world.remote()), &broker, |options| {
            options.cache_bytes = Size(LIMIT);
        })
        .await;
    until("uploaded", || broker.is_all_verified()).await;
    until("released", || broker.pinned() == 0).await;
    // Two readers, half a log apart, one after the other, and a third that jumps.
    let (end, mut reads) = (log.end(), 0_usize);
    let mut places = [0, end / 2];
    while places[0] < end {
        for place in 0..3 {
            let offset = match places.get(place) {
                Some(place) => *place % end,
                None => i64::try_from(reads * 7_919).unwrap() % end,
            };
            let (got, reply) = running.read(0, offset, 500_000, reads % 5 == 0).await;
            assert_eq!(reply.outcome(), Outcome::Ranges, "{}", reply.detail);
            let written = log.batches.iter().filter(|b| b.1 > offset);
            let written: Vec<u8> = written.take(2).flat_map(|b| b.2.clone()).collect();
            let both = written.len().min(got.len());
            assert!(both > 0 && written[..both] == got[..both]);
            assert!(got.len() <= written.len(), "more than was asked for");
            if let Some(place) = places.get_mut(place) {
                *place += reply.next_offset - offset;
            }
            let held: u64 = cached(&world).iter().sum();
            assert!(held <= LIMIT, "{held} of {LIMIT}");
            reads += 1;
        }
        if reads % 4 == 0 {
            let files = std::fs::read_dir(world.path("cache")).unwrap();
            for file in files.step_by(3) {
                let _ = std::fs::remove_file(file.unwrap().path());
            }
        }
    }
    assert!(reads > 200, "{reads} reads");
    let told = status(&running).await;
    assert_eq!(told["damaged"].as_array().unwrap().len(), 0, "{told}");
    running.stop().await;
}
