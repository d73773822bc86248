//! What compaction has left of a log takes the place of what it was in the bucket: at once, or not at all,
//! whoever dies meanwhile; and no reader meets a gap, or a key that was deleted.

mod edges;
mod model;
mod rebuilt;

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use whimbrel_runtime::{Clock, OnError, Shutdown, Tasks};
use whimbrel_tiering::{
    MIN_CACHE,
    cache::{Cache, Shelf},
    compaction::{Compaction, Held, MOST_UNLINKED, plan::Limits},
    format::Keys,
    ops::Ops,
    reader::{Answer, Blocks, Damage, ReadError, Reader, Wish},
    root::{MAX_BYTES, Partition, Root},
    store::Store,
};
use whimbrel_wire::{Batches, codec::Limits as Decoding, record::records};

use self::model::{Record, Replica};
use crate::{
    broker::FakeBroker,
    crash::{Daemon, SHARDS, daemon, roots, try_daemon},
    fault::{Fault, Plan, at_each_write, death, pause},
    memory::Memory,
    support::{at, until},
    zombie::refuses_edits,
};

const ALWAYS: Limits = Limits {
    ratio: 1,
    every_ms: 0,
};

fn compaction(d: &Daemon, limits: Limits) -> Compaction {
    let u = &d.uploader;
    Compaction {
        broker: u.broker.clone(),
        committer: u.committer.clone(),
        transfer: u.transfer.clone(),
        keys: u.keys.clone(),
        region: u.region.clone(),
        incarnation: u.incarnation,
        data_dir: u.data_dir.clone(),
        clock: u.clock.clone(),
        tasks: u.tasks.clone(),
        ops: u.ops.clone(),
        objects: u.objects.clone(),
        quarantine: d.retention.quarantine.clone(),
        interval: Duration::from_secs(1),
        limits,
        most_unlinked: MOST_UNLINKED,
        held: Held::default(),
    }
}

/// Four segments of ten records of five keys, the first three cleaned; keys 1 and 3 are deleted.
fn sample(dir: &Path) -> (Vec<Record>, Replica, FakeBroker) {
    let records: Vec<Record> = (0..40_u8)
        .map(|n| (n % 5, (n != 26 && n != 28).then_some(n)))
        .collect();
    let mut replica = Replica {
        ends: vec![10, 20, 30, 40],
        ..Replica::default()
    };
    let broker = FakeBroker::new(vec![replica.log(&records, dir, 0)]);
    replica.clean(&records, 30);
    broker.clean(0, replica.cleaned(&records, dir, 0));
    (records, replica, broker)
}

/// Uploads all, replaces what was cleaned, deletes what is not needed any more; or until the death.
async fn live(fault: &Fault<Memory>, dir: &Path) {
    let (_, _, broker) = sample(dir);
    let broker = broker.beside(&fault.store);
    let tasks = Tasks::new(Shutdown::new());
    let work = async {
        let d = daemon(Arc::new(fault.clone()), &broker, dir, &tasks).await;
        let mut swept = d.retention.sweep().await.unwrap();
        let compaction = compaction(&d, ALWAYS);
        d.tasks.spawn("uploader", OnError::Log, d.uploader.run());
        until("all uploaded", || broker.verified(0) == 40).await;
        compaction.round().await.unwrap();
        d.retention.look_again(&mut swept.spared).await.unwrap();
        let mut seen = BTreeMap::new();
        d.retention.delete_pending(&mut seen).await.unwrap();
        let roots = d.committer.roots();
        assert!(roots.iter().all(|root| root.pending.is_empty()));
    };
    fault.or_death(work).await;
    tasks.stop(Duration::ZERO).await;
    let too_early = broker.freed_too_early().await;
    assert!(too_early.is_empty(), "{:?}: {too_early:?}", fault.plan);
}

