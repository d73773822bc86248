//! Power cuts at any moment of a log's life, on a disk that writes back in any order (see [`crate::platter`]): what was
//! synced is there, what is there was written, and what is told about it is true.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use whimbrel_log::calls::watch;
use whimbrel_log::{AppendContext, Disk, Health, Log, LogConfig};
use whimbrel_wire::control::{ControlType, Marker, MarkerBatch};
use whimbrel_wire::{BatchBuilder, BatchHeader};

use crate::platter::{Platter, Viewer};
use crate::support::{Crashed, Fixture, quick_dir, small_segments};

const PRODUCER: i64 = 4;
const IN_TRANSACTION: i64 = 8;

#[derive(Debug, Clone)]
struct Written {
    header: BatchHeader,
    bytes: Bytes,
    now_ms: i64,
}

/// What holds at a moment.
#[derive(Debug, Default)]
struct Promise {
    batches: Vec<Written>,
    /// Below, all is synced.
    acked_end: i64,
    /// Where the log begins; the second once a call that is made has ended.
    starts: (i64, i64),
    /// Up to here local bytes may be gone.
    freed: i64,
}

#[derive(Debug)]
struct Cuts {
    promise: Arc<Mutex<Promise>>,
    seed: u64,
    count: Arc<Mutex<usize>>,
}

impl Viewer for Cuts {
    fn view(&self, platter: &Platter) {
        if platter.chance(0.06) {
            let mut count = self.count.lock();
            *count += 1;
            let context = format!("seed {} cut {count}", self.seed);
            check(&platter.cut_power(), &self.promise.lock(), &context);
        }
    }
}

fn is_abort(written: &Written) -> bool {
    written.header.is_control()
}

fn check(crashed: &Crashed, promise: &Promise, context: &str) {
    let (disk, log) = crashed.open();
    let offsets = log.offsets();
    let health = log.health();
    assert_eq!(health, Health::Good, "{context}: {offsets:?}");
    assert!(
        offsets.log_end >= promise.acked_end,
        "{context}: {offsets:?}"
    );
    let known = offsets.known_log_start;
    let starts = [Some(promise.starts.0), Some(promise.starts.1)];
    assert!(starts.contains(&known), "{context}: {offsets:?}");
    let local = offsets.local_log_start;
    let freed = promise.freed.max(promise.starts.1);
    assert!(local <= freed, "{context}: {offsets:?}, {freed}");
    let there = there(&log, local, promise, context);
    let aborts = there.iter().filter(|written| is_abort(written));
    let aborts: Vec<i64> = aborts.map(|marker| marker.header.base_offset).collect();
    let told = log.aborted(local, i64::MAX).unwrap();
    let told: Vec<i64> = told.iter().map(|aborted| aborted.last_offset).collect();
    assert_eq!(told, aborts, "{context}");
    for one in &there {
        let said = log.append_time_of(one.header.base_offset);
        assert!(
            said.is_none_or(|said| said <= one.now_ms),
            "{context}: {one:?} {said:?}"
        );
    }
    if let Some(one) = there.get(there.len() / 2) {
        let time = one.header.max_timestamp;
        let expected = there.iter().find(|one| one.header.max_timestamp >= time);
        let found = log.offset_for_timestamp(time).unwrap();
        let found = found.unwrap_or_else(|| panic!("{context}: {time}")).offset;
        let range = expected.map(|one| one.header.base_offset..one.header.next_offset());
        assert!(range.unwrap().contains(&found), "{context}: {found}");
    }
    goes_on(&log, &there, context);
    disk.sync().unwrap();
    let end = log.offsets().log_end;
    drop((disk, log));
    let (_disk, log) = crashed.open();
    assert_eq!((log.health(), log.offsets().log_end), (Health::Good, end));
}

