//! Appending: by a leader, which assigns offsets and judges producers, and by a replica, which keeps
//! what the leader assigned.
//!
//! The batch's bytes are written as they came: the 16 bytes that a leader changes (base offset, leader
//! epoch) go into the file from a small header of their own, in the same vectored write.

use std::fs::File;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use whimbrel_wire::batch::{BatchHeader, set_log_append_time};
use whimbrel_wire::control::{Marker, parse_batch};
use whimbrel_wire::{Batch, Batches};

use crate::config::TimestampType;
use crate::epochs::Epochs;
use crate::error::AppendError;
use crate::log::{Log, Writer};
use crate::producers::entry::Verdict;
use crate::replace::Durability;
use crate::types::{AbortedTxn, AppendContext, Appended};

/// Bytes before and including the leader epoch.
const PREFIX: usize = 16;

/// Offsets in the indexes are i32, counted from the segment's base.
const MOST_OFFSETS: i64 = i32::MAX as i64;

/// A batch ready to be written: its header says the final offset and epoch.
struct Ready {
    header: BatchHeader,
    prefix: [u8; PREFIX],
    bytes: Bytes,
    marker: Option<Marker>,
}

impl Ready {
    fn new(batch: Batch, marker: Option<Marker>) -> Self {
        let header = batch.header;
        let mut prefix = [0; PREFIX];
        prefix.copy_from_slice(&header.to_bytes()[..PREFIX]);
        Ready {
            header,
            prefix,
            bytes: batch.bytes,
            marker,
        }
    }
}

impl Log {
    /// Appends a leader's batches: assigns offsets, writes the epoch, checks producers.
    ///
    /// The caller has checked the batch (`validate_produce`, CRC included). All batches are appended
    /// or none. Durable once a [`crate::Disk::sync`] that began after this call has ended.
    pub fn append(&self, batches: Bytes, context: AppendContext) -> Result<Appended, AppendError> {
        let config = self.config();
        let mut parsed = parse(batches)?;
        let mut append_time_ms = -1;
        if config.message_timestamp_type == TimestampType::LogAppendTime {
            append_time_ms = context.now_ms;
            for batch in &mut parsed {
                *batch = with_append_time(batch, context.now_ms)?;
            }
        }
        let mut writer = self.writer.lock();
        self.check_appendable()?;
        self.check_epoch(context.leader_epoch)?;
        let markers = parsed.iter().map(marker).collect::<Result<Vec<_>, _>>()?;
        let lossy = context.lossy_promotion.max(self.hole_for(&parsed));
        if let Some(mark) = judge(&mut writer, &parsed, &markers, lossy)? {
            return Ok(Appended {
                base_offset: mark.base_offset,
                last_offset: mark.last_offset,
                bytes: 0,
                duplicate: true,
                append_time_ms,
            });
        }
        let mut next_offset = self.state.read().log_end;
        let base_offset = next_offset;
        let mut ready = Vec::with_capacity(parsed.len());
        for (mut batch, marker) in parsed.into_iter().zip(markers) {
            let size = batch.header.size();
            if size as u64 > config.max_message_bytes {
                return Err(AppendError::TooLarge {
                    size,
                    max: config.max_message_bytes,
                });
            }
            batch.header.base_offset = next_offset;
            batch.header.partition_leader_epoch = context.leader_epoch;
            next_offset = batch.header.next_offset();
            ready.push(Ready::new(batch, marker));
        }
        let bytes = self.write(&mut writer, &ready, context.now_ms)?;
        Ok(Appended {
            base_offset,
            last_offset: next_offset - 1,
            bytes,
            duplicate: false,
            append_time_ms,
        })
    }