/// The bucket as its roots have it: each object is there, and none besides; entries follow one another.
async fn check(store: &Memory) -> Partition {
    let (keys, mut named, mut found) = (Keys::new("east"), BTreeSet::new(), None);
    for shard in 0..SHARDS {
        let bytes = store.get(&keys.root(shard), MAX_BYTES).await.unwrap().bytes;
        // Reading it checks that there is neither gap nor overlap.
        let root = Root::decode(&bytes).unwrap();
        for (at, partition) in root.partitions {
            for entry in &partition.entries {
                let key = entry.key(&keys, shard, at);
                let object = store.get(&key, u64::MAX).await.unwrap();
                let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &object.bytes);
                assert_eq!(crc, entry.crc64);
                named.insert(key.to_string());
            }
            found = Some(partition);
        }
    }
    let there = store.list(&keys.data_prefix()).await.unwrap();
    let there: BTreeSet<_> = there.into_iter().map(|l| l.key.to_string()).collect();
    assert_eq!(there, named, "objects in the bucket and in the roots");
    found.unwrap()
}

async fn check_replaced(store: &Memory) {
    let partition = check(store).await;
    let bounds: Vec<_> = partition.entries.iter().map(|e| (e.base, e.end)).collect();
    // Nothing was left of the first two segments.
    assert_eq!(bounds, [(0, 30), (30, 35), (35, 40)]);
    assert_eq!(partition.entries[0].records, 5);
    assert!(partition.entries[0].is_sparse() && !partition.entries[1].is_sparse());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_at_any_write_leaves_the_old_or_the_new_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let writes = at_each_write(death, Memory::default, async |fault| {
        live(&fault, dir.path()).await;
        live(&fault.sound(), dir.path()).await;
        check_replaced(&fault.store).await;
    })
    .await;
    assert!(writes > 12, "only {writes} writes");
}

/// A daemon is stopped at every write, another one takes over and finishes, the first goes on.
#[expect(
    clippy::disallowed_methods,
    reason = "what is stopped is no task of anybody's"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_was_stopped_while_it_replaced_changes_nothing_later() {
    let dir = tempfile::tempdir().unwrap();
    let writes = at_each_write(pause, Memory::default, async |fault| {
        let done = Arc::new(AtomicBool::new(false));
        let life = zombie(fault.clone(), dir.path().to_owned(), Arc::clone(&done));
        let first = tokio::spawn(life);
        until("stopped, or done with everything", || {
            fault.is_struck() || done.load(Ordering::SeqCst)
        })
        .await;
        live(&fault.sound(), dir.path()).await;
        let before = roots(&fault.store).await;
        fault.resume();
        assert!(first.await.unwrap(), "{:?}", fault.plan);
        assert_eq!(roots(&fault.store).await, before, "{:?}", fault.plan);
        // What it uploaded too late is named by nobody, and goes.
        live(&fault.sound(), dir.path()).await;
        check_replaced(&fault.store).await;
    })
    .await;
    assert!(writes > 12, "only {writes} writes");
}

/// A whole life, and then one more edit of every shard: true when those were refused, or the life was.
async fn zombie(fault: Fault<Memory>, dir: std::path::PathBuf, done: Arc<AtomicBool>) -> bool {
    let (_, _, broker) = sample(&dir);
    let broker = broker.beside(&fault.store);
    let tasks = Tasks::new(Shutdown::new());
    let Ok(d) = try_daemon(Arc::new(fault.clone()), &broker, &dir, &tasks).await else {
        return true;
    };
    let (compaction, shutdown) = (compaction(&d, ALWAYS), tasks.shutdown());
    tasks.spawn("uploader", OnError::Shutdown, d.uploader.run());
    let uploaded = until("all uploaded", || broker.verified(0) == 40);
    let _ = shutdown.unless(uploaded).await;
    if tasks.failure().is_none() {
        let _ = compaction.round().await;
        let mut seen = BTreeMap::new();
        let _ = d.retention.delete_pending(&mut seen).await;
    }
    done.store(true, Ordering::SeqCst);
    fault.resumed().await;
    let refused = refuses_edits(&d.committer).await;
    tasks.stop(Duration::ZERO).await;
    refused && broker.freed_too_early().await.is_empty()
}

