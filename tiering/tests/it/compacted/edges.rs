//! Input that is not what it should be, and objects that are not what they were.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use whimbrel_runtime::{Clock, OnError, Shutdown, Tasks};
use whimbrel_tiering::{
    broker::slice_from,
    compaction::{Compaction, Held, plan::Limits},
    format::Keys,
    ops::Ops,
    prepare::{Writer, prepare},
    quarantine::Case,
    root::{Entry, Partition, Root, Stamp},
    runs::Runs,
    store::Store,
};

use super::{ALWAYS, check_replaced, compaction, sample};
use crate::{
    crash::daemon,
    memory::Memory,
    support::{at, until},
};

#[test]
fn bounds_beyond_the_batches_are_taken_only_where_compaction_was() {
    let dir = tempfile::tempdir().unwrap();
    let (_, _, broker) = sample(dir.path());
    let slices = broker.hand_out(at(0), 0, 30);
    let writer = Writer {
        region: "east".into(),
        incarnation: uuid::Uuid::from_u128(1),
        epoch: 1,
        random: 1,
        now_ms: 1,
    };
    let mut slice = slice_from(&slices[0], dir.path()).unwrap();
    let prepared = prepare(&slice, &writer).unwrap().commit;
    assert_eq!((prepared.entry.base, prepared.entry.end), (0, 30));
    // Of the first epochs no batch is left.
    let epochs: Vec<_> = prepared.lineage.iter().map(|e| e.epoch).collect();
    assert_eq!(
        (epochs, prepared.entry.leader_epoch),
        (vec![1, 2, 3, 4, 5], 5)
    );
    slice.sparse = false;
    assert!(prepare(&slice, &writer).is_err());
    slice.base = 25;
    assert!(prepare(&slice, &writer).is_ok());
    slice.end = 31;
    assert!(prepare(&slice, &writer).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_rotted_replaces_nothing_and_a_damaged_object_is_made_whole_by_a_sound_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = Memory::default();
    let (records, replica, broker) = sample(dir.path());
    let tasks = Tasks::new(Shutdown::new());
    let d = daemon(Arc::new(store.clone()), &broker, dir.path(), &tasks).await;
    let never = Limits {
        ratio: 99,
        every_ms: u64::MAX,
    };
    let (eager, lazy) = (compaction(&d, ALWAYS), compaction(&d, never));
    let quarantine = d.retention.quarantine.clone();
    tasks.spawn("uploader", OnError::Log, d.uploader.run());
    until("all uploaded", || broker.verified(0) == 40).await;
    let sound = replica.cleaned(&records, dir.path(), 1);
    let last = sound.last().unwrap().path.clone();
    let mut bytes = std::fs::read(&last).unwrap();
    bytes[70] ^= 4;
    std::fs::write(&last, &bytes).unwrap();
    broker.clean(0, sound);
    assert_eq!(eager.round().await.unwrap(), 0);
    until("released", || broker.pinned() == 0).await;
    let entries = || d.committer.partition(at(0)).unwrap().entries;
    let before = entries();
    assert!(before.iter().all(|e| !e.is_sparse()));
    // Not worth it, until one of the objects is damaged.
    broker.clean(0, replica.cleaned(&records, dir.path(), 2));
    assert_eq!(lazy.round().await.unwrap(), 0);
    let shard = d.committer.shard_of(at(0));
    let key = before[0].key(&Keys::new("east"), shard, at(0));
    store.delete(&key).await.unwrap();
    let case = Case {
        object: key.to_string(),
        topic: "access.log".to_owned(),
        partition: 0,
        from_offset: before[0].base,
        to_offset: before[0].end,
        reason: "it is not in the bucket".to_owned(),
    };
    quarantine.add(&key, case);
    assert_eq!(lazy.round().await.unwrap(), 1);
    assert!(entries()[0].is_sparse() && !quarantine.holds(&key));
    assert_eq!(lazy.round().await.unwrap(), 0);
    let mut seen = BTreeMap::new();
    d.retention.delete_pending(&mut seen).await.unwrap();
    check_replaced(&store).await;
    tasks.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn an_object_whose_successor_is_in_a_run_is_named_by_nobody() {
    let (keys, store) = (Keys::new("east"), Memory::default());
    let entry = |base: i64, end: i64, random| Entry {
        base,
        end,
        object_end: end,
        leader_epoch: 1,
        writer_epoch: 1,
        random,
        object_bytes: 300,
        data_bytes: 100,
        records: 1,
        first_timestamp_ms: 0,
        max_timestamp_ms: 0,
        crc64: 0,
        created_ms: 0,
        aborted: false,
        merged: None,
    };
    let stamp = Stamp {
        incarnation: uuid::Uuid::nil(),
        epoch: 1,
        sequence: 1,
        nonce: uuid::Uuid::nil(),
    };
    let mut root = Root::empty(stamp, "east", 0, 1, 0);
    let (old, new) = (entry(0, 10, 1), entry(0, 10, 2));
    let partition = Partition {
        end: 40,
        entries: vec![new, entry(10, 20, 3), entry(20, 30, 4), entry(30, 40, 5)],
        ..Partition::default()
    };
    root.partitions.insert(at(0), partition);
    let spilled = root.spill(1, 7).unwrap();
    let part = keys.root_part(&spilled.name);
    store
        .put_if_absent(&part, spilled.bytes.into())
        .await
        .unwrap();
    let clock = Clock::system();
    let runs = Runs::new(
        Arc::new(store),
        keys.clone(),
        clock.clone(),
        Ops::new(clock),
    );
    let key = |entry: &Entry| entry.key(&keys, 0, at(0));
    assert!(runs.names(&root, &key(&new)).await.unwrap());
    assert!(!runs.names(&root, &key(&old)).await.unwrap());
    assert!(runs.names(&root, &key(&entry(30, 40, 5))).await.unwrap());
    assert!(!runs.names(&root, &key(&entry(30, 40, 6))).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_holds_a_log_up_is_named_for_as_long_as_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let store = Memory::default();
    let (_, _, broker) = sample(dir.path());
    let tasks = Tasks::new(Shutdown::new());
    let d = daemon(Arc::new(store.clone()), &broker, dir.path(), &tasks).await;
    let few = compaction(&d, ALWAYS);
    let few = Compaction {
        most_unlinked: 2,
        ..few
    };
    let enough = Compaction {
        most_unlinked: 20,
        ..few.clone()
    };
    tasks.spawn("uploader", OnError::Log, d.uploader.run());
    until("all uploaded", || broker.verified(0) == 40).await;
    for _ in 0..3 {
        assert_eq!(few.round().await.unwrap(), 0);
        let held = few.held.json();
        assert_eq!((held.len(), few.held.count()), (1, 1));
        assert_eq!(held[0]["partition"], at(0).to_string());
        let reason = held[0]["reason"].as_str().unwrap();
        assert!(reason.contains("objects in the bucket"), "{reason}");
    }
    assert_eq!(enough.round().await.unwrap(), 1);
    assert_eq!(enough.held.count(), 0);
    tasks.stop(Duration::ZERO).await;
}

#[test]
fn what_holds_a_log_up_is_new_once() {
    let held = Held::default();
    assert!(held.hold(at(0), "why".to_owned()));
    assert!(!held.hold(at(0), "why, otherwise".to_owned()));
    assert!(held.hold(at(1), "why".to_owned()));
    assert!(held.let_go(at(0)) && !held.let_go(at(0)));
    assert!(held.hold(at(0), "again".to_owned()));
    held.keep(|kept| kept == at(1));
    assert_eq!(held.count(), 1);
}
