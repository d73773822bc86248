//! Blocks of objects: fetched once, checked, cached, and cut into ranges.

use std::{fs::File, io, os::unix::fs::FileExt, sync::Arc, time::Duration};

use bytes::Bytes;
use metrics::counter;
use tokio::sync::Semaphore;
use whimbrel_runtime::{Backoff, Clock, Tasks};

use super::{Flights, Objects, Range, ReadError, flights::landed};
use crate::{
    cache::{BlockId, Cache, Cached},
    format::{BLOCK_BYTES, Key, Opened},
    metrics as names,
    root::Entry,
    store::Store,
};

/// Size and alignment of a GET and of a cache file.
pub const BLOCK: u64 = 8 << 20;
/// Blocks on their way at once, 8 MiB of memory each.
const FETCHES: usize = 6;
const ATTEMPTS: u32 = 5;

type Outcome = Result<(), ReadError>;

#[derive(Clone, Debug)]
pub struct Blocks {
    store: Arc<dyn Store>,
    cache: Arc<Cache>,
    clock: Clock,
    tasks: Tasks,
    flights: Flights<BlockId, Outcome>,
    fetches: Arc<Semaphore>,
}

fn id(key: &Key, number: u32) -> BlockId {
    BlockId {
        object: key.name().into(),
        number,
    }
}

/// The bytes of a block: up to the end of the CRC block in which the data ends, so that all of it can be checked.
fn extent(number: u32, data_bytes: u64, body_bytes: u64) -> std::ops::Range<u64> {
    let from = u64::from(number) * BLOCK;
    let data_end = data_bytes
        .div_ceil(BLOCK_BYTES)
        .saturating_mul(BLOCK_BYTES)
        .min(body_bytes);
    from..data_end.min(from + BLOCK)
}

impl Blocks {
    pub fn new(store: Arc<dyn Store>, cache: Arc<Cache>, clock: Clock, tasks: Tasks) -> Self {
        let flights = Flights::new(tasks.clone());
        Self {
            store,
            cache,
            clock,
            tasks,
            flights,
            fetches: Arc::new(Semaphore::new(FETCHES)),
        }
    }

    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Starts a fetch whose outcome nobody waits for here.
    pub fn start_fetch(&self, key: &Key, objects: &Objects, entry: &Entry, number: u32) {
        let block = id(key, number);
        if self.cache.get(&block).is_some() {
            return;
        }
        let (this, key, objects, entry) = (self.clone(), key.clone(), objects.clone(), *entry);
        drop(self.flights.start(&"fetch block", &block, async move {
            let object = objects.open(&key, &entry).await?;
            this.fetch(&key, &object, number).await
        }));
    }

    /// The cached and checked block, fetched if need be.
    pub async fn get(
        &self,
        key: &Key,
        object: &Arc<Opened>,
        number: u32,
    ) -> Result<Cached, ReadError> {
        let block = id(key, number);
        let mut counted = false;
        loop {
            if let Some(cached) = self.cache.get(&block) {
                if !counted {
                    self.cache.count(true);
                }
                if cached.trusted || self.check(key, object, &block, &cached).await {
                    return Ok(cached);
                }
            }
            if !counted {
                self.cache.count(false);
                counted = true;
            }
            let (this, key, object) = (self.clone(), key.clone(), Arc::clone(object));
            let flight = self.flights.start(&"fetch block", &block, async move {
                this.fetch(&key, &object, number).await
            });
            landed(flight)
                .await
                .unwrap_or_else(|| Err(ReadError::Cache("stopping".to_owned())))?;
        }
    }

    /// A file of an earlier run: is it what the object says? If not it goes.
    async fn check(
        &self,
        key: &Key,
        object: &Arc<Opened>,
        block: &BlockId,
        cached: &Cached,
    ) -> bool {
        let (object_, path) = (Arc::clone(object), cached.path.clone());
        let (from, length) = (
            u64::from(block.number) * BLOCK,
            self.length(&object_, block.number),
        );
        let sound = self
            .tasks
            .blocking(move || {
                std::fs::read(path).is_ok_and(|bytes| {
                    bytes.len() as u64 == length && object_.blocks.check(from, &bytes).is_ok()
                })
            })
            .await;
        if sound {
            self.cache.trust(block);
        } else {
            tracing::warn!(%key, block = block.number, "a cached block is damaged and is fetched again");
            self.cache.forget(block);
        }
        sound
    }

    fn length(&self, object: &Opened, number: u32) -> u64 {
        let data = object.slice().map_or(0, |slice| slice.length);
        let extent = extent(number, data, object.blocks.covers());
        extent.end.saturating_sub(extent.start)
    }

    async fn fetch(&self, key: &Key, object: &Arc<Opened>, number: u32) -> Outcome {
        // Never closed.
        let _place = self.fetches.acquire().await;
        let block = id(key, number);
        if self.cache.get(&block).is_some() {
            return Ok(());
        }
        let from = u64::from(number) * BLOCK;
        let range = from..from + self.length(object, number);
        let mut pause = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let mut last = None;
        for _ in 0..ATTEMPTS {
            match self.fetch_once(key, object, &block, range.clone()).await {
                Err(e @ ReadError::Cache(_)) => return Err(e),
                Err(e) => last = Some(e),
                Ok(()) => return Ok(()),
            }
            if let Some(ReadError::Damaged { .. }) = &last
                && self.store.head(key).await.is_err_and(|e| e.is_not_found())
            {
                break;
            }
            self.clock.sleep(pause.next()).await;
        }
        Err(last.unwrap_or_else(|| ReadError::damaged(key, "no attempt was made")))
    }