/// The batches of the log, each read by its offset.
fn there(log: &Log, local: i64, promise: &Promise, context: &str) -> Vec<Written> {
    let end = log.offsets().log_end;
    let written = promise.batches.iter();
    let mut there = Vec::new();
    let mut at = local;
    for one in written.skip_while(|one| one.header.next_offset() <= local) {
        if at >= end {
            break;
        }
        let slice = log.read(at, 1, true, end);
        let slice = slice.unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(slice.records, one.bytes, "{context} at {at}");
        at = one.header.next_offset();
        there.push(one.clone());
    }
    assert_eq!(at.max(local), end, "{context}: more than was written");
    there
}

fn goes_on(log: &Log, there: &[Written], context: &str) {
    let epoch = log.lineage().last().map_or(0, |last| last.epoch);
    let of_producer = |one: &&Written| one.header.producer_id == PRODUCER;
    if let Some(newest) = there.iter().rfind(of_producer) {
        let again = log.append(newest.bytes.clone(), AppendContext::new(epoch, 1));
        let again = again.unwrap_or_else(|error| panic!("{context}: {error}"));
        assert!(again.duplicate, "{context}: {newest:?}");
    }
    let end = log.offsets().log_end;
    log.begin_epoch(epoch + 1).unwrap();
    let more = crate::support::batch(1, 1);
    let more = log.append(more, AppendContext::new(epoch + 1, 1)).unwrap();
    assert_eq!(more.base_offset, end, "{context}");
}

struct Life<'a> {
    disk: &'a Disk,
    log: &'a Log,
    promise: Arc<Mutex<Promise>>,
    random: StdRng,
    now_ms: i64,
    epoch: i32,
    sequence: i32,
    in_transaction: i32,
}

