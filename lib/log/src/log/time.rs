//! Finding records by their time, and the time at which they came.

use std::io;
use std::sync::Arc;

use whimbrel_wire::Batch;
use whimbrel_wire::batch::BatchHeader;
use whimbrel_wire::codec::Limits;
use whimbrel_wire::record::records;

use crate::error::ReadError;
use crate::log::Log;
use crate::log::read::read_batch;
use crate::log::sound::Stretch;
use crate::segment::SegmentFile;
use crate::segment::scan::{Scanner, Step};
use crate::types::TimestampOffset;

impl Log {
    /// The first record of the local log with a timestamp at or after `timestamp_ms` and an offset at or
    /// above the log start.
    pub fn offset_for_timestamp(
        &self,
        timestamp_ms: i64,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        let (segments, log_start) = {
            let state = self.state.read();
            (state.segments.clone(), state.log_start)
        };
        for segment in segments.iter().filter(|s| s.end() > log_start) {
            if self.newest_ms(segment)? < timestamp_ms {
                continue;
            }
            let found = self.search(segment, timestamp_ms, log_start)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The first record of the local log that has the highest timestamp.
    pub fn max_timestamp(&self) -> Result<Option<TimestampOffset>, ReadError> {
        let segments = self.state.read().segments.clone();
        let mut newest = -1;
        for segment in &segments {
            newest = newest.max(self.newest_ms(segment)?);
        }
        if newest < 0 {
            Ok(None)
        } else {
            self.offset_for_timestamp(newest)
        }
    }

    pub(crate) fn newest_ms(&self, segment: &SegmentFile) -> Result<i64, ReadError> {
        segment
            .sure_max_timestamp_ms(&self.shared.descriptors)
            .map_err(|source| ReadError::Io {
                log: self.name(),
                source,
            })
    }

    fn search(
        &self,
        segment: &Arc<SegmentFile>,
        timestamp_ms: i64,
        log_start: i64,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        let io = |source| ReadError::Io {
            log: self.name(),
            source,
        };
        let descriptors = &self.shared.descriptors;
        let near = segment.near_time(timestamp_ms, descriptors).map_err(io)?;
        let start = segment.near(near, descriptors).map_err(io)?;
        let file = segment.open(descriptors).map_err(io)?;
        let mut scanner = Scanner::new(&file, start, segment.size(), segment.base);
        loop {
            // With CRCs: a batch is passed over because of its timestamp.
            match scanner.step(|_| true).map_err(io)? {
                Step::Batch { position, header } => {
                    if header.max_timestamp < timestamp_ms || header.last_offset() < log_start {
                        continue;
                    }
                    let bytes = read_batch(&file, position, &header).map_err(io)?;
                    let stretch = Stretch {
                        segment,
                        bytes: &bytes,
                        position,
                    };
                    self.sound_batches(stretch, i64::MAX)?;
                    let found = first_record(Batch { header, bytes }, timestamp_ms, log_start);
                    if found.is_some() {
                        return Ok(found);
                    }
                }
                Step::End => return Ok(None),
                bad @ Step::Bad { .. } => return Err(self.corrupt(segment, bad)),
            }
        }
    }

    /// Whether the active segment holds something and `segment.ms` has passed since that began. Costs no look
    /// at the disk but the first.
    pub fn is_old(&self, now_ms: i64) -> bool {
        let active = self.active();
        if active.size() == 0 {
            return false;
        }
        let begun_ms = active.begun_ms(&self.shared.descriptors).ok().flatten();
        begun_ms.is_some_and(|ms| now_ms.saturating_sub(ms) >= self.roll_after_ms(active.base))
    }

    /// What a restart lost of the active segment's append times.
    pub(crate) fn close_append_gap(&self, active: &SegmentFile) -> io::Result<()> {
        let before = {
            let state = self.state.read();
            let at = state.segments.partition_point(|s| s.base < active.base);
            at.checked_sub(1).map(|at| Arc::clone(&state.segments[at]))
        };
        let descriptors = &self.shared.descriptors;
        let before_ms = before.map_or(Ok(None), |before| before.newest_append_ms(descriptors))?;
        active.close_append_gap(before_ms, descriptors)
    }

    /// As [`Self::append_time_of`]; where that is not known, when the disk was opened: the record was there by then.
    /// An age that is computed from it is too small by what nobody knows, and not nothing.
    pub fn appended_by(&self, offset: i64) -> Option<i64> {
        let is_here = {
            let state = self.state.read();
            (state.local_log_start()..state.log_end).contains(&offset)
        };
        let known = self.append_time_of(offset);
        known.or_else(|| is_here.then_some(self.shared.opened_ms()))
    }

    /// Broker time at which the record at `offset` was appended here, never later than the truth; `None`
    /// where it is not known or the record is not in the local log.
    pub fn append_time_of(&self, offset: i64) -> Option<i64> {
        let segment = {
            let state = self.state.read();
            if offset >= state.log_end {
                return None;
            }
            let after = state.segments.partition_point(|s| s.base <= offset);
            Arc::clone(state.segments.get(after.checked_sub(1)?)?)
        };
        segment
            .append_time_of(offset, &self.shared.descriptors)
            .ok()
            .flatten()
    }
}

/// Records are as their producer sent them, sound or not: nothing but a batch's header is looked at when it is taken.
/// Where they cannot be read, the search ends at their batch, which is where a reader has to begin.
fn first_record(batch: Batch, timestamp_ms: i64, log_start: i64) -> Option<TimestampOffset> {
    let header: BatchHeader = batch.header;
    let found = |timestamp_ms, offset| {
        Some(TimestampOffset {
            timestamp_ms,
            offset,
            leader_epoch: header.partition_leader_epoch,
        })
    };
    let whole = found(header.max_timestamp, header.base_offset.max(log_start));
    if header.is_log_append_time() {
        return whole;
    }
    let Ok(records) = records(&batch, Limits::default()) else {
        return whole;
    };
    for record in records {
        let Ok(record) = record else {
            return whole;
        };
        if record.timestamp_ms >= timestamp_ms && record.offset >= log_start {
            return found(record.timestamp_ms, record.offset);
        }
    }
    None
}
