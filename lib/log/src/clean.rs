//! Compaction: of each key only the newest record stays, at its offset (Kafka's `Cleaner`).
//!
//! * [`plan`] - pure: what is dirty, and which segments become one.
//! * [`keys`] - newest offset of each key in the dirty range, in bounded memory.
//! * [`transactions`], [`filter`] - pure: what of a batch stays.
//! * [`write`] - writes a group of segments anew.
//!
//! Crash-safe in Kafka's way: a group is written to `.cleaned`, synced, renamed to `.swap`, and takes its
//! place when no `.cleaned` is left; either start finishes a whole swap and drops half of one. The old
//! segments go oldest first, so that what deletes a record is never gone before it.
//!
//! Only closed segments below a bound that the caller gives: a log that may be cut below what was cleaned
//! would miss records whose newer ones are gone.

mod filter;
mod keys;
pub(crate) mod plan;
mod transactions;
mod write;

use std::sync::Arc;

use whimbrel_wire::Batch;
use whimbrel_wire::codec::Limits;
use whimbrel_wire::control::parse_batch;
use whimbrel_wire::record::records;

use crate::clean::filter::Filter;
use crate::clean::keys::Keys;
use crate::clean::plan::{Dirt, Part};
use crate::clean::transactions::Transactions;
use crate::error::CleanError;
use crate::log::Log;
use crate::log::read::read_batch;
use crate::segment::SegmentFile;
use crate::segment::scan::{Scanner, Step};
use crate::types::Health;

/// How far a cleaning may go, and what it may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanBounds {
    /// Nothing at or above is touched: not above the high watermark, the last stable offset, or what any
    /// other copy holds durably.
    pub upto: i64,
    /// Tombstones and markers at or above stay for ever, because records they delete may lie elsewhere.
    pub tombstones_below: i64,
    /// Memory for keys; a cleaning goes as far as it reaches.
    pub memory_bytes: u64,
}

/// What a cleaning did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cleaned {
    /// Everything below was looked at.
    pub clean_end: i64,
    pub bytes_before: u64,
    pub bytes_after: u64,
    pub records_kept: u64,
    pub keys: u64,
}

/// Told of every piece of work; false ends the cleaning. The caller's place to slow it down.
pub trait Pace {
    fn moved(&mut self, bytes: u64) -> bool;
}

impl Log {
    /// How dirty the log is below `upto`.
    pub fn dirt(&self, upto: i64, now_ms: i64) -> Result<Dirt, CleanError> {
        let (clean_end, segments) = self.closed();
        let parts = self.parts(&segments, clean_end)?;
        let bound = upto.min(self.offsets().durable_end);
        Ok(plan::dirt(&parts, clean_end, bound, &self.config(), now_ms))
    }

    /// Below it compaction has looked at everything.
    pub fn clean_end(&self) -> i64 {
        self.state.read().clean_end
    }

    /// Cleans what is dirty below the bounds, however little it is. One at a time for each log.
    pub fn clean(
        &self,
        bounds: CleanBounds,
        now_ms: i64,
        pace: &mut dyn Pace,
    ) -> Result<Cleaned, CleanError> {
        let _one = self.cleaning.lock();
        if self.health() != Health::Good || self.is_deleted() {
            return Err(CleanError::NotGood { log: self.name() });
        }
        let cuts = self.state.read().cuts;
        let done = self.clean_uncut(cuts, bounds, now_ms, pace);
        // What was read while the log was cut and written on is neither.
        done.map_err(|error| match error {
            CleanError::Read(_) | CleanError::Io { .. } if self.state.read().cuts != cuts => {
                CleanError::Changed { log: self.name() }
            }
            other => other,
        })
    }

    /// Cleans a log that was cut `cuts` times, and is not cut meanwhile.
    fn clean_uncut(
        &self,
        cuts: u64,
        bounds: CleanBounds,
        now_ms: i64,
        pace: &mut dyn Pace,
    ) -> Result<Cleaned, CleanError> {
        let (clean_end, segments) = self.closed();
        let parts = self.parts(&segments, clean_end)?;
        let config = self.config();
        let bound = bounds.upto.min(self.offsets().durable_end);
        let dirt = plan::dirt(&parts, clean_end, bound, &config, now_ms);
        if dirt.cleanable_bytes == 0 {
            return Ok(Cleaned {
                clean_end: dirt.first_dirty,
                ..Cleaned::default()
            });
        }
        let keys = self.keys(&segments, &dirt, bounds.memory_bytes, pace)?;
        let end = keys.latest.saturating_add(1).min(dirt.cleanable_end);
        let count = parts.iter().take_while(|part| part.base < end).count();
        let transactions = self.transactions(&parts)?;
        let producers = self.producers();
        let mut filter = Filter::new(
            &keys,
            transactions,
            &producers,
            now_ms,
            config.delete_retention_ms,
            bounds.tombstones_below,
        );
        let mut cleaned = Cleaned {
            clean_end: end,
            keys: keys.len() as u64,
            ..Cleaned::default()
        };
        for group in plan::groups(&parts[..count], &config) {
            self.clean_group(&segments[group], cuts, &mut filter, &mut cleaned, pace)?;
        }
        let mut state = self.state.write();
        // What was cut meanwhile and written anew was not looked at.
        if state.cuts == cuts {
            state.clean_end = end;
        }
        drop(state);
        Ok(cleaned)
    }

