//! What of a batch stays (Kafka's `Cleaner.shouldRetainRecord`, `MemoryRecords.filterTo`).
//!
//! * A record goes when its key has a newer one, when it has no key, or with its aborted transaction.
//! * A tombstone or a marker of an empty transaction first gets a delete horizon (KIP-534), and goes when
//!   that has passed, if tombstones may go at all.
//! * A batch with a producer's newest sequence stays, empty if need be.
//! * Offsets never change: a batch keeps its base and last offset.

use std::collections::HashMap;

use bytes::Bytes;
use whimbrel_wire::batch::{BatchHeader, HEADER_LEN};
use whimbrel_wire::codec::Limits;
use whimbrel_wire::control::parse_batch;
use whimbrel_wire::record::{Record, records};
use whimbrel_wire::{Batch, BatchBuilder};

use crate::clean::keys::Keys;
use crate::clean::transactions::{Ended, Transactions};
use crate::producers::ProducerState;
use crate::types::AbortedTxn;

/// What becomes of a batch.
#[derive(Debug)]
pub(crate) struct Kept {
    /// `None`: nothing of it stays.
    pub(crate) bytes: Option<Bytes>,
    pub(crate) records: u64,
    /// To be named in the index of what is written.
    pub(crate) aborted: Option<AbortedTxn>,
}

/// The newest word of a producer, which must not go.
#[derive(Debug, Clone, Copy)]
struct Newest {
    last_offset: Option<i64>,
    epoch: i16,
}

#[derive(Debug)]
pub(crate) struct Filter<'a> {
    keys: &'a Keys,
    pub(crate) transactions: Transactions,
    newest: HashMap<i64, Newest>,
    now_ms: i64,
    delete_retention_ms: i64,
    /// Tombstones and markers at or above stay.
    tombstones_below: i64,
}

impl<'a> Filter<'a> {
    pub(crate) fn new(
        keys: &'a Keys,
        transactions: Transactions,
        producers: &[ProducerState],
        now_ms: i64,
        delete_retention_ms: i64,
        tombstones_below: i64,
    ) -> Self {
        let newest = producers.iter().map(|producer| {
            let newest = Newest {
                last_offset: producer.last_offset(),
                epoch: producer.producer_epoch,
            };
            (producer.producer_id, newest)
        });
        Filter {
            keys,
            transactions,
            newest: newest.collect(),
            now_ms,
            delete_retention_ms,
            tombstones_below,
        }
    }

    fn is_newest_of_producer(&self, header: &BatchHeader) -> bool {
        header.is_idempotent()
            && self.newest.get(&header.producer_id).is_some_and(|newest| {
                newest.last_offset.map_or(
                    header.is_control() && header.producer_epoch == newest.epoch,
                    |offset| header.last_offset() == offset,
                )
            })
    }

    /// Whether the batch's horizon has passed, and it may be acted upon.
    fn is_past_horizon(&self, header: &BatchHeader) -> bool {
        header.has_delete_horizon()
            && header.base_timestamp <= self.now_ms
            && header.last_offset() < self.tombstones_below
    }

    /// Judges the next batch of the log.
    pub(crate) fn judge(&mut self, batch: Batch) -> Result<Kept, String> {
        let header = batch.header;
        let words = |error: &dyn std::fmt::Display| {
            format!("batch at offset {}: {error}", header.base_offset)
        };
        let (mut aborted, mut discard, mut is_empty_marker) = (None, false, false);
        if header.is_control() {
            let marker = parse_batch(&batch).map_err(|e| words(&e))?;
            match self.transactions.control(&header, marker.as_ref()) {
                Ended::Needed => {}
                Ended::Aborted(txn) => aborted = Some(txn),
                Ended::Empty => {
                    is_empty_marker = true;
                    discard = self.is_past_horizon(&header);
                }
            }
        } else {
            discard = self.transactions.data(&header);
        }
        let (mut kept, mut tombstones, mut count) = (Vec::new(), false, 0);
        if !discard && header.records_count > 0 {
            for record in records(&batch, Limits::default()).map_err(|e| words(&e))? {
                let record = record.map_err(|e| words(&e))?;
                count += 1;
                if header.is_control() || self.keeps(&header, &record) {
                    tombstones |= !header.is_control() && record.value.is_none();
                    kept.push(record);
                }
            }
        }
        let sets_horizon = !header.has_delete_horizon()
            && header.last_offset() < self.tombstones_below
            && (tombstones || (is_empty_marker && !kept.is_empty()));
        let done = |bytes, records: usize| Kept {
            bytes,
            records: records as u64,
            aborted,
        };
        if kept.is_empty() {
            let stays = self.is_newest_of_producer(&header);
            return Ok(done(stays.then(|| emptied(&header)), 0));
        }
        if kept.len() == count && !sets_horizon {
            return Ok(done(Some(batch.bytes), count));
        }
        let records = kept.len();
        let bytes = self
            .rewrite(&header, kept, sets_horizon)
            .map_err(|e| words(&e))?;
        Ok(done(Some(bytes), records))
    }

    fn keeps(&self, header: &BatchHeader, record: &Record) -> bool {
        let Some(key) = record.key.as_deref() else {
            return false;
        };
        if record.offset > self.keys.latest {
            return true;
        }
        let newest = self.keys.newest(key).is_none_or(|at| record.offset >= at);
        newest && (record.value.is_some() || !self.is_past_horizon(header))
    }

    fn rewrite(
        &self,
        header: &BatchHeader,
        kept: Vec<Record>,
        sets_horizon: bool,
    ) -> Result<Bytes, Box<dyn std::error::Error>> {
        let mut builder = BatchBuilder::rewriting(header)?;
        if sets_horizon {
            builder = builder.delete_horizon(self.now_ms.saturating_add(self.delete_retention_ms));
        }
        for record in kept {
            builder.add_at(
                record.offset,
                record.timestamp_ms,
                record.key.as_deref(),
                record.value.as_deref(),
                &record.headers,
            )?;
        }
        Ok(builder.finish()?)
    }
}

/// The batch without its records: what is left says who wrote, and up to which sequence.
fn emptied(header: &BatchHeader) -> Bytes {
    const CODEC_AND_HORIZON: i16 = 0x07 | 1 << 6;
    const LENGTH_PREFIX: usize = 12;
    const CRC_FROM: usize = 21;
    let mut empty = BatchHeader {
        attributes: header.attributes & !CODEC_AND_HORIZON,
        base_timestamp: -1,
        records_count: 0,
        ..*header
    };
    empty.batch_length = i32::try_from(HEADER_LEN - LENGTH_PREFIX).unwrap_or(0);
    empty.crc = crc32c::crc32c(&empty.to_bytes()[CRC_FROM..]);
    Bytes::copy_from_slice(&empty.to_bytes())
}
