//! The whole daemon on a folder: upload, cold reads, timestamps, truncation, orphans, restart, refusals.

use std::{os::unix::fs::FileExt, path::Path, sync::Arc, time::Duration};

use proptest::{prelude::*, test_runner::TestRunner};
use whimbrel_rpc::proto::node::{self, read_reply::Outcome};
use whimbrel_runtime::{Clock, Shutdown, Tasks, unit::Size};
use whimbrel_tiering::{Handle, Options, Service, StartError};

use crate::{
    broker::FakeBroker,
    support::{Log, at, until},
    world::{Running, World},
};

fn shapes() -> impl Strategy<Value = Vec<Vec<(usize, usize)>>> {
    let batch = prop_oneof![8 => (1_usize..30, 0_usize..200), 2 => (1_usize..4, 20_000_usize..60_000), 1 => (1_usize..3, 300_000_usize..900_000)];
    proptest::collection::vec(proptest::collection::vec(batch, 1..40), 1..4)
}

async fn equal(shape: &[Vec<(usize, usize)>], reads: &[(u16, u32)], remote: bool) {
    let world = World::new();
    let log = Log::write(&world.path("data"), 0, shape);
    let end = log.end();
    let broker = FakeBroker::new(vec![Log::write(&world.path("data"), 0, shape)]);
    let mut running = if remote {
        world.start_on(Arc::new(world.remote()), &broker).await
    } else {
        world.start(&broker).await
    };
    until("uploaded", || broker.verified(0) == end).await;
    assert_eq!(running.read_all(&log, 0, 1 << 20).await, log.bytes_from(0));
    for (offset, max) in reads {
        let offset = i64::from(*offset) % end;
        let (bytes, reply) = running.read(0, offset, *max, max % 2 == 0).await;
        assert!(log.bytes_from(offset).starts_with(&bytes) && reply.next_offset > offset);
        assert_eq!(
            log.bytes_from(reply.next_offset).len() + bytes.len(),
            log.bytes_from(offset).len()
        );
    }
    for n in [-1, end] {
        assert_eq!(
            running.read(0, n, 1, false).await.1.outcome(),
            Outcome::NotTiered
        );
    }
    running.stop().await;
}

