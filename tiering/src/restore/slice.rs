//! Reads the batches of one slice out of the bucket: checked block by block, and batch by batch.

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use whimbrel_fleet::TopicPartition;
use whimbrel_runtime::{Backoff, Clock};
use whimbrel_wire::{Batch, BatchHeader, batch::HEADER_LEN};

use crate::{
    format::{BLOCK_BYTES, Key, Keys, Opened},
    reader::BLOCK,
    root::Entry,
    store::{Store, StoreError},
};

/// No tail that we write comes near it.
const MAX_TAIL: u64 = 64 << 20;
/// As for what goes up.
const MAX_BATCH: usize = 128 << 20;
const ATTEMPTS: u32 = 5;

/// Why a slice was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Store(StoreError),
    #[error("{key}: {reason}")]
    Damaged { key: Key, reason: String },
}

/// Does a request again that may succeed later.
pub async fn patiently<T, F>(clock: &Clock, request: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut pause = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    let mut left = ATTEMPTS;
    loop {
        left -= 1;
        match request().await {
            Err(error) if error.is_retryable() && left > 0 => {}
            done => return done,
        }
        clock.sleep(pause.next()).await;
    }
}

#[derive(Clone, Debug)]
pub struct Slices {
    pub store: Arc<dyn Store>,
    pub keys: Keys,
    pub clock: Clock,
}

impl Slices {
    /// Hands over the batches that begin below `end`, in order.
    pub async fn read(
        &self,
        shard: u16,
        at: TopicPartition,
        entry: &Entry,
        end: i64,
        mut each: impl FnMut(&Batch) -> Result<(), String>,
    ) -> Result<(), Fault> {
        let key = entry.key(&self.keys, shard, at);
        let damaged = |reason: &dyn std::fmt::Display| Fault::Damaged {
            key: key.clone(),
            reason: reason.to_string(),
        };
        let opened = self.open(&key, at, entry).await?;
        let (from, to) = (entry.position(), entry.data_end());
        let mut batches = Batcher::new(entry.base, entry.object_end, entry.data_bytes);
        let mut next = from / BLOCK_BYTES * BLOCK_BYTES;
        let body = to
            .div_ceil(BLOCK_BYTES)
            .saturating_mul(BLOCK_BYTES)
            .min(opened.blocks.covers());
        let end = end.min(entry.end);
        while next < body {
            let until = body.min(next + BLOCK);
            let bytes = self.range(&key, &opened, next..until).await?;
            // What lies around the slice is of others, or its indexes.
            let inside = from.max(next)..to.min(until);
            let place = |n: u64| usize::try_from(n - next).unwrap_or(usize::MAX);
            let found = batches
                .take(&bytes.slice(place(inside.start)..place(inside.end)))
                .map_err(|e| damaged(&e))?;
            for batch in found {
                if batch.header.base_offset >= end {
                    return Ok(());
                }
                each(&batch).map_err(|e| damaged(&e))?;
            }
            next = until;
        }
        batches.finish().map_err(|e| damaged(&e))
    }

    /// The tail, which says where the slice lies and what the blocks are.
    async fn open(&self, key: &Key, at: TopicPartition, entry: &Entry) -> Result<Opened, Fault> {
        let from = Opened::tail_position(entry.object_data_bytes());
        let length = entry.object_bytes.saturating_sub(from);
        let damaged = |reason: String| Fault::Damaged {
            key: key.clone(),
            reason,
        };
        if length > MAX_TAIL {
            return Err(damaged(format!("a tail of {length} bytes")));
        }
        let look = |tail: &Bytes| {
            let opened =
                Opened::parse(tail, from, entry.object_bytes).map_err(|e| e.to_string())?;
            let slice = opened.slice_at(entry.position()).map(|slice| slice.meta);
            let is_it = slice.is_some_and(|meta| {
                meta.at == at
                    && (meta.base_offset, meta.end_offset) == (entry.base, entry.object_end)
                    && meta.length == entry.data_bytes
            });
            if is_it {
                Ok(opened)
            } else {
                Err("its footer is not what the root says".to_owned())
            }
        };
        self.twice(key, from..entry.object_bytes, look).await
    }

    /// Whole blocks of the body, as they were written.
    async fn range(&self, key: &Key, object: &Opened, span: Range<u64>) -> Result<Bytes, Fault> {
        let check = |bytes: &Bytes| {
            let checked = object.blocks.check(span.start, bytes);
            checked
                .map(|()| bytes.clone())
                .map_err(|error| format!("bytes {}..{}: {error}", span.start, span.end))
        };
        self.twice(key, span.clone(), check).await
    }

    /// What is found wrong is read once more: it may have been bent on its way.
    async fn twice<T>(
        &self,
        key: &Key,
        span: Range<u64>,
        look: impl Fn(&Bytes) -> Result<T, String>,
    ) -> Result<T, Fault> {
        let mut reason = String::new();
        for _ in 0..2 {
            let read = || self.store.get_range(key, span.clone());
            match patiently(&self.clock, read).await {
                Ok(bytes) => match look(&bytes) {
                    Ok(found) => return Ok(found),
                    Err(why) => reason = why,
                },
                Err(StoreError::NotFound { .. }) => {
                    reason = "it is not in the bucket".to_owned();
                    break;
                }
                Err(e @ StoreError::Short { .. }) => reason = e.to_string(),
                Err(error) => return Err(Fault::Store(error)),
            }
        }
        let key = key.clone();
        Err(Fault::Damaged { key, reason })
    }
}

/// Cuts a slice's bytes, which come in pieces, into batches.
#[derive(Debug)]
pub struct Batcher {
    waiting: BytesMut,
    /// Bytes of the slice that have not come yet.
    left: u64,
    next: i64,
    end: i64,
}

impl Batcher {
    /// Of a slice with so many bytes, that holds offsets from `base` up to `end`.
    pub fn new(base: i64, end: i64, bytes: u64) -> Self {
        Self {
            waiting: BytesMut::new(),
            left: bytes,
            next: base,
            end,
        }
    }

    /// The batches that are whole with `piece`. Those that are not sound, or not in their place, are refused.
    pub fn take(&mut self, piece: &Bytes) -> Result<Vec<Batch>, String> {
        let came = piece.len() as u64;
        self.left = self
            .left
            .checked_sub(came)
            .ok_or("more bytes than the slice has")?;
        self.waiting.extend_from_slice(piece);
        let mut found = Vec::new();
        while self.waiting.len() >= HEADER_LEN {
            let header = BatchHeader::parse(&self.waiting).map_err(|e| e.to_string())?;
            let size = header.size();
            let comes = self.waiting.len() as u64 + self.left;
            if size > MAX_BATCH || size as u64 > comes {
                return Err(format!(
                    "the batch at offset {} has {size} bytes",
                    header.base_offset
                ));
            }
            if header.base_offset < self.next || header.next_offset() > self.end {
                return Err(format!(
                    "a batch of offsets {}..{} where {}..{} are expected",
                    header.base_offset,
                    header.next_offset(),
                    self.next,
                    self.end
                ));
            }
            if self.waiting.len() < size {
                break;
            }
            let bytes = self.waiting.split_to(size).freeze();
            let batch = Batch { header, bytes };
            batch.verify_crc().map_err(|e| e.to_string())?;
            self.next = batch.header.next_offset();
            found.push(batch);
        }
        Ok(found)
    }

    /// Nothing may be left over.
    pub fn finish(&self) -> Result<(), String> {
        if self.waiting.is_empty() && self.left == 0 {
            return Ok(());
        }
        let over = self.waiting.len();
        Err(format!("{over} bytes of a batch whose end is missing"))
    }
}
