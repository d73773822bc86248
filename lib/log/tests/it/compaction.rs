//! Compaction against a map of keys, through crashes at every call.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use proptest::prelude::*;
use whimbrel_log::calls::{Call, Watcher, watch};
use whimbrel_log::{
    AppendContext, CleanBounds, CleanError, CleanupPolicy, Disk, Health, Log, LogConfig, Pace,
};
use whimbrel_wire::codec::{Codec, Limits};
use whimbrel_wire::control::{ControlType, Marker, MarkerBatch};
use whimbrel_wire::record::records;
use whimbrel_wire::{BatchBuilder, Batches};

use crate::support::{Crashed, Fixture, read_all};

pub struct Free;

impl Pace for Free {
    fn moved(&mut self, _bytes: u64) -> bool {
        true
    }
}

pub fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 2000,
        index_interval_bytes: 200,
        min_cleanable_dirty_ppm: 0,
        delete_retention_ms: 1000,
        cleanup_policy: CleanupPolicy {
            delete: false,
            compact: true,
        },
        ..LogConfig::default()
    }
}

pub const ALL: CleanBounds = CleanBounds {
    upto: i64::MAX,
    tombstones_below: i64::MAX,
    memory_bytes: 1 << 20,
};

/// A record as a consumer sees it.
pub type Seen = (String, Option<String>);

/// Records that a read_committed consumer would be given, by offset.
fn seen(log: &Log) -> BTreeMap<i64, Seen> {
    let start = log.offsets().local_log_start;
    let aborted = log.aborted(start, i64::MAX).unwrap();
    let mut seen = BTreeMap::new();
    for batch in Batches::new(Bytes::from(read_all(log, start))) {
        let batch = batch.unwrap();
        batch.verify_crc().unwrap();
        let header = batch.header;
        let gone = aborted.iter().any(|txn| {
            txn.producer_id == header.producer_id
                && (txn.first_offset..=txn.last_offset).contains(&header.base_offset)
        });
        if header.is_control() || (header.is_transactional() && gone) {
            continue;
        }
        for record in records(&batch, Limits::default()).unwrap() {
            let record = record.unwrap();
            let text = |b: Bytes| String::from_utf8(b.to_vec()).unwrap();
            seen.insert(
                record.offset,
                (text(record.key.unwrap()), record.value.map(text)),
            );
        }
    }
    seen
}

/// The newest record of each key: offset and value.
fn newest(seen: &BTreeMap<i64, Seen>) -> BTreeMap<String, (i64, Option<String>)> {
    let newest = seen
        .iter()
        .map(|(offset, (key, value))| (key.clone(), (*offset, value.clone())));
    newest.collect()
}

/// Holds a cleaned log against what was written: nothing is new, nothing moved, and of each key the newest
/// record is there, unless it is a tombstone.
pub fn check(written: &BTreeMap<i64, Seen>, log: &Log, context: &str) {
    let left = seen(log);
    for (offset, record) in &left {
        assert_eq!(
            written.get(offset),
            Some(record),
            "{context}: offset {offset}"
        );
    }
    let (before, after) = (newest(written), newest(&left));
    for (key, (offset, value)) in before {
        match after.get(&key) {
            Some(found) => assert_eq!(found, &(offset, value), "{context}: {key}"),
            None => assert_eq!(value, None, "{context}: {key} at {offset} is gone"),
        }
    }
    // Every read arrives somewhere, gaps or not.
    let offsets = log.offsets();
    for from in offsets.local_log_start..offsets.log_end {
        let slice = log.read(from, 100, true, offsets.log_end).unwrap();
        assert!(
            slice.next_offset > from,
            "{context}: read of {from} stands still"
        );
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(Vec<(u8, Option<u8>)>, u8),
    Transaction(Vec<(u8, Option<u8>)>, bool),
    Roll,
    Clean {
        now_ms: i64,
        keep: prop::sample::Index,
        memory_bytes: u64,
    },
    Restart,
}

fn put() -> impl Strategy<Value = Vec<(u8, Option<u8>)>> {
    prop::collection::vec((0..9_u8, prop::option::weighted(0.7, any::<u8>())), 1..6)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (put(), 0..5_u8).prop_map(|(records, codec)| Step::Put(records, codec)),
        3 => (put(), any::<bool>()).prop_map(|(records, commit)| Step::Transaction(records, commit)),
        2 => Just(Step::Roll),
        4 => (0..4000_i64, any::<prop::sample::Index>(), prop_oneof![Just(200_u64), Just(1 << 20)])
            .prop_map(|(now_ms, keep, memory_bytes)| Step::Clean { now_ms, keep, memory_bytes }),
        1 => Just(Step::Restart),
    ]
}