    /// The closed segments, and the first dirty offset.
    fn closed(&self) -> (i64, Vec<Arc<SegmentFile>>) {
        let state = self.state.read();
        let closed = state.segments.len().saturating_sub(1);
        (state.clean_end, state.segments[..closed].to_vec())
    }

    fn parts(
        &self,
        segments: &[Arc<SegmentFile>],
        clean_end: i64,
    ) -> Result<Vec<Part>, CleanError> {
        let part = |segment: &Arc<SegmentFile>| {
            let newest_ms = self.newest_ms(segment)?;
            // Only of what is dirty is the age asked.
            let first_ms = if segment.end() > clean_end {
                self.first_timestamp(segment)
            } else {
                Ok(None)
            };
            Ok(Part {
                base: segment.base,
                end: segment.end(),
                bytes: segment.size(),
                index_bytes: segment.index_bytes(),
                first_ms: first_ms.map_err(|e| self.unreadable(e))?.unwrap_or(-1),
                newest_ms,
            })
        };
        segments.iter().map(part).collect()
    }

    fn transactions(&self, parts: &[Part]) -> Result<Transactions, CleanError> {
        let from = parts.first().map_or(0, |part| part.base);
        Ok(Transactions::new(self.aborted(from, i64::MAX)?))
    }

    pub(crate) fn unreadable(&self, source: std::io::Error) -> CleanError {
        CleanError::Io {
            log: self.name(),
            source,
        }
    }

    /// The keys of the dirty part, as far as memory goes.
    fn keys(
        &self,
        segments: &[Arc<SegmentFile>],
        dirt: &Dirt,
        memory_bytes: u64,
        pace: &mut dyn Pace,
    ) -> Result<Keys, CleanError> {
        let mut keys = Keys::new(memory_bytes);
        keys.latest = dirt.first_dirty.saturating_sub(1);
        let mut transactions = Transactions::new(self.aborted(dirt.first_dirty, i64::MAX)?);
        let dirty =
            |s: &&Arc<SegmentFile>| s.end() > dirt.first_dirty && s.end() <= dirt.cleanable_end;
        for segment in segments.iter().filter(dirty) {
            let mut full = false;
            self.each_batch(segment, pace, |batch| {
                if full || batch.header.last_offset() < dirt.first_dirty {
                    return Ok(());
                }
                full = !add_keys(&mut keys, &mut transactions, &batch, dirt.first_dirty)?;
                if !full {
                    keys.latest = batch.header.last_offset();
                }
                Ok(())
            })?;
            if full {
                break;
            }
            // Offsets that compaction took from the end of a segment are looked at too.
            keys.latest = segment.end().saturating_sub(1);
        }
        if keys.latest < dirt.first_dirty {
            return Err(CleanError::NoRoom {
                log: self.name(),
                offset: dirt.first_dirty,
                memory_bytes,
            });
        }
        Ok(keys)
    }

    /// Hands every batch of a segment, its CRC compared, to `act`.
    pub(crate) fn each_batch(
        &self,
        segment: &SegmentFile,
        pace: &mut dyn Pace,
        mut act: impl FnMut(Batch) -> Result<(), String>,
    ) -> Result<(), CleanError> {
        let io = |source| self.unreadable(source);
        let file = segment.open(&self.shared.descriptors).map_err(io)?;
        let mut scanner = Scanner::new(&file, 0, segment.size(), segment.base);
        loop {
            let (position, header) = match scanner.step(|_| true).map_err(io)? {
                Step::Batch { position, header } => (position, header),
                Step::End => return Ok(()),
                bad @ Step::Bad { .. } => return Err(self.corrupt(segment, bad).into()),
            };
            let bytes = read_batch(&file, position, &header).map_err(io)?;
            act(Batch { header, bytes })
                .map_err(|why| CleanError::Read(self.corrupt_at(segment, position, &why)))?;
            if !pace.moved(header.size() as u64) {
                return Err(CleanError::Stopped);
            }
        }
    }
}

/// False if the batch's keys did not all find room.
fn add_keys(
    keys: &mut Keys,
    transactions: &mut Transactions,
    batch: &Batch,
    first_dirty: i64,
) -> Result<bool, String> {
    let header = &batch.header;
    if header.is_control() {
        let marker = parse_batch(batch).map_err(|error| error.to_string())?;
        transactions.control(header, marker.as_ref());
        return Ok(true);
    }
    if transactions.data(header) || header.records_count == 0 {
        return Ok(true);
    }
    for record in records(batch, Limits::default()).map_err(|error| error.to_string())? {
        let record = record.map_err(|error| error.to_string())?;
        if let Some(key) = record.key.as_deref()
            && record.offset >= first_dirty
            && !keys.put(key, record.offset)
        {
            return Ok(false);
        }
    }
    Ok(true)
}