struct Draw(u64);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn reader(d: &Daemon, store: Arc<dyn Store>, dir: &Path) -> Reader {
    let clock = Clock::system();
    let cache = Arc::new(Cache::open(&dir.join("blocks"), MIN_CACHE.0).unwrap());
    let blocks = Blocks::new(
        store,
        Shelf::new(cache, clock.clone(), d.tasks.clone()),
        Ops::new(clock.clone()),
        clock,
        d.tasks.clone(),
    );
    let (committer, objects) = (d.committer.clone(), d.uploader.objects.clone());
    Reader::new(
        committer,
        Keys::new("east"),
        blocks,
        objects,
        Damage::default(),
    )
}

/// All records from `offset` on, as a consumer that goes on behind what it got.
async fn read_from(reader: &Reader, offset: i64, end: i64, max_bytes: u64) -> Vec<(i64, Record)> {
    let (mut next, mut all) = (offset, Vec::new());
    while next < end {
        let wish = Wish {
            at: at(0),
            offset: next,
            max_bytes,
            doubt: false,
        };
        let answer = reader.read(wish, &[]).await.unwrap();
        let Answer::Ranges {
            ranges,
            next_offset,
            ..
        } = answer
        else {
            panic!("{next} of {end}: {answer:?}");
        };
        assert!(next_offset > next, "{next_offset} after {next}");
        let mut bytes = Vec::new();
        for range in ranges {
            let file = std::fs::File::open(&range.path).unwrap();
            let mut part = vec![0; usize::try_from(range.length).unwrap()];
            file.read_exact_at(&mut part, range.position).unwrap();
            bytes.extend(part);
        }
        for batch in Batches::new(bytes.into()) {
            for record in records(&batch.unwrap(), Decoding::default()).unwrap() {
                let record = record.unwrap();
                let value = record.value.as_ref().map(|v| v[0]);
                all.push((record.offset, (record.key.unwrap()[0], value)));
            }
        }
        next = next_offset;
    }
    all
}