pub struct Model {
    pub place: Crashed,
    pub disk: Arc<Disk>,
    pub log: Arc<Log>,
    written: BTreeMap<i64, Seen>,
    sequence: i32,
}

impl Model {
    fn new() -> Model {
        let fixture = Fixture::with(config());
        let place = fixture.crash();
        let (disk, log) = place.open();
        log.set_config(config());
        Model {
            place,
            disk,
            log,
            written: BTreeMap::new(),
            sequence: 0,
        }
    }

    pub fn build(mut builder: BatchBuilder, records: &[(u8, Option<u8>)]) -> Bytes {
        for (key, value) in records {
            let (key, value) = (
                format!("key-{key}"),
                value.map(|v| format!("value-{v:050}")),
            );
            builder
                .add(
                    5,
                    Some(key.as_bytes()),
                    value.as_deref().map(str::as_bytes),
                    &[],
                )
                .unwrap();
        }
        builder.finish().unwrap()
    }

    fn note(&mut self, base: i64, records: &[(u8, Option<u8>)]) {
        for (at, (key, value)) in (base..).zip(records) {
            let value = value.map(|v| format!("value-{v:050}"));
            self.written.insert(at, (format!("key-{key}"), value));
        }
    }

    fn append(&self, bytes: Bytes) -> i64 {
        let done = self.log.append(bytes, AppendContext::new(0, 5)).unwrap();
        done.base_offset
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Put(records, codec) => {
                let codec = Codec::from_id(codec).unwrap();
                let base = self.append(Self::build(BatchBuilder::new(0).codec(codec), &records));
                self.note(base, &records);
            }
            Step::Transaction(records, commit) => {
                let builder = BatchBuilder::new(0)
                    .producer(7, 0, self.sequence)
                    .transactional(true);
                self.sequence += i32::try_from(records.len()).unwrap();
                let base = self.append(Self::build(builder, &records));
                let control_type = if commit {
                    ControlType::Commit
                } else {
                    ControlType::Abort
                };
                let marker = MarkerBatch {
                    base_offset: 0,
                    leader_epoch: 0,
                    timestamp_ms: 5,
                    producer_id: 7,
                    producer_epoch: 0,
                    marker: Marker {
                        control_type,
                        coordinator_epoch: 0,
                    },
                };
                self.append(marker.build().unwrap());
                if commit {
                    self.note(base, &records);
                }
            }
            Step::Roll => drop(self.log.roll().unwrap()),
            Step::Clean {
                now_ms,
                keep,
                memory_bytes,
            } => {
                self.disk.sync().unwrap();
                let end = self.log.offsets().log_end;
                let upto = keep.index(usize::try_from(end).unwrap() + 1) as i64;
                let bounds = CleanBounds {
                    upto,
                    memory_bytes,
                    ..ALL
                };
                let above = self.bytes_from(upto);
                match self.log.clean(bounds, now_ms, &mut Free) {
                    Ok(cleaned) => assert!(cleaned.clean_end <= end),
                    Err(error) => assert!(matches!(error, CleanError::NoRoom { .. }), "{error}"),
                }
                assert_eq!(self.bytes_from(upto), above);
            }
            Step::Restart => {
                self.disk.close().unwrap();
                let elsewhere = Fixture::new();
                (self.disk, self.log) = (elsewhere.disk.clone(), elsewhere.log.clone());
                (self.disk, self.log) = self.place.open();
                self.log.set_config(config());
            }
        }
    }

    /// Holds a log against all that was written, see [`check`].
    pub fn holds(&self, log: &Log, context: &str) {
        check(&self.written, log, context);
    }

    /// Batches that begin at or above the bound.
    fn bytes_from(&self, from: i64) -> Vec<Vec<u8>> {
        let start = self.log.offsets().local_log_start;
        let all = Batches::new(Bytes::from(read_all(&self.log, start)));
        all.map(Result::unwrap)
            .filter(|batch| batch.header.base_offset >= from)
            .map(|batch| batch.bytes.to_vec())
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn of_every_key_the_newest_record_stays_at_its_offset(steps in prop::collection::vec(step(), 1..60)) {
        let mut model = Model::new();
        for step in steps {
            model.apply(step);
            check(&model.written, &model.log, "");
        }
        model.disk.sync().unwrap();
        let crashed = Crashed::copy_of(&model.place.root);
        let (_disk, log) = crashed.open();
        prop_assert_eq!(log.health(), Health::Good);
        check(&model.written, &log, "after a crash");
        prop_assert_eq!(log.producers(), model.log.producers());
    }
}

