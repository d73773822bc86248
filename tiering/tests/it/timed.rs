//! How fast cold reads are. Run by hand in the release profile.

use std::{os::unix::fs::FileExt, time::Duration};

use whimbrel_rpc::proto::node;
use whimbrel_runtime::Clock;

use crate::{
    broker::FakeBroker,
    support::{Log, at, until},
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
        let (mut offset, mut buffer) = (0, Vec::new());
        while offset < log.end() {
            let request = node::ReadRequest {
                at: Some(at(0).into()),
                offset,
                max_bytes,
                wait_ms: 30_000,
                lineage: Vec::new(),
                inline: false,
            };
            let reply = running.ask(request).await;
            for range in &reply.ranges {
                buffer.resize(usize::try_from(range.length).unwrap(), 0);
                std::fs::File::open(&range.path)
                    .unwrap()
                    .read_exact_at(&mut buffer, range.position)
                    .unwrap();
                assert_eq!(crc32c::crc32c(&buffer), range.crc32c);
            }
            offset = reply.next_offset;
        }
        eprintln!("{what}: {:.0} MB/s", rate(begun));
    }
    running.stop().await;
}