/// What a consumer from `offset` on ends up with is what the log's records say: of every key the newest value, and
/// none of a key that was deleted.
async fn check_reads(reader: &Reader, written: &[Record], offset: i64, end: i64, max_bytes: u64) {
    let mut seen = BTreeMap::new();
    let mut before = offset - 1;
    for (at, record) in read_from(reader, offset, end, max_bytes).await {
        assert!(at > before && at < end, "{at} after {before}");
        assert_eq!(written[usize::try_from(at).unwrap()], record);
        seen.insert(record.0, record.1);
        before = at;
    }
    let mut expected = BTreeMap::new();
    for (at, (key, value)) in (0..end).zip(written) {
        if at >= offset {
            expected.insert(*key, *value);
        }
    }
    // A tombstone may have gone with what it deleted.
    seen.retain(|_, value| value.is_some());
    expected.retain(|_, value| value.is_some());
    assert_eq!(seen, expected, "from {offset} to {end}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_leads_and_cleans_a_cold_reader_sees_of_every_key_what_the_log_says() {
    for seed in [3, 77, 1_234, 98_765] {
        let dir = tempfile::tempdir().unwrap();
        let (store, mut draw) = (Memory::default(), Draw(seed));
        let broker = FakeBroker::new(Vec::new());
        let tasks = Tasks::new(Shutdown::new());
        let d = daemon(Arc::new(store.clone()), &broker, dir.path(), &tasks).await;
        let (compaction, reader) = (
            compaction(&d, ALWAYS),
            reader(&d, Arc::new(store.clone()), dir.path()),
        );
        let retention = d.retention.clone();
        tasks.spawn("uploader", OnError::Log, d.uploader.run());
        let (mut written, mut replicas): (Vec<Record>, _) =
            (Vec::new(), [Replica::default(), Replica::default()]);
        let (mut leader, mut tiered, mut replaced) = (0, 0, 0);
        for version in 0..60 {
            match draw.below(6) {
                0 | 1 => {
                    for _ in 0..draw.below(12) + 1 {
                        let value = u8::try_from(draw.below(200)).unwrap();
                        let key = u8::try_from(draw.below(6)).unwrap();
                        written.push((key, (value > 60).then_some(value)));
                        // Each copy closes its segments where it likes.
                        for replica in &mut replicas {
                            if draw.below(5) == 0 {
                                replica.ends.push(i64::try_from(written.len()).unwrap());
                            }
                        }
                    }
                }
                2 => leader = 1 - leader,
                3 => {
                    let one = usize::try_from(draw.below(2)).unwrap();
                    replicas[one].clean(&written, tiered);
                }
                4 => {
                    let replica: &Replica = &replicas[leader];
                    let log = replica.log(&written, dir.path(), tiered);
                    tiered = tiered.max(log.end());
                    broker.replace(vec![log]);
                    until("uploaded", || broker.verified(0) >= tiered).await;
                }
                _ => {
                    let cleaned = replicas[leader].cleaned(&written, dir.path(), version);
                    broker.clean(0, cleaned);
                    replaced += compaction.round().await.unwrap();
                    let mut seen = BTreeMap::new();
                    retention.delete_pending(&mut seen).await.unwrap();
                }
            }
            if tiered > 0 {
                let offset = i64::try_from(draw.below(tiered.unsigned_abs())).unwrap();
                let max_bytes = draw.below(600);
                check_reads(&reader, &written, offset, tiered, max_bytes).await;
                check_reads(&reader, &written, 0, tiered, 1 << 20).await;
            }
        }
        assert!(replaced > 0, "seed {seed}: nothing was ever replaced");
        check(&store).await;
        tasks.stop(Duration::ZERO).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_with_an_old_root_reads_the_newest_before_it_calls_an_object_lost() {
    let dir = tempfile::tempdir().unwrap();
    let store = Memory::default();
    let (records, _, broker) = sample(dir.path());
    let tasks = Tasks::new(Shutdown::new());
    let d = daemon(Arc::new(store.clone()), &broker, dir.path(), &tasks).await;
    let reader = reader(&d, Arc::new(store.clone()), dir.path());
    tasks.spawn("uploader", OnError::Log, d.uploader.clone().run());
    until("all uploaded", || broker.verified(0) == 40).await;
    let as_it_was = d.committer.partition(at(0)).unwrap().entries;
    // Another daemon takes over, replaces what was cleaned, and deletes.
    live(&Fault::new(store.clone(), Plan::Nothing), dir.path()).await;
    check_replaced(&store).await;
    let old = d.committer.partition(at(0)).unwrap();
    assert_eq!(old.entries, as_it_was, "it was not told");
    check_reads(&reader, &records, 0, 40, 1 << 20).await;
    assert_eq!(*reader.damage.lock(), BTreeMap::new());
    // What the newest root names is to be there.
    let newest = check(&store).await;
    let shard = d.committer.shard_of(at(0));
    let key = newest.entries[0].key(&Keys::new("east"), shard, at(0));
    store.delete(&key).await.unwrap();
    let other = dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let reader = self::reader(&d, Arc::new(store.clone()), &other);
    let wish = Wish {
        at: at(0),
        offset: 2,
        max_bytes: 1,
        doubt: false,
    };
    let answer = reader.read(wish, &[]).await;
    assert!(
        matches!(answer, Err(ReadError::Damaged { .. })),
        "{answer:?}"
    );
    assert!(reader.damage.lock().contains_key(&key));
    tasks.stop(Duration::ZERO).await;
}
