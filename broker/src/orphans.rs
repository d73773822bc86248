//! Tails of this broker's logs that a new home did not have: counted, classified, kept on disk.
//!
//! A record is *also in new* when the new lineage brought the same producer id, epoch and sequence. Of the
//! others those below the high watermark that this broker had checkpointed were acknowledged and are lost;
//! the rest is unknown. The count of the first class grows while the new lineage is copied in.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use whimbrel_fleet::{OrphanReport, RegionEpoch, TopicPartition};
use whimbrel_wire::{BatchHeader, Batches};

const FILE: &str = "orphans.json";

/// One batch of a tail, as far as it can be recognised elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    base_offset: i64,
    records: i32,
    found: i32,
}

impl From<&BatchHeader> for Batch {
    fn from(header: &BatchHeader) -> Self {
        Self {
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            base_offset: header.base_offset,
            records: header.records_count,
            found: 0,
        }
    }
}

impl Batch {
    fn producer(&self) -> (i64, i16) {
        (self.producer_id, self.producer_epoch)
    }

    /// How many of its records lie in a batch with these sequences.
    fn overlap(&self, header: &BatchHeader) -> i32 {
        let first = self.base_sequence.max(header.base_sequence);
        let last = |base: i32, records: i32| base.saturating_add(records);
        let end = last(self.base_sequence, self.records)
            .min(last(header.base_sequence, header.records_count));
        end.saturating_sub(first).max(0)
    }
}

/// An exported tail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tail {
    pub topic: String,
    pub at: TopicPartition,
    pub from_offset: i64,
    /// Exclusive.
    pub to_offset: i64,
    pub records: u64,
    pub bytes: u64,
    pub object: String,
    /// Of the move that made it an orphan.
    pub region_epoch: RegionEpoch,
    pub high_watermark: i64,
    pub batches: Vec<Batch>,
}

impl Tail {
    /// Notes which of its records lie in a batch of the new lineage; true when some do.
    fn find(&mut self, header: &BatchHeader) -> bool {
        let producer = (header.producer_id, header.producer_epoch);
        let before = |b: &Batch| {
            b.producer() < producer
                || (b.producer() == producer
                    && b.base_sequence.saturating_add(b.records) <= header.base_sequence)
        };
        let first = self.batches.partition_point(before);
        let mut any = false;
        for batch in self
            .batches
            .iter_mut()
            .skip(first)
            .take_while(|b| b.producer() == producer)
        {
            let overlap = batch.overlap(header);
            if overlap == 0 {
                break;
            }
            batch.found = batch.found.saturating_add(overlap).min(batch.records);
            any = true;
        }
        any
    }

    fn report(&self) -> OrphanReport {
        let (mut also_in_new, mut acked_and_lost) = (0_u64, 0_u64);
        for batch in &self.batches {
            let found = u64::try_from(batch.found).unwrap_or(0);
            also_in_new += found;
            if batch.base_offset < self.high_watermark {
                acked_and_lost += u64::try_from(batch.records)
                    .unwrap_or(0)
                    .saturating_sub(found);
            }
        }
        OrphanReport {
            topic: self.topic.clone(),
            at: self.at,
            from_offset: self.from_offset,
            to_offset: self.to_offset,
            records: self.records,
            bytes: self.bytes,
            also_in_new,
            acked_and_lost,
            unknown: self
                .records
                .saturating_sub(also_in_new)
                .saturating_sub(acked_and_lost),
            object: self.object.clone(),
        }
    }
}

#[derive(Debug)]
pub struct Orphans {
    path: PathBuf,
    /// Something was found since the list was written.
    changed: AtomicBool,
    tails: Mutex<HashMap<TopicPartition, Vec<Tail>>>,
}