#[test]
fn a_cold_read_is_what_the_log_was() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let reads = proptest::collection::vec((any::<u16>(), 1_u32..3_000_000), 1..20);
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 12,
        ..ProptestConfig::default()
    });
    runner
        .run(
            &(shapes(), reads, any::<bool>()),
            |(shape, reads, remote)| {
                runtime.block_on(equal(&shape, &reads, remote));
                Ok(())
            },
        )
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_are_cached_checked_and_fetched_again() {
    let world = World::new();
    let shape = vec![vec![(4, 100_000); 30], vec![(4, 100_000); 30]];
    let log = Log::write(&world.path("data"), 0, &shape);
    let broker = FakeBroker::new(vec![Log::write(&world.path("data"), 0, &shape)]);
    let mut running = world.start_on(Arc::new(world.remote()), &broker).await;
    until("uploaded", || broker.verified(0) == log.end()).await;
    until("released", || broker.pinned() == 0).await;
    assert!(running.read_all(&log, 0, 8 << 20).await == log.bytes_from(0));
    running.stop().await;
    let blocks = || {
        std::fs::read_dir(world.path("cache"))
            .unwrap()
            .map(|e| e.unwrap().path())
    };
    assert!(blocks().count() >= 4);
    for path in blocks().take(2) {
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[70_000] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    let mut running = world.start_on(Arc::new(world.remote()), &broker).await;
    assert!(running.read_all(&log, 0, 8 << 20).await == log.bytes_from(0));
    // A block that goes while the daemon runs is missed by whoever was sent to it, and fetched again.
    for path in blocks() {
        std::fs::remove_file(path).unwrap();
    }
    assert!(running.read_all(&log, 0, 8 << 20).await == log.bytes_from(0));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_of_a_folder_are_read_in_place_and_outlive_their_deletion_for_who_reads_them() {
    let world = World::new();
    let shape = vec![vec![(4, 100_000); 30]];
    let log = Log::write(&world.path("data"), 0, &shape);
    let broker = FakeBroker::new(vec![Log::write(&world.path("data"), 0, &shape)]);
    let mut running = world.start(&broker).await;
    until("uploaded", || broker.verified(0) == log.end()).await;
    let (bytes, reply) = running.read(0, 0, 8 << 20, false).await;
    assert!(log.bytes_from(0).starts_with(&bytes));
    let object = find(&world.path("bucket/v1/east/data"));
    assert_eq!(
        Path::new(&reply.ranges[0].path),
        object.canonicalize().unwrap()
    );
    assert_eq!(std::fs::read_dir(world.path("cache")).unwrap().count(), 0);
    let open = std::fs::File::open(&object).unwrap();
    std::fs::remove_file(&object).unwrap();
    let mut still = vec![0; bytes.len()];
    open.read_exact_at(&mut still, reply.ranges[0].position)
        .unwrap();
    assert!(still == bytes);
    // The root still names it: whoever comes later is told that it is damage.
    let (_, reply) = running.read(0, 0, 8 << 20, false).await;
    assert_eq!(reply.outcome(), Outcome::Damaged);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_in_the_bucket_is_named_and_never_served() {
    let world = World::new();
    let log = Log::write(&world.path("data"), 0, &[vec![(4, 1_000); 30]]);
    let broker = FakeBroker::new(vec![Log::write(
        &world.path("data"),
        0,
        &[vec![(4, 1_000); 30]],
    )]);
    let mut running = world.start(&broker).await;
    until("uploaded", || broker.verified(0) == log.end()).await;
    let object = find(&world.path("bucket/v1/east/data"));
    let mut bytes = std::fs::read(&object).unwrap();
    bytes[5_000] ^= 4;
    std::fs::write(&object, bytes).unwrap();
    assert_eq!(
        running.read(0, 0, 1, false).await.1.outcome(),
        Outcome::Damaged
    );
    let report = post(running.handle.admin, "/verify?bytes=64MiB").await;
    assert!(
        report.contains("\"ok\":false") && report.contains("WB-316"),
        "{report}"
    );
    std::fs::remove_file(&object).unwrap();
    let report = post(running.handle.admin, "/verify").await;
    assert!(report.contains("it is not in the bucket"), "{report}");
    running.stop().await;
}

pub fn find(dir: &Path) -> std::path::PathBuf {
    let mut at = dir.to_owned();
    while at.is_dir() {
        at = std::fs::read_dir(&at)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
    }
    at
}

pub async fn request(address: std::net::SocketAddr, line: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream
        .write_all(
            format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                .as_bytes(),
        )
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

pub async fn post(address: std::net::SocketAddr, path: &str) -> String {
    request(address, &format!("POST {path}")).await
}

async fn two_segments() -> (World, Log, Running) {
    let world = World::new();
    let shape = [vec![(5, 300); 200], vec![(5, 300); 200]];
    let log = Log::write(&world.path("data"), 0, &shape);
    let broker = FakeBroker::new(vec![Log::write(&world.path("data"), 0, &shape)]);
    let running = world.start(&broker).await;
    until("uploaded", || broker.verified(0) == log.end()).await;
    (world, log, running)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timestamps_and_lineages_are_looked_up() {
    let (_world, _log, mut running) = two_segments().await;
    let asked = [
        (0, Some(0)),
        (1_000, Some(0)),
        (1_777, Some(777)),
        (2_999, Some(1_999)),
        (3_000, None),
    ];
    for (timestamp_ms, expected) in asked {
        let request = node::TimestampRequest {
            at: Some(at(0).into()),
            timestamp_ms,
        };
        let reply = running
            .client
            .offset_for_timestamp(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            reply.found.then_some(reply.offset),
            expected,
            "{timestamp_ms}"
        );
    }
    let start = |epoch, start_offset| node::EpochStart {
        epoch,
        start_offset,
    };
    let foreign = node::ReadRequest {
        at: Some(at(0).into()),
        offset: 1_000,
        max_bytes: 1,
        wait_ms: 9_000,
        lineage: vec![start(1, 0), start(9, 1_000)],
        inline: false,
        doubt: false,
    };
    assert_eq!(
        running.ask(foreign.clone()).await.outcome(),
        Outcome::NotTiered
    );
    assert_eq!(
        running
            .ask(node::ReadRequest {
                offset: 999,
                ..foreign
            })
            .await
            .outcome(),
        Outcome::Ranges
    );
    running.stop().await;
}

/// What stands there is of epoch 2: another tail is not it, and one must be named.
async fn only_the_tail_that_is_named_goes(running: &mut Running, right: &node::TruncateRequest) {
    let late = node::TruncateRequest {
        tail_epoch: Some(1),
        ..right.clone()
    };
    let done = running.client.truncate(late).await.unwrap().into_inner();
    assert!(done.orphaned_objects.is_empty() && done.end_offset > 1_000);
    let unnamed = node::TruncateRequest {
        tail_epoch: None,
        ..right.clone()
    };
    let refused = running.client.truncate(unnamed).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
}

/// Though it is as long: the log is cut on this word.
async fn a_bent_tail_does_not_count(
    world: &World,
    running: &mut Running,
    orphan: &node::OrphanRequest,
    bytes: &[u8],
) {
    for bent in [70, bytes.len() as u64 + 9] {
        let stored = running.client.store_orphan(orphan.clone()).await;
        let stored = stored.unwrap().into_inner().object;
        let path = world.path("bucket").join(&stored);
        let file = std::fs::File::options().read(true).write(true).open(path);
        let (file, mut byte) = (file.unwrap(), [0]);
        file.read_exact_at(&mut byte, bent).unwrap();
        file.write_all_at(&[byte[0] ^ 4], bent).unwrap();
        let again = running.client.store_orphan(orphan.clone()).await;
        let again = again.unwrap().into_inner();
        assert_ne!(again.object, stored, "bent at {bent}");
        let sound = std::fs::read(world.path("bucket").join(&again.object)).unwrap();
        assert!(sound.starts_with(bytes));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orphan_tail_is_stored_once_and_a_truncation_keeps_the_objects() {
    let (world, log, mut running) = two_segments().await;
    let (base, end, path, bytes) = &log.segments[1];
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    let orphan = node::OrphanRequest {
        topic: "access.log".into(),
        at: Some(at(0).into()),
        group: "default".into(),
        region_epoch: 2,
        common_epoch: 1,
        from_offset: *base,
        end_offset: *end,
        parts: vec![node::FilePart {
            path: name,
            position: 0,
            length: bytes.len() as u64,
        }],
        records: 1_000,
    };
    let first = running
        .client
        .store_orphan(orphan.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (first.bytes, first.crc32c),
        (bytes.len() as u64, crc32c::crc32c(bytes))
    );
    let again = running.client.store_orphan(orphan.clone()).await;
    assert_eq!(again.unwrap().into_inner(), first);
    a_bent_tail_does_not_count(&world, &mut running, &orphan, bytes).await;
    let first = running
        .client
        .store_orphan(orphan)
        .await
        .unwrap()
        .into_inner();
    assert!(
        std::fs::read(world.path("bucket").join(&first.object))
            .unwrap()
            .starts_with(bytes)
    );

    let wrong = node::TruncateRequest {
        at: Some(at(0).into()),
        epoch: 7,
        offset: 1_000,
        tail_epoch: Some(2),
    };
    let refused = running.client.truncate(wrong.clone()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    let right = node::TruncateRequest { epoch: 1, ..wrong };
    only_the_tail_that_is_named_goes(&mut running, &right).await;
    let done = running.client.truncate(right).await.unwrap().into_inner();
    assert_eq!((done.orphaned_objects.len(), done.end_offset), (1, 1_000));
    assert!(
        world
            .path("bucket")
            .join(&done.orphaned_objects[0])
            .exists()
    );
    let status = request(running.handle.admin, "GET /status").await;
    assert!(
        status.contains(&first.object) && status.contains("oldest_unuploaded_age_seconds"),
        "{status}"
    );
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_used_is_refused_with_a_code() {
    let world = World::new();
    let tasks = Tasks::new(Shutdown::new());
    let started = |options: Options| Service::start(options, tasks.clone(), Clock::system());
    let code = |started: Result<Handle, StartError>| started.unwrap_err().code();
    let good = world.options(1);
    assert_eq!(
        code(
            started(Options {
                bucket: "s3://".into(),
                cache_bytes: Size(1),
                ..good.clone()
            })
            .await
        ),
        "WB-300"
    );
    assert_eq!(
        code(
            started(Options {
                bucket: "file:///nowhere/at/all".into(),
                ..good.clone()
            })
            .await
        ),
        "WB-301"
    );
    assert_eq!(
        code(
            started(Options {
                rpc_listen: "0.0.0.0:0".into(),
                ..good.clone()
            })
            .await
        ),
        "WB-306"
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(
        code(
            started(Options {
                rpc_listen: taken.local_addr().unwrap().to_string(),
                ..good.clone()
            })
            .await
        ),
        "WB-305"
    );
    std::fs::create_dir_all(world.path("bucket/v1/east")).unwrap();
    let marker = r#"{"format":1,"fleet_id":"another","region":"east","incarnation":"00000000-0000-0000-0000-000000000001","shards":16,"created_ms":0}"#;
    std::fs::write(world.path("bucket/v1/east/whimbrel.json"), marker).unwrap();
    assert_eq!(code(started(good).await), "WB-303");
    let left: Vec<_> = std::fs::read_dir(world.path("bucket/v1/east"))
        .unwrap()
        .collect();
    assert_eq!(left.len(), 1, "nothing was written into a foreign bucket");
    tasks.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_names_region_node_and_role() {
    let (_world, log, mut running) = two_segments().await;
    assert!(running.read_all(&log, 0, 8 << 20).await == log.bytes_from(0));
    // What was uploaded is counted a moment after the broker was told.
    let mut text = String::new();
    for _ in 0..500 {
        text = request(running.handle.admin, "GET /metrics").await;
        if text.contains("whimbrel_tiering_uploaded_bytes_total{region=\"east\"") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let lines = text.lines().filter(|line| line.starts_with("whimbrel_"));
    let mut seen = 0;
    for line in lines {
        for label in ["region=\"", "node=\"", "role=\"tiering\""] {
            assert!(line.contains(label), "{label} is missing: {line}");
        }
        seen += 1;
    }
    assert!(
        seen > 5 && text.contains("uploaded_bytes_total{region=\"east\""),
        "{text}"
    );
    running.stop().await;
}
