//! Our sidecar beside each `.snapshot`: the last batches of each producer, of which Kafka's format
//! keeps only one. With it a retry of any of the last five batches is still a duplicate after a crash.
//!
//! ```text
//! "WBRB" | u32 CRC-32C of bytes 8.. | i32 count
//! count x { i64 producer id, i16 epoch, u8 n, n x { i32 first sequence, i32 last sequence,
//!           i64 base offset, i64 last offset, i64 timestamp } }
//! ```

use crate::fields::Fields;
use crate::producers::entry::{BatchMark, ProducerState, RECENT_BATCHES};

const MAGIC: [u8; 4] = *b"WBRB";
const CRC_END: usize = 8;
const PRODUCER: usize = 11;
const MARK: usize = 32;

pub(crate) fn encode(producers: &[ProducerState]) -> Vec<u8> {
    let mut out =
        Vec::with_capacity(CRC_END + 4 + producers.len() * (PRODUCER + RECENT_BATCHES * MARK));
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0; 4]);
    let count = i32::try_from(producers.len()).unwrap_or(i32::MAX);
    out.extend_from_slice(&count.to_be_bytes());
    for producer in producers.iter().take(count.unsigned_abs() as usize) {
        out.extend_from_slice(&producer.producer_id.to_be_bytes());
        out.extend_from_slice(&producer.producer_epoch.to_be_bytes());
        let skip = producer.batches.len().saturating_sub(RECENT_BATCHES);
        let batches = &producer.batches[skip..];
        out.push(u8::try_from(batches.len()).unwrap_or(0));
        for mark in batches {
            out.extend_from_slice(&mark.first_sequence.to_be_bytes());
            out.extend_from_slice(&mark.last_sequence.to_be_bytes());
            out.extend_from_slice(&mark.base_offset.to_be_bytes());
            out.extend_from_slice(&mark.last_offset.to_be_bytes());
            out.extend_from_slice(&mark.timestamp_ms.to_be_bytes());
        }
    }
    let crc = crc32c::crc32c(&out[CRC_END..]);
    out[4..CRC_END].copy_from_slice(&crc.to_be_bytes());
    out
}

fn decode(bytes: &[u8]) -> Option<Vec<(i64, i16, Vec<BatchMark>)>> {
    let mut fields = Fields(bytes);
    let (magic, crc) = (fields.take::<4>()?, fields.u32()?);
    if magic != MAGIC || crc != crc32c::crc32c(fields.0) {
        return None;
    }
    let count = fields.count(PRODUCER)?;
    let mut producers = Vec::with_capacity(count);
    for _ in 0..count {
        let (id, epoch, marks) = (fields.i64()?, fields.i16()?, fields.u8()?);
        let marks = (0..marks)
            .map(|_| decode_mark(&mut fields))
            .collect::<Option<Vec<_>>>()?;
        producers.push((id, epoch, marks));
    }
    fields.0.is_empty().then_some(producers)
}

fn decode_mark(fields: &mut Fields<'_>) -> Option<BatchMark> {
    Some(BatchMark {
        first_sequence: fields.i32()?,
        last_sequence: fields.i32()?,
        base_offset: fields.i64()?,
        last_offset: fields.i64()?,
        timestamp_ms: fields.i64()?,
    })
}

/// Adds the remembered batches to what the snapshot of the same offset says. A producer whose newest
/// batch differs keeps the snapshot's word; a bad sidecar adds nothing.
pub(crate) fn restore(producers: &mut [ProducerState], bytes: &[u8]) {
    for (id, epoch, marks) in decode(bytes).unwrap_or_default() {
        // Snapshots are sorted by producer id, Kafka's are not: then the search may miss, and the
        // window is Kafka's one batch.
        if let Ok(at) = producers.binary_search_by_key(&id, |p| p.producer_id)
            && producers[at].producer_epoch == epoch
            && producers[at].batches.last().map(|b| b.last_offset)
                == marks.last().map(|b| b.last_offset)
        {
            producers[at].batches = marks;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::producers::snapshot;
    use proptest::prelude::*;

    fn producer(id: i64, batches: i32) -> ProducerState {
        let mark = |n: i32| BatchMark {
            first_sequence: n * 2,
            last_sequence: n * 2 + 1,
            base_offset: i64::from(n) * 10,
            last_offset: i64::from(n) * 10 + 1,
            timestamp_ms: 5,
        };
        ProducerState {
            producer_epoch: 1,
            last_timestamp_ms: 5,
            batches: (0..batches).map(mark).collect(),
            ..ProducerState::new(id)
        }
    }

    #[test]
    fn the_last_five_batches_come_back() {
        let before = [producer(1, 5), producer(2, 1), producer(9, 3)];
        let mut after = snapshot::decode(&snapshot::encode(&before)).unwrap();
        assert_eq!(after[0].batches.len(), 1);
        restore(&mut after, &encode(&before));
        assert_eq!(after, before);
    }

    #[test]
    fn a_sidecar_of_another_moment_or_a_bad_one_adds_nothing() {
        let mut after = snapshot::decode(&snapshot::encode(&[producer(1, 5)])).unwrap();
        let kept = after.clone();
        restore(&mut after, &encode(&[producer(1, 4)]));
        let mut bad = encode(&[producer(1, 5)]);
        bad[20] ^= 1;
        restore(&mut after, &bad);
        assert_eq!(after, kept);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
