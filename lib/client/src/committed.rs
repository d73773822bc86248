//! The committed records among raw batches: what a read_committed consumer would see.

use std::collections::BTreeSet;

use whimbrel_wire::{
    Batch, Record, RecordError,
    codec::Limits,
    control::{self, ControlType},
    record,
};

use crate::fetch::{Aborted, Fetched};

/// Takes the batches of one answer, in their order, and tells which records of each are to be seen: for whoever does
/// not want the records of a whole answer in memory.
#[derive(Debug, Default)]
pub struct Sieve {
    /// Those that begin last come first.
    aborted: Vec<Aborted>,
    /// Producers whose records are void up to their next marker.
    void: BTreeSet<i64>,
}

impl Sieve {
    /// Without `aborted`, as at read_uncommitted, only markers are left out.
    pub fn new(mut aborted: Vec<Aborted>) -> Self {
        aborted.sort_by_key(|a| std::cmp::Reverse(a.first_offset));
        Self {
            aborted,
            void: BTreeSet::new(),
        }
    }

    /// The batch's records where they are to be seen, decoded one by one; their memory is the batch's, decompressed.
    pub fn records(
        &mut self,
        batch: &Batch,
    ) -> Result<impl Iterator<Item = Result<Record, RecordError>> + use<>, RecordError> {
        let header = batch.header;
        while let Some(begun) = self
            .aborted
            .pop_if(|a| a.first_offset <= header.last_offset())
        {
            self.void.insert(begun.producer_id);
        }
        let seen = if header.is_control() {
            let marker = control::parse_batch(batch)?;
            if marker.is_some_and(|m| m.control_type == ControlType::Abort) {
                self.void.remove(&header.producer_id);
            }
            None
        } else if header.is_transactional() && self.void.contains(&header.producer_id) {
            None
        } else {
            Some(record::records(batch, Limits::default())?)
        };
        Ok(seen.into_iter().flatten())
    }
}

/// Committed records at or above `from`, in order, and the offset up to which the answer was looked
/// through.
pub fn committed(fetched: Fetched, from: i64) -> Result<(Vec<Record>, i64), RecordError> {
    let mut sieve = Sieve::new(fetched.aborted);
    let (mut records, mut scanned) = (Vec::new(), from);
    for batch in fetched.batches {
        for record in sieve.records(&batch)? {
            let record = record?;
            if record.offset >= from {
                records.push(record);
            }
        }
        scanned = scanned.max(batch.header.next_offset());
    }
    Ok((records, scanned))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use whimbrel_wire::{
        BatchBuilder,
        control::{Marker, MarkerBatch},
    };

    use super::*;

    fn batch(base: i64, producer: Option<i64>, records: usize) -> Bytes {
        let mut builder = BatchBuilder::new(base);
        if let Some(id) = producer {
            builder = builder.producer(id, 0, 0).transactional(true);
        }
        for _ in 0..records {
            builder.add(5, None, Some(b"v"), &[]).unwrap();
        }
        builder.finish().unwrap()
    }

    fn marker(base_offset: i64, producer_id: i64, control_type: ControlType) -> Bytes {
        let marker = Marker {
            control_type,
            coordinator_epoch: 0,
        };
        let batch = MarkerBatch {
            base_offset,
            leader_epoch: 0,
            timestamp_ms: 5,
            producer_id,
            producer_epoch: 0,
            marker,
        };
        batch.build().unwrap()
    }

    #[test]
    fn aborted_records_and_markers_are_left_out() {
        let parts = [
            batch(0, Some(1), 2),
            batch(2, Some(2), 2),
            marker(4, 1, ControlType::Abort),
            batch(5, Some(1), 1),
            batch(6, None, 1),
            marker(7, 1, ControlType::Commit),
            marker(8, 2, ControlType::Commit),
        ];
        let batches = parts.into_iter().map(|mut b| Batch::take(&mut b).unwrap());
        let fetched = Fetched {
            batches: batches.collect(),
            high_watermark: 9,
            last_stable_offset: 9,
            log_start: 0,
            aborted: vec![Aborted {
                producer_id: 1,
                first_offset: 0,
            }],
        };
        let (records, scanned) = committed(fetched, 3).unwrap();
        let offsets: Vec<_> = records.iter().map(|r| r.offset).collect();
        assert_eq!((offsets, scanned), (vec![3, 5, 6], 9));
    }
}
