//! One log of one stream: what its follower has, what was read for it, and what comes next. Pure.

use std::{collections::VecDeque, sync::Arc};

use bytes::{Bytes, BytesMut};
use whimbrel_fleet::Lineage;
use whimbrel_rpc::replica::{Batches, MAX_FRAME_BYTES};
use whimbrel_wire::{Batch, BatchBuilder};

use crate::{
    restore::{Stored, slice::Cursor},
    root::Entry,
};

/// Records per frame: large enough for throughput, small enough for fairness among logs.
const CHUNK: usize = 1 << 20;
/// More than a frame has beside its records.
const FRAME_HEAD: usize = 4 << 10;

#[derive(Debug)]
pub struct Subscription {
    pub log: Arc<Stored>,
    /// Tells it from an earlier one of the same log.
    pub id: u64,
    /// The follower's end, with what was sent.
    pub sent: i64,
    /// All below it was looked for in the bucket.
    read: i64,
    pub cursor: Option<Box<Cursor>>,
    /// A read is under way, and has the cursor.
    pub reads: bool,
    ready: VecDeque<Batch>,
    /// When a frame was sent last.
    pub told_ms: Option<u64>,
}

/// A follower that is not to be filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It holds what the bucket does not have, from there on.
    Parted { offset: i64 },
    /// It ends below where the log begins.
    Trimmed,
}

/// What a log waits for.
#[derive(Debug)]
pub enum Wants {
    /// What is ready is to be sent, or a read to end.
    Nothing,
    /// The rest of an object that was begun.
    More(Box<Cursor>),
    /// From that offset on.
    Object(Entry, i64),
    /// No object holds offsets from there on.
    Hole(i64),
    /// Nothing is left of the log's last offsets.
    Filler,
    /// Everything was sent.
    Done,
}

impl Subscription {
    /// Goes on where the follower's log ends.
    pub fn begin(id: u64, log: &Arc<Stored>, theirs: &Lineage) -> Result<Self, Refusal> {
        let ours = &log.lineage;
        let end = theirs.end_offset;
        if end > ours.end_offset {
            let offset = ours.common(theirs).offset.min(ours.end_offset);
            return Err(Refusal::Parted { offset });
        }
        let has_some = !theirs.epochs.is_empty();
        if has_some && !ours.epochs.is_empty() {
            let common = ours.common(theirs);
            if common.offset < end && end > log.log_start {
                let offset = common.offset;
                return Err(Refusal::Parted { offset });
            }
        }
        if has_some && end < log.log_start {
            return Err(Refusal::Trimmed);
        }
        Ok(Self {
            log: Arc::clone(log),
            id,
            sent: end,
            // An empty log has nothing to lose below the start.
            read: end.max(log.log_start),
            cursor: None,
            reads: false,
            ready: VecDeque::new(),
            told_ms: None,
        })
    }

    pub fn wants(&mut self) -> Wants {
        if self.reads || !self.ready.is_empty() {
            return Wants::Nothing;
        }
        if let Some(cursor) = self.cursor.take() {
            return Wants::More(cursor);
        }
        let end = self.log.end();
        // What the plan names as missing is passed over, as what compaction left out is.
        while let Some(hole_end) = self.log.hole_end(self.read) {
            self.read = hole_end;
        }
        if self.read >= end {
            return if self.sent < end {
                Wants::Filler
            } else {
                Wants::Done
            };
        }
        let slices = &self.log.slices;
        let next = slices.partition_point(|entry| entry.end <= self.read);
        match slices.get(next) {
            Some(entry) if entry.base <= self.read => Wants::Object(*entry, self.read),
            _ => Wants::Hole(self.read),
        }
    }

    /// What was read. Batches that the follower has already are passed over.
    pub fn take(&mut self, batches: Vec<Batch>) -> Result<(), String> {
        let end = self.log.end();
        for batch in batches {
            let header = batch.header;
            let (base, next) = (header.base_offset, header.next_offset());
            let last = self.ready.back();
            let behind = last.map_or(self.sent, |b| b.header.next_offset());
            if next <= behind.max(self.log.log_start) {
                continue;
            }
            let said = format!("the batch of offsets {base}..{next}");
            if base < behind {
                return Err(format!("{said} begins below {behind}, where one ended"));
            }
            if next > end {
                return Err(format!("{said} lies on both sides of the cut at {end}"));
            }
            let epoch = header.partition_leader_epoch;
            let of_root = self.log.lineage.epoch_of(base);
            if of_root.is_some_and(|of_root| of_root != epoch) {
                return Err(format!("{said} is of epoch {epoch}, its root has another"));
            }
            if header.size() > MAX_FRAME_BYTES - FRAME_HEAD {
                return Err(format!("{said} has {} bytes", header.size()));
            }
            self.ready.push_back(batch);
        }
        Ok(())
    }

    /// Nothing more is in the object that ends at `upto`.
    pub fn finished(&mut self, upto: i64) {
        self.read = self.read.max(upto);
    }

    /// Retention or compaction may have left nothing at the end of a log. That it reaches there is said by a batch
    /// without records, as compaction writes them.
    pub fn fill(&mut self) -> Result<(), String> {
        let (epoch, end) = (self.log.lineage.last_epoch(), self.log.end());
        let empty = BatchBuilder::new(end.saturating_sub(1)).leader_epoch(epoch.max(0));
        let mut bytes = empty.finish().map_err(|error| error.to_string())?;
        let batch = Batch::take(&mut bytes).map_err(|error| error.to_string())?;
        self.ready.push_back(batch);
        Ok(())
    }

    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Some of what is ready, about as much as `credit` allows; one batch may be larger.
    pub fn chunk(&mut self, credit: u64) -> Bytes {
        let most = CHUNK.min(usize::try_from(credit).unwrap_or(CHUNK));
        let mut chunk = BytesMut::new();
        while let Some(batch) = self.ready.front() {
            let size = batch.bytes.len();
            if !chunk.is_empty() && chunk.len().saturating_add(size) > most {
                break;
            }
            chunk.extend_from_slice(&batch.bytes);
            self.sent = batch.header.next_offset();
            self.ready.pop_front();
        }
        chunk.freeze()
    }

    /// Where the log stands, with `records` of it.
    pub fn frame(&self, records: Bytes, wall_ms: i64) -> Batches {
        let log = &self.log;
        Batches {
            at: log.at,
            region_epoch: log.region_epoch,
            leader_epoch: log.leader_epoch,
            log_start: log.log_start,
            log_end: log.end(),
            log_bytes: Entry::data_bytes_of(&log.slices),
            high_watermark: log.end(),
            last_stable_offset: log.end(),
            // Nobody compacts what is being filled.
            held_end: 0,
            source_clock_ms: wall_ms,
            next_append_time_ms: -1,
            records,
        }
    }
}

#[cfg(test)]
mod tests;
