//! The log against a list of batches, through every operation, clean restarts and crashes.

use std::fs::{self, OpenOptions};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use whimbrel_log::{AppendContext, Disk, Health, Log};

use crate::support::{Crashed, Fixture, batch, file_of, read_all, small_segments};

#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    Replicate(usize),
    Epoch,
    Roll,
    Sync,
    Points,
    Checkpoint,
    Truncate(prop::sample::Index),
    Free(prop::sample::Index),
    Start(prop::sample::Index),
    Restart,
    /// Crash, with this much of what was not durable still there.
    Crash(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..6usize).prop_map(Step::Append),
        3 => (1..6usize).prop_map(Step::Replicate),
        1 => Just(Step::Epoch),
        1 => Just(Step::Roll),
        3 => Just(Step::Sync),
        1 => Just(Step::Points),
        1 => Just(Step::Checkpoint),
        1 => any::<prop::sample::Index>().prop_map(Step::Truncate),
        1 => any::<prop::sample::Index>().prop_map(Step::Free),
        1 => any::<prop::sample::Index>().prop_map(Step::Start),
        1 => Just(Step::Restart),
        2 => any::<prop::sample::Index>().prop_map(Step::Crash),
    ]
}

struct Model {
    /// What should be in the log: base offset, epoch, bytes as stored.
    batches: Vec<(i64, i32, Vec<u8>)>,
    log_start: i64,
    epoch: i32,
    count: i64,
    disk: Arc<Disk>,
    log: Arc<Log>,
    place: Crashed,
}

impl Model {
    fn new() -> Self {
        let place = Fixture::new().crash();
        let (disk, log) = place.open();
        Model {
            batches: Vec::new(),
            log_start: 0,
            epoch: 0,
            count: 0,
            disk,
            log,
            place,
        }
    }

    fn end(&self) -> i64 {
        self.log.offsets().log_end
    }

    fn push(&mut self, mut bytes: Vec<u8>) {
        let base = self.end();
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.epoch.to_be_bytes());
        self.batches.push((base, self.epoch, bytes));
    }

    fn put(&mut self, records: usize, replica: bool) {
        let bytes = batch(self.count, records);
        self.count += 1;
        self.push(bytes.to_vec());
        if replica {
            let stored = Bytes::from(self.batches.last().unwrap().2.clone());
            self.log.append_replica(stored, 1000 + self.count).unwrap();
        } else {
            self.log
                .append(bytes, AppendContext::new(self.epoch, 1000 + self.count))
                .unwrap();
        }
    }

    fn open(&mut self) {
        (self.disk, self.log) = self.place.open();
    }

    fn close(&mut self) {
        // The lock goes with the last handle.
        let elsewhere = Fixture::new();
        self.disk = elsewhere.disk.clone();
        self.log = elsewhere.log.clone();
    }

    fn crash(&mut self, keep: prop::sample::Index) {
        let durable = self.log.offsets().durable_end;
        let segments = self.log.segments();
        let active = segments.last().unwrap();
        let base = active.base_offset;
        let crashed = Crashed::copy_of(&self.place.root);
        // Only the active file is cut: what lies in closed ones is there as after a kill.
        let sure: usize = self
            .batches
            .iter()
            .filter(|(at, ..)| (base..durable).contains(at))
            .map(|b| b.2.len())
            .sum();
        let length = sure + keep.index(active.bytes as usize - sure + 1);
        let file = OpenOptions::new()
            .write(true)
            .open(file_of(&crashed.root, base, "log"))
            .unwrap();
        file.set_len(length as u64).unwrap();
        let mut room = length;
        self.batches.retain(|(at, _, bytes)| {
            let stays = *at < base || bytes.len() <= room;
            room = if *at < base {
                room
            } else if stays {
                room - bytes.len()
            } else {
                0
            };
            stays
        });
        self.close();
        self.place = crashed;
        self.open();
        self.epoch = self.log.lineage().last().map_or(0, |last| last.epoch);
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Append(records) => self.put(records, false),
            Step::Replicate(records) => self.put(records, true),
            Step::Epoch => {
                self.epoch += 2;
                self.log.begin_epoch(self.epoch).unwrap();
            }
            Step::Roll => drop(self.log.roll().unwrap()),
            Step::Sync => drop(self.disk.sync().unwrap()),
            Step::Points => self.disk.flush_durable_points().unwrap(),
            Step::Checkpoint => self.disk.checkpoint().unwrap(),
            Step::Truncate(at) => {
                let local = self.log.offsets().local_log_start;
                let local: Vec<_> = self
                    .batches
                    .iter()
                    .filter(|b| b.0 >= local)
                    .map(|b| b.0)
                    .collect();
                if local.is_empty() {
                    return;
                }
                let offset = *at.get(&local);
                let owner = self
                    .batches
                    .iter()
                    .take_while(|b| b.0 < offset)
                    .last()
                    .map_or(0, |b| b.1);
                let cut = self.log.truncate(owner, offset).unwrap();
                assert_eq!(cut.to, offset);
                self.batches.retain(|b| b.0 < offset);
                self.epoch = self
                    .log
                    .lineage()
                    .last()
                    .map_or(0, |last| last.epoch)
                    .max(owner);
            }
            Step::Free(at) => {
                let offset = at.index(self.end() as usize + 1) as i64;
                let before = self.log.offsets().local_log_start;
                let freed = self.log.free_local_before(offset).unwrap();
                assert!(freed.local_log_start <= offset.max(before));
            }
            Step::Start(at) => {
                let room = (self.end() - self.log_start) as usize + 1;
                self.log_start += at.index(room) as i64;
                self.log.set_log_start(self.log_start).unwrap();
            }
            Step::Restart => {
                self.disk.close().unwrap();
                self.close();
                self.open();
            }
            Step::Crash(keep) => self.crash(keep),
        }
    }

    fn check(&self) {
        let offsets = self.log.offsets();
        assert_eq!(self.log.health(), Health::Good);
        assert_eq!(offsets.log_start, self.log_start);
        assert!(
            offsets.log_start <= offsets.local_log_start && offsets.durable_end <= offsets.log_end
        );
        let local = self.log.segments()[0].base_offset;
        let expected: Vec<u8> = self
            .batches
            .iter()
            .filter(|b| b.0 >= local)
            .flat_map(|b| b.2.clone())
            .collect();
        let whole = self
            .batches
            .iter()
            .filter(|b| b.0 >= offsets.local_log_start)
            .map(|b| b.2.len())
            .sum::<usize>();
        let read = read_all(&self.log, offsets.local_log_start);
        // A log start inside a batch still reads the whole batch.
        assert!(
            expected.ends_with(&read) && read.len() >= whole,
            "{offsets:?}"
        );
        let stored: u64 = self.log.segments().iter().map(|s| s.bytes).sum();
        assert_eq!(stored, expected.len() as u64);
        for (base, epoch, _) in self.batches.iter().filter(|b| b.0 >= self.log_start) {
            let owner = self
                .log
                .lineage()
                .iter()
                .take_while(|e| e.start_offset <= *base)
                .last()
                .map(|e| e.epoch);
            assert_eq!(owner, Some(*epoch));
        }
        self.log.set_config(small_segments());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_a_list_of_batches(steps in prop::collection::vec(step(), 1..40)) {
        let mut model = Model::new();
        for step in steps {
            model.apply(step);
            model.check();
        }
        fs::metadata(&model.place.root).unwrap();
    }
}
