//! Which transactions of cold data were aborted: told with every range, and never guessed.

use std::{path::Path, sync::Arc};

use whimbrel_fleet::EpochStart;
use whimbrel_rpc::proto::node::read_reply::Outcome;
use whimbrel_tiering::{
    broker::slice_from,
    format::Aborted,
    prepare::{PrepareError, Writer, prepare},
    root::Root,
};
use whimbrel_wire::{
    BatchBuilder,
    control::{ControlType, Marker, MarkerBatch},
};

use crate::{
    broker::FakeBroker,
    support::{Log, until},
    world::World,
};

const ALICE: i64 = 7;
const BOB: i64 = 8;

fn data(base: i64, producer_id: i64) -> (i64, i64, Vec<u8>) {
    let mut builder = BatchBuilder::new(base)
        .leader_epoch(1)
        .producer(producer_id, 0, 0)
        .transactional(true);
    for _ in 0..10 {
        builder.add(1_000, None, Some(&[7; 2_000]), &[]).unwrap();
    }
    (base, base + 10, builder.finish().unwrap().to_vec())
}

fn marker(base_offset: i64, producer_id: i64, control_type: ControlType) -> (i64, i64, Vec<u8>) {
    let marker = MarkerBatch {
        base_offset,
        leader_epoch: 1,
        timestamp_ms: 1_000,
        producer_id,
        producer_epoch: 0,
        marker: Marker {
            control_type,
            coordinator_epoch: 0,
        },
    };
    (
        base_offset,
        base_offset + 1,
        marker.build().unwrap().to_vec(),
    )
}

fn aborted(producer_id: i64, first_offset: i64, last_offset: i64) -> Aborted {
    Aborted {
        producer_id,
        first_offset,
        last_offset,
        last_stable_offset: last_offset + 1,
    }
}