impl Orphans {
    /// What earlier starts exported. A file that cannot be read is left alone and reported.
    pub fn load(data_dir: &Path) -> Self {
        let path = data_dir.join(FILE);
        let mut tails = HashMap::<_, Vec<_>>::new();
        match std::fs::read(&path).map(|text| serde_json::from_slice::<Vec<Tail>>(&text)) {
            Ok(Ok(found)) => found
                .into_iter()
                .for_each(|tail| tails.entry(tail.at).or_default().push(tail)),
            Ok(Err(error)) => {
                tracing::error!(path = %path.display(), %error, "the list of orphans cannot be read")
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "the list of orphans cannot be read")
            }
        }
        Self {
            path,
            changed: AtomicBool::new(false),
            tails: Mutex::new(tails),
        }
    }

    /// A tail was saved. One that was saved before and not yet cut is replaced.
    pub fn add(&self, mut tail: Tail) {
        {
            let mut tails = self.tails.lock();
            let of_partition = tails.entry(tail.at).or_default();
            of_partition.retain(|t| {
                t.from_offset != tail.from_offset || t.region_epoch != tail.region_epoch
            });
            // In the order in which they are looked up.
            tail.batches
                .sort_unstable_by_key(|b| (b.producer(), b.base_sequence));
            of_partition.push(tail);
        }
        self.store();
    }

    /// Batches of the new lineage came in: looks for records of the tails among them.
    pub fn seen_again(&self, at: TopicPartition, records: &Bytes) {
        let mut tails = self.tails.lock();
        let Some(of_partition) = tails.get_mut(&at) else {
            return;
        };
        for header in Batches::new(records.clone())
            .flatten()
            .map(|b| b.header)
            .filter(BatchHeader::is_idempotent)
        {
            for tail in of_partition.iter_mut() {
                let found = tail.find(&header);
                self.changed.fetch_or(found, Ordering::Relaxed);
            }
        }
    }

    pub fn reports(&self) -> Vec<OrphanReport> {
        let mut reports: Vec<_> = self
            .tails
            .lock()
            .values()
            .flatten()
            .map(Tail::report)
            .collect();
        reports.sort_by_key(|r| (r.at, r.from_offset));
        reports
    }

    /// Writes what was found since, if anything.
    pub fn store_changed(&self) {
        if self.changed.swap(false, Ordering::Relaxed) {
            self.store();
        }
    }

    /// Writes the list, whole or not at all.
    fn store(&self) {
        let all: Vec<_> = self.tails.lock().values().flatten().cloned().collect();
        if all.is_empty() {
            return;
        }
        if let Err(error) = self.write(&all) {
            tracing::error!(path = %self.path.display(), %error, "the list of orphans was not written");
        }
    }

    fn write(&self, all: &[Tail]) -> std::io::Result<()> {
        let next = self.path.with_extension("json.next");
        let file = std::fs::File::create(&next)?;
        serde_json::to_writer(std::io::BufWriter::new(&file), all)?;
        file.sync_all()?;
        std::fs::rename(&next, &self.path)?;
        self.path
            .parent()
            .map_or(Ok(()), |dir| std::fs::File::open(dir)?.sync_all())
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_wire::BatchBuilder;

    use super::*;

    fn batch(producer_id: i64, sequence: i32, records: i64) -> Bytes {
        let mut builder = BatchBuilder::new(0);
        if producer_id >= 0 {
            builder = builder.producer(producer_id, 0, sequence);
        }
        for n in 0..records {
            builder.add(n, None, Some(b"v"), &[]).unwrap();
        }
        builder.finish().unwrap()
    }

    fn tail(batches: &[Bytes]) -> Tail {
        let headers: Vec<_> = batches
            .iter()
            .enumerate()
            .map(|(n, b)| BatchHeader {
                base_offset: n as i64 * 10,
                ..BatchHeader::parse(b).unwrap()
            })
            .collect();
        Tail {
            topic: "t".into(),
            at: TopicPartition::new(uuid::Uuid::nil(), 0),
            from_offset: 0,
            to_offset: 30,
            records: headers.iter().map(|h| h.records_count as u64).sum(),
            bytes: 1,
            object: "o".into(),
            region_epoch: RegionEpoch(2),
            high_watermark: 10,
            batches: headers.iter().map(Batch::from).collect(),
        }
    }

    #[test]
    fn records_are_classed_and_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let orphans = Orphans::load(dir.path());
        // Ten acknowledged, ten above the high watermark, ten without a producer id above it.
        let tail = tail(&[batch(7, 0, 10), batch(7, 10, 10), batch(-1, -1, 10)]);
        let at = tail.at;
        orphans.add(tail);
        // The producer sent 5..15 again, in one batch, with a record we never had.
        orphans.seen_again(at, &batch(7, 5, 10));
        orphans.seen_again(at, &batch(8, 0, 10));
        orphans.store_changed();
        for reports in [orphans.reports(), Orphans::load(dir.path()).reports()] {
            let r = &reports[0];
            assert_eq!(
                (r.records, r.also_in_new, r.acked_and_lost, r.unknown),
                (30, 10, 5, 15)
            );
        }
    }
}