/// A log with three closed segments of few keys, tombstones and an aborted transaction.
pub fn dirty() -> Model {
    let mut model = Model::new();
    for n in 0..30_u8 {
        let value = (n % 7 != 3).then_some(n);
        model.apply(Step::Put(vec![(n % 5, value), (n % 3, Some(n))], n % 5));
        if n % 9 == 4 {
            model.apply(Step::Transaction(vec![(1, Some(n))], n % 2 == 0));
        }
        if n % 10 == 9 {
            model.apply(Step::Roll);
        }
    }
    model.apply(Step::Put(vec![(8, Some(1))], 0));
    model.disk.sync().unwrap();
    model
}

/// Nothing more reaches the disk after so many calls.
#[derive(Debug)]
struct Dead(AtomicUsize);

impl Watcher for Dead {
    fn before(&self, _call: Call, _path: &Path) -> io::Result<()> {
        let left = self.0.load(Ordering::SeqCst);
        if left == 0 {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.0.store(left - 1, Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn a_crash_at_any_call_of_a_cleaning_leaves_the_log_as_it_was_or_clean() {
    for calls in 0.. {
        let model = dirty();
        let size = |log: &Log| log.segments().iter().map(|s| s.bytes).sum::<u64>();
        let before = size(&model.log);
        let watch = watch(&model.place.root, Arc::new(Dead(AtomicUsize::new(calls))));
        let done = model.log.clean(ALL, 10, &mut Free);
        drop(watch);
        let crashed = Crashed::copy_of(&model.place.root);
        let (_disk, log) = crashed.open();
        let context = format!("call {calls}");
        assert_eq!(log.health(), Health::Good, "{context}");
        check(&model.written, &log, &context);
        assert_eq!(
            log.offsets().log_end,
            model.log.offsets().log_end,
            "{context}"
        );
        for entry in std::fs::read_dir(crashed.root.join("t-0")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(
                !name.contains("cleaned") && !name.contains("swap"),
                "{context}: {name}"
            );
        }
        // And it is cleaned the next time.
        log.set_config(config());
        log.clean(ALL, 20, &mut Free).unwrap();
        check(&model.written, &log, &context);
        assert!(size(&log) < before, "{context}");
        if done.is_ok() {
            assert!(calls > 20, "{calls}");
            break;
        }
    }
}

#[test]
fn a_tombstone_goes_when_readers_had_their_time_and_not_before() {
    let mut model = Model::new();
    model.apply(Step::Put(vec![(1, Some(1)), (2, Some(1))], 0));
    model.apply(Step::Put(vec![(1, None)], 0));
    model.apply(Step::Roll);
    model.apply(Step::Put(vec![(3, Some(1))], 0));
    model.disk.sync().unwrap();
    let clean = |now_ms, tombstones_below| {
        let bounds = CleanBounds {
            tombstones_below,
            ..ALL
        };
        model.log.clean(bounds, now_ms, &mut Free).unwrap();
        // So that the next cleaning has something to look at.
        let records = [(4, Some(1))];
        let bytes = Model::build(BatchBuilder::new(0), &records);
        model.append(bytes);
        model.log.roll().unwrap();
        model.disk.sync().unwrap();
        seen(&model.log).contains_key(&2)
    };
    assert!(clean(100, i64::MAX));
    assert!(!seen(&model.log).contains_key(&0));
    // The horizon was set at 100 + 1000.
    assert!(clean(1099, i64::MAX));
    assert!(clean(1101, 2), "what it deletes may lie elsewhere");
    assert!(!clean(1102, i64::MAX));
}

#[test]
fn the_newest_sequence_of_a_producer_outlives_its_records() {
    let mut model = Model::new();
    let produce = |model: &mut Model, sequence, key: u8| {
        let builder = BatchBuilder::new(0)
            .producer(5, 1, sequence)
            .codec(Codec::Lz4);
        let base = model.append(Model::build(builder, &[(key, Some(1))]));
        model.note(base, &[(key, Some(1))]);
        base
    };
    produce(&mut model, 0, 1);
    let last = produce(&mut model, 1, 2);
    for n in 0..3 {
        model.apply(Step::Put(vec![(1, Some(n)), (2, Some(n))], 0));
    }
    model.apply(Step::Roll);
    model.apply(Step::Put(vec![(3, Some(1))], 0));
    model.disk.sync().unwrap();
    model.log.clean(ALL, 10, &mut Free).unwrap();
    check(&model.written, &model.log, "cleaned");
    let left = Batches::new(Bytes::from(read_all(&model.log, 0))).map(Result::unwrap);
    let empty: Vec<_> = left.filter(|b| b.header.records_count == 0).collect();
    assert_eq!(empty.len(), 1);
    let header = empty[0].header;
    assert_eq!(
        (
            header.base_offset,
            header.producer_id,
            header.last_sequence()
        ),
        (last, 5, 1)
    );
    // Without the snapshots the log alone still knows the producer.
    let crashed = Crashed::copy_of(&model.place.root);
    for entry in std::fs::read_dir(crashed.root.join("t-0")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|e| e == "snapshot" || e == "recent")
        {
            std::fs::remove_file(path).unwrap();
        }
    }
    let (_disk, log) = crashed.open();
    let again = Model::build(BatchBuilder::new(0).producer(5, 1, 1), &[(2, Some(1))]);
    let answer = log.append(again, AppendContext::new(0, 5)).unwrap();
    assert!(answer.duplicate);
}

#[test]
fn how_far_a_log_is_clean_is_kept_as_kafka_keeps_it_and_cut_with_the_log() {
    let model = dirty();
    let dirt = model.log.dirt(i64::MAX, 10).unwrap();
    assert!(dirt.due && dirt.first_dirty == 0 && dirt.ratio_ppm() == 1_000_000);
    let cleaned = model.log.clean(ALL, 10, &mut Free).unwrap();
    assert!(cleaned.bytes_after < cleaned.bytes_before);
    let after = model.log.dirt(i64::MAX, 10).unwrap();
    assert_eq!(
        (after.first_dirty, after.cleanable_bytes),
        (cleaned.clean_end, 0)
    );
    model.disk.sync().unwrap();
    model.disk.checkpoint().unwrap();
    let text = std::fs::read_to_string(model.place.root.join("cleaner-offset-checkpoint")).unwrap();
    assert_eq!(text, format!("0\n1\nt 0 {}\n", cleaned.clean_end));
    let crashed = Crashed::copy_of(&model.place.root);
    let (_disk, log) = crashed.open();
    assert_eq!(
        log.dirt(i64::MAX, 10).unwrap().first_dirty,
        cleaned.clean_end
    );
    log.truncate(0, cleaned.clean_end - 1).unwrap();
    assert!(log.dirt(i64::MAX, 10).unwrap().first_dirty < cleaned.clean_end);
}
