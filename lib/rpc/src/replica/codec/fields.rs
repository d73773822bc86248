//! The parts that frames are made of, checked against the bytes that are left before they are believed.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use uuid::Uuid;
use whimbrel_fleet::{EpochStart, Lineage, RegionEpoch, TopicPartition};

use super::{Batches, FrameError};

/// A frame being taken apart.
pub(super) struct Reader(pub(super) Bytes);

impl Reader {
    pub(super) fn need(&self, what: &'static str, bytes: usize) -> Result<(), FrameError> {
        let left = self.0.remaining();
        if left < bytes {
            Err(FrameError::Short {
                what,
                missing: bytes - left,
            })
        } else {
            Ok(())
        }
    }

    pub(super) fn u8(&mut self, what: &'static str) -> Result<u8, FrameError> {
        self.need(what, 1)?;
        Ok(self.0.get_u8())
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, FrameError> {
        self.need(what, 4)?;
        Ok(self.0.get_u32())
    }

    pub(super) fn i32(&mut self, what: &'static str) -> Result<i32, FrameError> {
        self.need(what, 4)?;
        Ok(self.0.get_i32())
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, FrameError> {
        self.need(what, 8)?;
        Ok(self.0.get_u64())
    }

    pub(super) fn i64(&mut self, what: &'static str) -> Result<i64, FrameError> {
        self.need(what, 8)?;
        Ok(self.0.get_i64())
    }

    pub(super) fn uuid(&mut self, what: &'static str) -> Result<Uuid, FrameError> {
        self.need(what, 16)?;
        Ok(Uuid::from_u128(self.0.get_u128()))
    }

    pub(super) fn string(&mut self, what: &'static str) -> Result<String, FrameError> {
        self.need(what, 2)?;
        let len = usize::from(self.0.get_u16());
        self.need(what, len)?;
        String::from_utf8(self.0.split_to(len).to_vec()).map_err(|_| FrameError::NotUtf8)
    }

    /// A count of elements of at least `min_bytes` each.
    pub(super) fn count(
        &mut self,
        what: &'static str,
        min_bytes: usize,
    ) -> Result<usize, FrameError> {
        let count = self.u32(what)? as usize;
        self.need(what, count.saturating_mul(min_bytes))?;
        Ok(count)
    }

    pub(super) fn at(&mut self) -> Result<TopicPartition, FrameError> {
        Ok(TopicPartition::new(
            self.uuid("topic id")?,
            self.i32("partition")?,
        ))
    }

    pub(super) fn lineage(&mut self) -> Result<Lineage, FrameError> {
        let count = self.count("lineage", 12)?;
        let mut epochs = Vec::with_capacity(count);
        for _ in 0..count {
            epochs.push(EpochStart {
                epoch: self.i32("epoch")?,
                start_offset: self.i64("epoch start")?,
            });
        }
        Ok(Lineage {
            epochs,
            end_offset: self.i64("lineage end")?,
        })
    }

    pub(super) fn batches(&mut self) -> Result<Batches, FrameError> {
        Ok(Batches {
            at: self.at()?,
            region_epoch: RegionEpoch(self.u32("region epoch")?),
            leader_epoch: self.i32("leader epoch")?,
            log_start: self.i64("log start")?,
            log_end: self.i64("log end")?,
            log_bytes: self.u64("log bytes")?,
            high_watermark: self.i64("high watermark")?,
            last_stable_offset: self.i64("last stable offset")?,
            held_end: self.i64("held end")?,
            source_clock_ms: self.i64("source clock")?,
            next_append_time_ms: self.i64("next append time")?,
            records: std::mem::take(&mut self.0),
        })
    }

    pub(super) fn end<T>(self, value: T) -> Result<T, FrameError> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(FrameError::Trailing(self.0.len()))
        }
    }
}

pub(super) fn put_at(out: &mut BytesMut, at: TopicPartition) {
    out.put_u128(at.topic_id.as_u128());
    out.put_i32(at.partition);
}

pub(super) fn put_string(out: &mut BytesMut, text: &str) {
    // Region names and fleet ids are at most 63 bytes; longer ones cannot be configured.
    let bytes = &text.as_bytes()[..text.len().min(usize::from(u16::MAX))];
    out.put_u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
    out.put_slice(bytes);
}

pub(super) fn put_count(out: &mut BytesMut, count: usize) {
    out.put_u32(u32::try_from(count).unwrap_or(u32::MAX));
}

pub(super) fn put_lineage(out: &mut BytesMut, lineage: &Lineage) {
    put_count(out, lineage.epochs.len());
    for e in &lineage.epochs {
        out.put_i32(e.epoch);
        out.put_i64(e.start_offset);
    }
    out.put_i64(lineage.end_offset);
}

pub(super) fn put_batches(out: &mut BytesMut, b: &Batches) {
    put_at(out, b.at);
    out.put_u32(b.region_epoch.0);
    out.put_i32(b.leader_epoch);
    out.put_i64(b.log_start);
    out.put_i64(b.log_end);
    out.put_u64(b.log_bytes);
    out.put_i64(b.high_watermark);
    out.put_i64(b.last_stable_offset);
    out.put_i64(b.held_end);
    out.put_i64(b.source_clock_ms);
    out.put_i64(b.next_append_time_ms);
}
