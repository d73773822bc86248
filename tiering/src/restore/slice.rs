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

/// Reads a slice piece by piece; what it holds of it is one piece, and the batch that goes on in the next.
#[derive(Debug)]
pub struct Cursor {
    key: Key,
    opened: Opened,
    batches: Batcher,
    /// Where the slice's bytes lie in the object, and where the blocks end that hold them.
    bytes: Range<u64>,
    body: u64,
    next: u64,
    /// Batches that begin at it or above are not wanted.
    end: i64,
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
        let mut cursor = self.begin(shard, at, entry, entry.base..end).await?;
        while let Some(batches) = self.next(&mut cursor).await? {
            for batch in &batches {
                each(batch).map_err(|e| cursor.damaged(&e))?;
            }
        }
        Ok(())
    }

    /// At a batch of `entry` that begins at the start of `wanted` or shortly before it, as its index knows one.
    pub async fn begin(
        &self,
        shard: u16,
        at: TopicPartition,
        entry: &Entry,
        wanted: Range<i64>,
    ) -> Result<Cursor, Fault> {
        let key = entry.key(&self.keys, shard, at);
        let opened = self.open(&key, at, entry).await?;
        let (base, skipped) = skip(&opened, entry, wanted.start);
        let bytes = entry.position().saturating_add(skipped)..entry.data_end();
        let body = bytes
            .end
            .div_ceil(BLOCK_BYTES)
            .saturating_mul(BLOCK_BYTES)
            .min(opened.blocks.covers());
        Ok(Cursor {
            key,
            opened,
            batches: Batcher::new(
                base,
                entry.object_end,
                entry.data_bytes.saturating_sub(skipped),
            ),
            next: bytes.start / BLOCK_BYTES * BLOCK_BYTES,
            body,
            bytes,
            end: wanted.end.min(entry.end),
        })
    }

    /// The batches that are whole with the next piece; nothing when all that are wanted were handed over. After an
    /// error the slice is to be begun anew.
    pub async fn next(&self, cursor: &mut Cursor) -> Result<Option<Vec<Batch>>, Fault> {
        if cursor.next >= cursor.body {
            cursor.batches.finish().map_err(|e| cursor.damaged(&e))?;
            return Ok(None);
        }
        let (from, until) = (cursor.next, cursor.body.min(cursor.next + BLOCK));
        let bytes = self.range(&cursor.key, &cursor.opened, from..until).await?;
        // What lies around the slice is of others, or its indexes.
        let inside = cursor.bytes.start.max(from)..cursor.bytes.end.min(until);
        let place = |n: u64| usize::try_from(n - from).unwrap_or(usize::MAX);
        let piece = bytes.slice(place(inside.start)..place(inside.end));
        let mut found = cursor
            .batches
            .take(&piece)
            .map_err(|e| cursor.damaged(&e))?;
        cursor.next = until;
        let wanted = found.partition_point(|b| b.header.base_offset < cursor.end);
        if wanted < found.len() {
            found.truncate(wanted);
            cursor.skip();
        }
        Ok(Some(found))
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

/// Where in the slice the last batch that its index knows at `from` or before begins: its offset, and the bytes before it.
fn skip(opened: &Opened, entry: &Entry, from: i64) -> (i64, u64) {
    let begin = || {
        let index = opened.slice_at(entry.position())?.index;
        let relative = u32::try_from(from.checked_sub(entry.base)?).ok()?;
        let position = index.at_or_before(relative);
        let base = entry
            .base
            .checked_add(index.relative_at(position)?.into())?;
        (base <= from).then_some((base, u64::from(position)))
    };
    begin().unwrap_or((entry.base, 0))
}

impl Cursor {
    /// What is wrong with the object.
    pub fn damaged(&self, reason: &dyn std::fmt::Display) -> Fault {
        Fault::Damaged {
            key: self.key.clone(),
            reason: reason.to_string(),
        }
    }

    /// Nothing at or above it is wanted.
    pub fn end(&self) -> i64 {
        self.end
    }

    fn skip(&mut self) {
        self.next = self.body;
        self.batches = Batcher::new(0, 0, 0);
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