/// Alice aborts 0..10 (marker 20), Bob commits 10..20 (21); Alice aborts 22..32 and 32..42, where the next
/// segment begins (marker 42), and commits 43..53 there (53).
fn log(dir: &Path) -> Log {
    let segments = [
        vec![
            data(0, ALICE),
            data(10, BOB),
            marker(20, ALICE, ControlType::Abort),
            marker(21, BOB, ControlType::Commit),
            data(22, ALICE),
        ],
        vec![
            data(32, ALICE),
            marker(42, ALICE, ControlType::Abort),
            data(43, ALICE),
            marker(53, ALICE, ControlType::Commit),
        ],
    ];
    let mut log = Log::default();
    for (n, batches) in segments.into_iter().enumerate() {
        let (base, end) = (batches[0].0, batches.last().unwrap().1);
        let bytes: Vec<u8> = batches.iter().flat_map(|b| b.2.clone()).collect();
        let path = dir.join(format!("txn-{n}.log"));
        std::fs::write(&path, &bytes).unwrap();
        log.segments.push((base, end, path, bytes));
        log.lineage.push(EpochStart {
            epoch: 1,
            start_offset: 0,
        });
        log.batches.extend(batches);
    }
    let second = aborted(ALICE, 22, 42);
    let first = Aborted::encode_all(&[aborted(ALICE, 0, 20), second]);
    log.aborted = [(0, first), (1, Aborted::encode_all(&[second]))].into();
    log
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_comes_with_the_aborted_transactions_that_touch_it() {
    for remote in [false, true] {
        let world = World::new();
        let written = log(&world.path("data"));
        let broker = FakeBroker::new(vec![log(&world.path("data"))]);
        let mut running = if remote {
            world.start_on(Arc::new(world.remote()), &broker).await
        } else {
            world.start(&broker).await
        };
        until("uploaded", || broker.verified(0) == written.end()).await;
        let (one, two) = ((ALICE, 0, 20), (ALICE, 22, 42));
        for (offset, expected) in [
            (0, vec![one, two]),
            (20, vec![one, two]),
            (21, vec![two]),
            (32, vec![two]),
            (43, vec![]),
        ] {
            let (_, reply) = running.read(0, offset, 8 << 20, false).await;
            let named = reply.aborted.unwrap().transactions;
            let named: Vec<_> = named
                .iter()
                .map(|t| (t.producer_id, t.first_offset, t.last_offset))
                .collect();
            assert_eq!(named, expected, "at {offset}, remote: {remote}");
        }
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_list_is_damage_and_not_an_empty_one() {
    let world = World::new();
    let written = log(&world.path("data"));
    let broker = FakeBroker::new(vec![log(&world.path("data"))]);
    let running = world.start(&broker).await;
    until("uploaded", || broker.verified(0) == written.end()).await;
    running.stop().await;
    let entry = Aborted::encode_all(&[aborted(ALICE, 0, 20)]);
    let mut bent = 0;
    for object in files(&world.path("bucket/v1/east/data")) {
        let mut bytes = std::fs::read(&object).unwrap();
        if let Some(at) = bytes.windows(entry.len()).position(|w| w == entry) {
            bytes[at + 9] ^= 1;
            std::fs::write(&object, bytes).unwrap();
            bent += 1;
        }
    }
    assert_eq!(bent, 1);
    let mut running = world.start(&broker).await;
    let (_, reply) = running.read(0, 0, 8 << 20, false).await;
    assert_eq!(reply.outcome(), Outcome::Damaged, "{}", reply.detail);
    let (_, reply) = running.read(0, 43, 8 << 20, false).await;
    assert_eq!(reply.outcome(), Outcome::Ranges, "{}", reply.detail);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_without_the_list_that_its_root_promises_is_damaged() {
    let world = World::new();
    let shape = [vec![(4, 1_000); 30]];
    let broker = FakeBroker::new(vec![Log::write(&world.path("data"), 0, &shape)]);
    let running = world.start(&broker).await;
    until("uploaded", || broker.verified(0) == 120).await;
    running.stop().await;
    for path in files(&world.path("bucket/v1/east/root")) {
        let mut root = Root::decode(&std::fs::read(&path).unwrap()).unwrap();
        for partition in root.partitions.values_mut() {
            partition.entries.iter_mut().for_each(|e| e.aborted = true);
        }
        std::fs::write(&path, root.encode()).unwrap();
    }
    let mut running = world.start(&broker).await;
    let (_, reply) = running.read(0, 0, 8 << 20, false).await;
    assert_eq!(reply.outcome(), Outcome::Damaged, "{}", reply.detail);
    running.stop().await;
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[test]
fn a_list_that_the_markers_contradict_is_not_uploaded() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path());
    let writer = Writer {
        region: "east".into(),
        incarnation: uuid::Uuid::from_u128(1),
        epoch: 1,
        random: 1,
        now_ms: 1,
    };
    let with = |n: usize, list: &[Aborted]| {
        let mut slice = slice_from(&log.slice(n, 1), dir.path()).unwrap();
        slice.aborted = Aborted::encode_all(list).into();
        prepare(&slice, &writer)
    };
    let (one, two) = (aborted(ALICE, 0, 20), aborted(ALICE, 22, 42));
    assert!(with(0, &[one, two]).unwrap().commit.entry.aborted);
    assert!(with(1, &[two]).is_ok());
    let mut slice = slice_from(&log.slice(0, 1), dir.path()).unwrap();
    slice.aborted = Aborted::encode_all(&[two]).into();
    assert!(prepare(&slice, &writer).is_err());
    slice.log_start = 22;
    assert!(
        prepare(&slice, &writer).is_ok(),
        "it is below the log start"
    );
    for (n, list) in [
        (0, vec![]),
        (0, vec![two]),
        (1, vec![]),
        (0, vec![aborted(BOB, 10, 21), one, two]),
        (0, vec![aborted(BOB, 10, 20), two]),
        (1, vec![two, aborted(ALICE, 43, 60)]),
    ] {
        let refused = with(n, &list).unwrap_err();
        let expected = matches!(&refused, PrepareError::Aborted { .. });
        assert!(expected, "{list:?}: {refused}");
    }
}