    /// Appends a replica's batches: offsets, epochs and bytes are kept; CRCs are checked here.
    ///
    /// They must begin at or after the log end and their epochs must not fall. After an error the log
    /// may hold the first of them: ask [`Self::offsets`] where to go on.
    pub fn append_replica(&self, batches: Bytes, now_ms: i64) -> Result<Appended, AppendError> {
        let parsed = parse(batches)?;
        for batch in &parsed {
            batch.verify_crc()?;
        }
        let mut writer = self.writer.lock();
        self.check_appendable()?;
        let (mut end, mut epoch) = {
            let state = self.state.read();
            (
                state.log_end,
                state.epochs.latest().map_or(-1, |latest| latest.epoch),
            )
        };
        let mut ready = Vec::with_capacity(parsed.len());
        for batch in parsed {
            let (found, batch_epoch) = (
                batch.header.base_offset,
                batch.header.partition_leader_epoch,
            );
            if found < end {
                return Err(AppendError::NotContinuing {
                    log_end: end,
                    found,
                });
            }
            if batch_epoch < epoch {
                return Err(AppendError::StaleLeaderEpoch {
                    current: epoch,
                    found: batch_epoch,
                });
            }
            (end, epoch) = (batch.header.next_offset(), batch_epoch);
            // A marker we cannot read ends no transaction here; its bytes are kept all the same.
            let marker = marker(&batch).unwrap_or(None);
            ready.push(Ready::new(batch, marker));
        }
        // Runs that fit a segment, so that segments stay within their size.
        let segment_bytes = self.config().segment_bytes;
        let (mut rest, mut bytes) = (ready.as_slice(), 0);
        while let Some(first) = rest.first() {
            let mut size = first.header.size() as u64;
            let base = first.header.base_offset;
            let alone = first.marker.is_some();
            let fits = rest[1..].iter().take_while(|next| {
                size = size.saturating_add(next.header.size() as u64);
                size <= segment_bytes
                    && next.header.last_offset() - base <= MOST_OFFSETS
                    && !alone
                    && next.marker.is_none()
            });
            let (run, behind) = rest.split_at(1 + fits.count());
            bytes += self.write(&mut writer, run, now_ms)?;
            rest = behind;
        }
        let base_offset = ready.first().map_or(end, |first| first.header.base_offset);
        Ok(Appended {
            base_offset,
            last_offset: end - 1,
            bytes,
            duplicate: false,
            append_time_ms: -1,
        })
    }

    /// Which hole these batches may have to jump over. Transactional ones were synced before they were acknowledged,
    /// and no transaction commits over a hole.
    fn hole_for(&self, batches: &[Batch]) -> Option<i64> {
        let any = batches.iter().any(|batch| batch.header.is_transactional());
        self.hole().filter(|_| !any)
    }

    fn check_epoch(&self, leader_epoch: i32) -> Result<(), AppendError> {
        let current = self
            .state
            .read()
            .epochs
            .latest()
            .map_or(-1, |latest| latest.epoch);
        if leader_epoch < current {
            return Err(AppendError::StaleLeaderEpoch {
                current,
                found: leader_epoch,
            });
        }
        Ok(())
    }

