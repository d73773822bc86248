//! Segments of real batches.

use std::path::{Path, PathBuf};

use uuid::Uuid;
use whimbrel_fleet::{EpochStart, TopicPartition};
use whimbrel_rpc::proto::node;
use whimbrel_wire::BatchBuilder;

pub fn at(partition: i32) -> TopicPartition {
    TopicPartition::new(Uuid::from_u128(0x5eed), partition)
}

/// A log of one partition, cut into files at batch boundaries.
#[derive(Debug, Default)]
pub struct Log {
    pub partition: i32,
    /// (base offset, end offset, file, bytes)
    pub segments: Vec<(i64, i64, PathBuf, Vec<u8>)>,
    pub lineage: Vec<EpochStart>,
    /// Below it the local log is said to be gone.
    pub local_start: i64,
    /// (base offset, next offset, bytes) of every batch.
    pub batches: Vec<(i64, i64, Vec<u8>)>,
    /// Aborted transactions of a segment, as the broker lists them.
    pub aborted: std::collections::BTreeMap<usize, Vec<u8>>,
}

pub fn batch(base: i64, records: usize, epoch: i32, value: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(base).leader_epoch(epoch);
    for n in 0..records {
        let offset = base + i64::try_from(n).unwrap();
        builder.add(1_000 + offset, None, Some(value), &[]).unwrap();
    }
    builder.finish().unwrap().to_vec()
}

impl Log {
    /// `shape`: for each segment, for each batch, its records and bytes per record. The epoch rises by one
    /// with every segment.
    pub fn write(dir: &Path, partition: i32, shape: &[Vec<(usize, usize)>]) -> Self {
        Self::of_epochs(dir, partition, (1..).zip(shape))
    }

    /// The same with the epoch of each segment.
    pub fn of_epochs<'a>(
        dir: &Path,
        partition: i32,
        segments: impl IntoIterator<Item = (i32, &'a Vec<(usize, usize)>)>,
    ) -> Self {
        let mut log = Self {
            partition,
            ..Self::default()
        };
        let mut next = 0;
        for (epoch, segment) in segments {
            let base = next;
            let before = log.lineage.last().filter(|before| before.epoch == epoch);
            let start_offset = before.map_or(base, |before| before.start_offset);
            log.lineage.push(EpochStart {
                epoch,
                start_offset,
            });
            let mut bytes = Vec::new();
            for (records, size) in segment {
                let value: Vec<u8> = (0..*size)
                    .map(|b| u8::try_from((b * 7 + bytes.len()) % 251).unwrap())
                    .collect();
                let written = batch(next, *records, epoch, &value);
                let end = next + i64::try_from(*records).unwrap();
                bytes.extend_from_slice(&written);
                log.batches.push((next, end, written));
                next = end;
            }
            let path = dir.join(format!("{partition}-{base}.log"));
            std::fs::write(&path, &bytes).unwrap();
            log.segments.push((base, next, path, bytes));
        }
        log
    }

    pub fn end(&self) -> i64 {
        self.segments.last().map_or(0, |s| s.1)
    }

    /// All bytes from the batch that holds `offset` on.
    pub fn bytes_from(&self, offset: i64) -> Vec<u8> {
        self.batches
            .iter()
            .filter(|b| b.1 > offset)
            .flat_map(|b| b.2.clone())
            .collect()
    }

    pub fn slice(&self, n: usize, token: u64) -> node::Slice {
        let (base, end, path, bytes) = &self.segments[n];
        let epoch = self.lineage[n];
        node::Slice {
            token,
            topic: "access.log".to_owned(),
            at: Some(at(self.partition).into()),
            group: "default".to_owned(),
            region_epoch: 1,
            base_offset: *base,
            end_offset: *end,
            leader_epoch: epoch.epoch,
            path: path.display().to_string(),
            position: 0,
            bytes: bytes.len() as u64,
            lineage: vec![node::EpochStart {
                epoch: epoch.epoch,
                start_offset: epoch.start_offset,
            }],
            log_start: 0,
            aborted: self.aborted.get(&n).cloned().unwrap_or_default().into(),
            ..node::Slice::default()
        }
    }
}

/// Waits for a condition; fails the test after a minute.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("not within a minute: {what}");
}
