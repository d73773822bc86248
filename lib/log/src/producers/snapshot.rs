//! Kafka's `.snapshot`, version 1: the newest batch of each producer at an offset.
//!
//! ```text
//! i16 version = 1 | u32 CRC-32C of bytes 6.. | i32 count
//! count x { i64 producer id, i16 epoch, i32 last sequence, i64 last offset, i32 offset delta,
//!           i64 timestamp, i32 coordinator epoch, i64 first offset of the open transaction or -1 }
//! ```

use crate::fields::Fields;
use crate::producers::entry::{BatchMark, ProducerState};

const VERSION: i16 = 1;
const CRC_END: usize = 6;
const ENTRY: usize = 46;

pub(crate) fn encode(producers: &[ProducerState]) -> Vec<u8> {
    let mut out = Vec::with_capacity(CRC_END + 4 + producers.len() * ENTRY);
    out.extend_from_slice(&VERSION.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    let count = i32::try_from(producers.len()).unwrap_or(i32::MAX);
    out.extend_from_slice(&count.to_be_bytes());
    for producer in producers.iter().take(count.unsigned_abs() as usize) {
        let last = producer.batches.last();
        let delta = last.map_or(0, |b| {
            i32::try_from(b.last_offset.saturating_sub(b.base_offset)).unwrap_or(0)
        });
        out.extend_from_slice(&producer.producer_id.to_be_bytes());
        out.extend_from_slice(&producer.producer_epoch.to_be_bytes());
        out.extend_from_slice(&producer.last_sequence().to_be_bytes());
        out.extend_from_slice(&producer.last_offset().unwrap_or(-1).to_be_bytes());
        out.extend_from_slice(&delta.to_be_bytes());
        out.extend_from_slice(&producer.last_timestamp_ms.to_be_bytes());
        out.extend_from_slice(&producer.coordinator_epoch.to_be_bytes());
        out.extend_from_slice(
            &producer
                .current_txn_first_offset
                .unwrap_or(-1)
                .to_be_bytes(),
        );
    }
    let crc = crc32c::crc32c(&out[CRC_END..]);
    out[2..CRC_END].copy_from_slice(&crc.to_be_bytes());
    out
}

/// `None` if the file is not whole or not a snapshot.
pub(crate) fn decode(bytes: &[u8]) -> Option<Vec<ProducerState>> {
    let mut fields = Fields(bytes);
    let (version, crc) = (fields.i16()?, fields.u32()?);
    if version != VERSION || crc != crc32c::crc32c(fields.0) {
        return None;
    }
    let count = fields.count(ENTRY)?;
    if fields.0.len() != count * ENTRY {
        return None;
    }
    (0..count).map(|_| decode_entry(&mut fields)).collect()
}

fn decode_entry(fields: &mut Fields<'_>) -> Option<ProducerState> {
    let producer_id = fields.i64()?;
    let producer_epoch = fields.i16()?;
    let last_sequence = fields.i32()?;
    let last_offset = fields.i64()?;
    let delta = fields.i32()?;
    let timestamp_ms = fields.i64()?;
    let coordinator_epoch = fields.i32()?;
    let first = fields.i64()?;
    let mut batches = Vec::new();
    if last_offset >= 0 && delta >= 0 {
        let base_offset = last_offset.checked_sub(i64::from(delta))?;
        // The circle of sequences has 2^31 places.
        let first_sequence = if last_sequence < 0 {
            -1
        } else {
            last_sequence.wrapping_sub(delta) & i32::MAX
        };
        batches.push(BatchMark {
            first_sequence,
            last_sequence,
            base_offset,
            last_offset,
            timestamp_ms,
        });
    }
    Some(ProducerState {
        producer_id,
        producer_epoch,
        coordinator_epoch,
        last_timestamp_ms: timestamp_ms,
        current_txn_first_offset: (first >= 0).then_some(first),
        batches,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn state(last_sequence: i32, delta: i32) -> ProducerState {
        let last_offset = 1000;
        ProducerState {
            producer_id: 4,
            producer_epoch: 2,
            coordinator_epoch: -1,
            last_timestamp_ms: 99,
            current_txn_first_offset: Some(17),
            batches: vec![BatchMark {
                first_sequence: last_sequence.wrapping_sub(delta) & i32::MAX,
                last_sequence,
                base_offset: last_offset - i64::from(delta),
                last_offset,
                timestamp_ms: 99,
            }],
        }
    }

    #[test]
    fn round_trip_also_over_the_end_of_the_sequences() {
        for producer in [state(30, 4), state(2, 9), ProducerState::new(8)] {
            assert_eq!(
                decode(&encode(std::slice::from_ref(&producer))),
                Some(vec![producer])
            );
        }
        assert_eq!(encode(&[]).len(), 10);
        assert_eq!(encode(&[state(1, 0)]).len(), 56);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = encode(&[state(30, 4), state(40, 4)]);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bad), None, "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