    /// Writes to the active segment, rolling first where needed, then makes the batches visible.
    fn write(
        &self,
        writer: &mut Writer,
        ready: &[Ready],
        now_ms: i64,
    ) -> Result<usize, AppendError> {
        let Some(last) = ready.last() else {
            return Err(AppendError::Empty);
        };
        self.roll_if_full(writer, ready)?;
        let epochs = self
            .extend_lineage(ready)
            .map_err(|error| self.append_failed(&error))?;
        let segment = self.active();
        let mut parts = Vec::with_capacity(ready.len() * 2);
        let mut placed = Vec::with_capacity(ready.len());
        let mut position = segment.size();
        for batch in ready {
            parts.push(IoSlice::new(&batch.prefix));
            parts.push(IoSlice::new(&batch.bytes[PREFIX..]));
            placed.push((batch.header, position));
            position += batch.header.size() as u64;
        }
        // Aborts first: no reader may see a marker whose abort is not in the index.
        let aborts = aborts_of(writer, ready);
        let written = self
            .note_aborted(&segment, &aborts)
            .and_then(|()| segment.write(&mut parts, &self.shared.descriptors));
        let file = match written {
            Ok(file) => file,
            Err(error) => {
                self.forget_aborted(&segment, &aborts);
                return Err(self.append_failed(&error));
            }
        };
        let bytes = position - segment.size();
        if writer.first_timestamp_ms.is_none() {
            writer.first_timestamp_ms = ready.first().map(|first| first.header.max_timestamp);
        }
        let interval = self.config().index_interval_bytes;
        segment.note(&placed, interval, Some(now_ms), &self.shared.descriptors);
        for batch in ready {
            writer.producers.note(&batch.header, batch.marker.as_ref());
        }
        self.publish(epochs, last.header.next_offset(), bytes, now_ms, &file);
        Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    /// The lineage with the epochs of `ready`, stored if that changes it: before the batches, so that no
    /// durable batch lacks its epoch.
    fn extend_lineage(&self, ready: &[Ready]) -> io::Result<Option<Epochs>> {
        let latest = self
            .state
            .read()
            .epochs
            .latest()
            .map_or(-1, |latest| latest.epoch);
        if ready
            .iter()
            .all(|batch| batch.header.partition_leader_epoch <= latest)
        {
            return Ok(None);
        }
        let mut epochs = self.state.read().epochs.clone();
        for batch in ready {
            let header = &batch.header;
            if header.partition_leader_epoch > epochs.latest().map_or(-1, |latest| latest.epoch) {
                epochs.assign(header.partition_leader_epoch, header.base_offset);
            }
        }
        self.store_epochs(&epochs, Durability::NextSync)?;
        Ok(Some(epochs))
    }

    fn publish(
        &self,
        epochs: Option<Epochs>,
        log_end: i64,
        bytes: u64,
        now_ms: i64,
        file: &Arc<File>,
    ) {
        self.shared.note_time(now_ms);
        let mut state = self.state.write();
        if let Some(epochs) = epochs {
            state.epochs = epochs;
        }
        state.log_end = log_end;
        state.end_bytes = state.end_bytes.saturating_add(bytes);
        // Before anyone can see the new end: a sync that begins after that covers it.
        self.mark_dirty(Some(file));
    }

    fn roll_if_full(&self, writer: &mut Writer, ready: &[Ready]) -> Result<(), AppendError> {
        let config = self.config();
        let segment = self.active();
        let size = segment.size();
        let bytes: u64 = ready.iter().map(|batch| batch.header.size() as u64).sum();
        let last_offset = ready
            .last()
            .map_or(segment.base, |last| last.header.last_offset());
        // Positions in the index are i32.
        let most = config.segment_bytes.min(i32::MAX.unsigned_abs().into());
        let first_ms = writer.first_timestamp_ms.unwrap_or(-1);
        let newest_ms = ready
            .iter()
            .map(|batch| batch.header.max_timestamp)
            .max()
            .unwrap_or(-1);
        let old =
            first_ms >= 0 && newest_ms.saturating_sub(first_ms) > self.roll_after_ms(segment.base);
        let far = last_offset.saturating_sub(segment.base) > MOST_OFFSETS;
        let full =
            size.saturating_add(bytes) > most || segment.index_is_full(config.segment_index_bytes);
        let first_offset = ready
            .first()
            .map_or(segment.base, |first| first.header.base_offset);
        let base = match size > 0 && (full || old) {
            _ if far => first_offset,
            true => self.state.read().log_end,
            false => return Ok(()),
        };
        self.roll_at(writer, base)
            .map_err(|error| self.append_failed(&error))?;
        Ok(())
    }

    fn append_failed(&self, error: &io::Error) -> AppendError {
        if self.is_deleted() {
            return AppendError::Deleted { log: self.name() };
        }
        if crate::calls::is_full(error) {
            return AppendError::DiskFull {
                root: self.shared.root.clone(),
            };
        }
        AppendError::DiskFailed(
            self.shared
                .fail(&format!("append to {}: {error}", self.name())),
        )
    }
}

fn parse(bytes: Bytes) -> Result<Vec<Batch>, AppendError> {
    let parsed = Batches::new(bytes).collect::<Result<Vec<_>, _>>()?;
    if parsed.is_empty() {
        Err(AppendError::Empty)
    } else {
        Ok(parsed)
    }
}

/// The transactions that `ready` aborts.
fn aborts_of(writer: &Writer, ready: &[Ready]) -> Vec<AbortedTxn> {
    match ready {
        [one] => {
            let abort = writer.producers.abort_of(&one.header, one.marker.as_ref());
            abort.into_iter().collect()
        }
        all if all.iter().all(|batch| batch.marker.is_none()) => Vec::new(),
        all => {
            let mut ahead = writer.producers.clone();
            all.iter()
                .filter_map(|batch| ahead.note(&batch.header, batch.marker.as_ref()))
                .collect()
        }
    }
}

fn marker(batch: &Batch) -> Result<Option<Marker>, AppendError> {
    parse_batch(batch).map_err(|error| AppendError::BadMarker {
        why: error.to_string(),
    })
}

fn with_append_time(batch: &Batch, now_ms: i64) -> Result<Batch, AppendError> {
    let mut copy = BytesMut::from(batch.bytes.as_ref());
    set_log_append_time(&mut copy, now_ms)?;
    let mut bytes = copy.freeze();
    Ok(Batch::take(&mut bytes)?)
}

/// Judges all batches before any is written. A duplicate is the answer to the whole append.
fn judge(
    writer: &mut Writer,
    batches: &[Batch],
    markers: &[Option<Marker>],
    lossy_promotion: Option<i64>,
) -> Result<Option<crate::producers::BatchMark>, AppendError> {
    if let ([batch], [marker]) = (batches, markers) {
        return match writer
            .producers
            .check(&batch.header, marker.as_ref(), lossy_promotion)?
        {
            Verdict::Duplicate(mark) => Ok(Some(mark)),
            _ => Ok(None),
        };
    }
    if !batches.iter().any(|batch| batch.header.is_idempotent()) {
        return Ok(None);
    }
    // Several batches of one producer: each is judged after the one before it.
    let mut ahead = writer.producers.clone();
    for (batch, marker) in batches.iter().zip(markers) {
        match ahead.check(&batch.header, marker.as_ref(), lossy_promotion) {
            Ok(Verdict::Duplicate(mark)) => return Ok(Some(mark)),
            Ok(_) => {}
            Err(error) => {
                writer.producers.keep_refused(ahead);
                return Err(error);
            }
        }
        ahead.note(&batch.header, marker.as_ref());
    }
    Ok(None)
}