impl Life<'_> {
    fn filled(&mut self, mut builder: BatchBuilder) -> Bytes {
        let most = if self.random.random_bool(0.1) {
            9000
        } else {
            300
        };
        for _ in 0..self.random.random_range(1..4) {
            let value = vec![7; self.random.random_range(0..most)];
            builder.add(self.now_ms, None, Some(&value), &[]).unwrap();
        }
        builder.finish().unwrap()
    }

    fn abort(&self) -> Bytes {
        let marker = MarkerBatch {
            base_offset: 0,
            leader_epoch: 0,
            timestamp_ms: self.now_ms,
            producer_id: IN_TRANSACTION,
            producer_epoch: 0,
            marker: Marker {
                control_type: ControlType::Abort,
                coordinator_epoch: 0,
            },
        };
        marker.build().unwrap()
    }

    fn append(&mut self, bytes: Bytes) {
        let mut stored = bytes.to_vec();
        stored[..8].copy_from_slice(&self.log.offsets().log_end.to_be_bytes());
        stored[12..16].copy_from_slice(&self.epoch.to_be_bytes());
        let written = Written {
            header: BatchHeader::parse(&stored).unwrap(),
            bytes: stored.into(),
            now_ms: self.now_ms,
        };
        self.promise.lock().batches.push(written);
        let context = AppendContext::new(self.epoch, self.now_ms);
        self.log.append(bytes, context).unwrap();
    }

    fn append_some(&mut self) {
        self.now_ms += self.random.random_range(0..70);
        let builder = BatchBuilder::new(0);
        let bytes = match self.random.random_range(0..8) {
            0 | 1 => {
                let bytes = self.filled(builder.producer(PRODUCER, 0, self.sequence));
                self.sequence += BatchHeader::parse(&bytes).unwrap().records_count;
                bytes
            }
            2 => {
                let builder = builder.producer(IN_TRANSACTION, 0, self.in_transaction);
                let bytes = self.filled(builder.transactional(true));
                self.in_transaction += BatchHeader::parse(&bytes).unwrap().records_count;
                self.append(bytes);
                self.abort()
            }
            _ => self.filled(builder),
        };
        self.append(bytes);
    }

    fn sync(&self) {
        self.disk.sync().unwrap();
        self.promise.lock().acked_end = self.log.offsets().durable_end;
    }

    fn truncate(&mut self) {
        let at = {
            let mut promise = self.promise.lock();
            let local = self.log.offsets().local_log_start;
            let may_go = |one: &Written| one.header.base_offset >= local;
            let Some(first) = promise.batches.iter().position(may_go) else {
                return;
            };
            let keep = self.random.random_range(first..promise.batches.len());
            let at = promise.batches[keep].header.base_offset;
            promise.acked_end = promise.acked_end.min(at);
            (keep, at)
        };
        let lineage = self.log.lineage();
        let owner = lineage.iter().rfind(|owner| owner.start_offset < at.1);
        let owner = owner.map_or(self.epoch, |owner| owner.epoch);
        assert_eq!(self.log.truncate(owner, at.1).unwrap().to, at.1);
        let mut promise = self.promise.lock();
        promise.batches.truncate(at.0);
        drop(promise);
        let next = |id: i64| {
            let producer = self.log.producer(id);
            let newest = producer.and_then(|producer| producer.batches.last().copied());
            newest.map_or(0, |batch| batch.last_sequence + 1)
        };
        (self.sequence, self.in_transaction) = (next(PRODUCER), next(IN_TRANSACTION));
        self.begin_epoch();
    }

    fn begin_epoch(&mut self) {
        self.epoch += 1;
        self.log.begin_epoch(self.epoch).unwrap();
    }

    fn free(&mut self) {
        let offsets = self.log.offsets();
        let to = self
            .random
            .random_range(offsets.log_start..=offsets.durable_end);
        let mut promise = self.promise.lock();
        promise.freed = promise.freed.max(to);
        drop(promise);
        self.log.free_local_before(to).unwrap();
    }

    fn set_log_start(&mut self) {
        let offsets = self.log.offsets();
        let to = self
            .random
            .random_range(offsets.log_start..=offsets.durable_end);
        self.promise.lock().starts.1 = to;
        self.log.set_log_start(to).unwrap();
        self.promise.lock().starts.0 = to;
    }

    fn step(&mut self) {
        match self.random.random_range(0..40) {
            0..24 => self.append_some(),
            24..31 => self.sync(),
            31 | 32 => self.disk.flush_durable_points().unwrap(),
            33 | 34 => self.disk.checkpoint().unwrap(),
            35 => drop(self.log.roll().unwrap()),
            36 => self.begin_epoch(),
            37 => self.truncate(),
            38 => self.free(),
            _ => self.set_log_start(),
        }
    }
}

fn live(seed: u64) -> usize {
    let mut random = StdRng::seed_from_u64(seed);
    let config = LogConfig {
        segment_bytes: [4 << 10, 11 << 10, 1 << 20][random.random_range(0..3)],
        ..small_segments()
    };
    let f = Fixture::in_dir(quick_dir(), config);
    let start = [0, 70_000, 1 << 40][random.random_range(0..3)];
    f.log.reset(start).unwrap();
    f.sync();
    f.disk.flush_durable_points().unwrap();
    let promise = Promise {
        acked_end: start,
        starts: (start, start),
        ..Promise::default()
    };
    let promise = Arc::new(Mutex::new(promise));
    let count = Arc::default();
    let cuts = Cuts {
        promise: Arc::clone(&promise),
        seed,
        count: Arc::clone(&count),
    };
    let platter = Platter::new(&f.root, seed, Box::new(cuts));
    let watching = watch(&f.root, Arc::new(platter));
    let mut life = Life {
        disk: &f.disk,
        log: &f.log,
        promise,
        random,
        now_ms: 1000,
        epoch: 0,
        sequence: 0,
        in_transaction: 0,
    };
    life.begin_epoch();
    for _ in 0..60 {
        life.step();
    }
    drop(watching);
    *count.lock()
}

#[test]
fn whatever_order_pages_and_names_reach_the_disk_in_a_power_cut_loses_nothing_that_was_synced() {
    let cuts: usize = (0..40).map(live).sum();
    assert!(cuts > 400, "{cuts}");
}
