//! How fast cold reads are. Run by hand in the release profile.

use std::time::Duration;

use whimbrel_runtime::Clock;

use crate::{
    broker::FakeBroker,
    support::{Log, until},
    world::World,
};

/// `cargo test --release -p whimbrel-tiering --test it -- --ignored --nocapture cold_reads_timed`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, of use in the release profile only"]
async fn cold_reads_timed() {
    const SEGMENTS: usize = 8;
    let world = World::new();
    let shape = vec![vec![(1_000, 1_024); 64]; SEGMENTS];
    let log = Log::write(&world.path("data"), 0, &shape);
    let broker = FakeBroker::new(vec![Log::write(&world.path("data"), 0, &shape)]);
    let clock = Clock::system();
    let mut running = world.start(&broker).await;
    let bytes: usize = log.segments.iter().map(|s| s.3.len()).sum();
    let rate = |since_ns: u64| {
        bytes as f64 / 1e6 / Duration::from_nanos(clock.boot_ns() - since_ns).as_secs_f64()
    };
    let begun = clock.boot_ns();
    until("uploaded", || broker.verified(0) == log.end()).await;
    eprintln!("upload and verify: {:.0} MB/s", rate(begun));
    for (max_bytes, what) in [
        (1 << 20, "1 MiB reads, cold"),
        (8 << 20, "8 MiB reads, after eviction"),
    ] {
        let begun = clock.boot_ns();
        let (mut offset, mut total) = (0, 0);
        while offset < log.end() {
            let (part, reply) = running.read(0, offset, max_bytes, false).await;
            total += part.len();
            offset = reply.next_offset;
        }
        assert_eq!(total, bytes);
        eprintln!("{what}: {:.0} MB/s", rate(begun));
    }
    running.stop().await;
}