    async fn fetch_once(
        &self,
        key: &Key,
        object: &Arc<Opened>,
        block: &BlockId,
        range: std::ops::Range<u64>,
    ) -> Outcome {
        let from = range.start;
        let bytes = match self.store.get_range(key, range).await {
            Ok(bytes) => bytes,
            Err(e) if e.is_not_found() => {
                return Err(ReadError::damaged(key, "it is not in the bucket"));
            }
            Err(e) => return Err(ReadError::Store(Arc::new(e))),
        };
        counter!(names::FETCHED_BYTES).increment(bytes.len() as u64);
        let (object, cache, block, key) = (
            Arc::clone(object),
            Arc::clone(&self.cache),
            block.clone(),
            key.clone(),
        );
        let kept = move || {
            object
                .blocks
                .check(from, &bytes)
                .map_err(|e| ReadError::format(&key, &e))?;
            cache
                .insert(&block, &bytes)
                .map_err(|e| ReadError::Cache(e.to_string()))
        };
        self.tasks.blocking(kept).await
    }

    /// The object's bytes `[from, to)` as ranges of cache files, with their CRCs.
    pub async fn ranges(
        &self,
        key: &Key,
        object: &Arc<Opened>,
        from: u64,
        to: u64,
    ) -> Result<Vec<Range>, ReadError> {
        let mut ranges = Vec::new();
        let mut at = from;
        while at < to {
            let number = u32::try_from(at / BLOCK).unwrap_or(u32::MAX);
            let end = to.min((u64::from(number) + 1) * BLOCK);
            ranges.push(self.range(key, object, number, at..end).await?);
            at = end;
        }
        Ok(ranges)
    }

    async fn range(
        &self,
        key: &Key,
        object: &Arc<Opened>,
        number: u32,
        span: std::ops::Range<u64>,
    ) -> Result<Range, ReadError> {
        loop {
            let cached = self.get(key, object, number).await?;
            let (object_, path, span_) = (Arc::clone(object), cached.path.clone(), span.clone());
            let base = u64::from(number) * BLOCK;
            match self
                .tasks
                .blocking(move || crc_of(&object_, &path, base, span_))
                .await
            {
                Ok(crc32c) => {
                    return Ok(Range {
                        path: cached.path,
                        position: span.start - base,
                        length: span.end - span.start,
                        crc32c,
                    });
                }
                // Evicted between the look and the read.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    self.cache.forget(&id(key, number))
                }
                Err(e) => return Err(ReadError::Cache(e.to_string())),
            }
        }
    }

    /// Up to `want` bytes at `position`, at least one unless it is the end of the data.
    pub async fn read(
        &self,
        key: &Key,
        object: &Arc<Opened>,
        position: u64,
        want: u64,
    ) -> Result<Bytes, ReadError> {
        let data = object.slice().map_or(0, |slice| slice.length);
        let number = u32::try_from(position / BLOCK).unwrap_or(u32::MAX);
        let base = u64::from(number) * BLOCK;
        let end = position.saturating_add(want).min(data).min(base + BLOCK);
        loop {
            let cached = self.get(key, object, number).await?;
            let (path, length) = (
                cached.path,
                usize::try_from(end.saturating_sub(position)).unwrap_or(0),
            );
            let read = self.tasks.blocking(move || {
                let mut bytes = vec![0; length];
                File::open(path)?
                    .read_exact_at(&mut bytes, position - base)
                    .map(|()| Bytes::from(bytes))
            });
            match read.await {
                Ok(bytes) => return Ok(bytes),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    self.cache.forget(&id(key, number))
                }
                Err(e) => return Err(ReadError::Cache(e.to_string())),
            }
        }
    }
}

/// CRC32C of `[span)` of the object: whole CRC blocks from the table, the rest from the file that begins
/// at `base`.
fn crc_of(
    object: &Opened,
    path: &std::path::Path,
    base: u64,
    span: std::ops::Range<u64>,
) -> io::Result<u32> {
    let file = File::open(path)?;
    let (mut crc, mut at) = (0, span.start);
    while at < span.end {
        let block = at / BLOCK_BYTES;
        let end = span.end.min((block + 1) * BLOCK_BYTES);
        let length = usize::try_from(end - at).unwrap_or(0);
        let whole = at.is_multiple_of(BLOCK_BYTES) && length as u64 == BLOCK_BYTES;
        let piece = match object.blocks.crc(block).filter(|_| whole) {
            Some(crc) => crc,
            None => {
                let mut bytes = vec![0; length];
                file.read_exact_at(&mut bytes, at - base)?;
                crc32c::crc32c(&bytes)
            }
        };
        crc = crc32c::crc32c_combine(crc, piece, length);
        at = end;
    }
    Ok(crc)
}
