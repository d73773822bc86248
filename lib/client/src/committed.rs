//! The committed records among raw batches: what a read_committed consumer would see.

use std::collections::BTreeSet;

use whimbrel_wire::{
    Record, RecordError,
    codec::Limits,
    control::{self, ControlType},
    record,
};

use crate::fetch::{Aborted, Fetched};

/// Committed records at or above `from`, in order, and the offset up to which the answer was looked
/// through.
pub fn committed(fetched: Fetched, from: i64) -> Result<(Vec<Record>, i64), RecordError> {
    let mut aborted: Vec<Aborted> = fetched.aborted;
    aborted.sort_by_key(|a| std::cmp::Reverse(a.first_offset));
    let mut void = BTreeSet::new();
    let mut records = Vec::new();
    let mut scanned = from;
    for batch in fetched.batches {
        let header = batch.header;
        while let Some(begun) = aborted.pop_if(|a| a.first_offset <= header.last_offset()) {
            void.insert(begun.producer_id);
        }
        if header.is_control() {
            let marker = control::parse_batch(&batch)?;
            if marker.is_some_and(|m| m.control_type == ControlType::Abort) {
                void.remove(&header.producer_id);
            }
        } else if !(header.is_transactional() && void.contains(&header.producer_id)) {
            for record in record::records(&batch, Limits::default())? {
                let record = record?;
                if record.offset >= from {
                    records.push(record);
                }
            }
        }
        scanned = scanned.max(header.next_offset());
    }
    Ok((records, scanned))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use whimbrel_wire::{
        Batch, BatchBuilder,
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
