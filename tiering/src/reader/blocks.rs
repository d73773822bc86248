//! Blocks of objects: fetched once, checked, cached, and cut into ranges. Objects of a folder are ranges as
//! they are.

use std::{fs::File, io, ops::Range as Span, os::unix::fs::FileExt, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use whimbrel_runtime::{Backoff, Clock, Tasks};

use super::{Flights, Objects, Range, ReadError, SHORT, direct, flights::Wanted};
use crate::{
    cache::{BlockId, Cache, Cached, Piece, Shelf},
    format::{BLOCK_BYTES, BlockTable, Key, Opened},
    metrics as names,
    ops::Ops,
    root::Entry,
    store::Store,
};

/// Size and alignment of a GET and of a cache file.
pub const BLOCK: u64 = 8 << 20;
/// Blocks on their way at once, 8 MiB of memory each.
const FETCHES: usize = 8;
/// And as many more of those that a reader waits for, when read-ahead has taken the others.
const HURRIED: usize = 4;
const ATTEMPTS: u32 = 5;
/// Steps under which reads are listed in the status.
pub(super) const FETCH: &str = "fetch block";
pub(super) const OPEN: &str = "open object";

type Outcome = Result<(), ReadError>;

#[derive(Clone, Debug)]
pub struct Blocks {
    store: Arc<dyn Store>,
    shelf: Shelf,
    clock: Clock,
    tasks: Tasks,
    flights: Flights<BlockId, Outcome>,
    fetches: Arc<Semaphore>,
    hurried: Arc<Semaphore>,
    ops: Ops,
}

fn id(key: &Key, number: u32) -> BlockId {
    BlockId {
        object: key.name().into(),
        piece: Piece::Block(number),
    }
}

/// The bytes of a block: up to the end of the CRC block in which the data ends, so that all of it can be checked.
pub(super) fn extent(number: u32, data_bytes: u64, body_bytes: u64) -> Span<u64> {
    let from = u64::from(number) * BLOCK;
    let data_end = data_bytes
        .div_ceil(BLOCK_BYTES)
        .saturating_mul(BLOCK_BYTES)
        .min(body_bytes);
    from..data_end.min(from + BLOCK)
}

impl Blocks {
    pub fn new(store: Arc<dyn Store>, shelf: Shelf, ops: Ops, clock: Clock, tasks: Tasks) -> Self {
        let flights = Flights::new(tasks.clone());
        Self {
            store,
            shelf,
            clock,
            tasks,
            flights,
            fetches: Arc::new(Semaphore::new(FETCHES)),
            hurried: Arc::new(Semaphore::new(HURRIED)),
            ops,
        }
    }

    pub fn cache(&self) -> &Cache {
        self.shelf.cache()
    }

    /// Why readers wait, if the store has failed what they wait for.
    pub fn trouble(&self) -> Option<String> {
        self.ops.failing(&[FETCH, OPEN])
    }

    /// Starts a fetch whose outcome nobody waits for here.
    pub fn start_fetch(&self, key: &Key, objects: &Objects, entry: &Entry, number: u32) {
        let block = id(key, number);
        if self.cache().get(&block).is_some() {
            return;
        }
        let (this, key, objects, entry) = (self.clone(), key.clone(), objects.clone(), *entry);
        drop(self.flights.start(&FETCH, &block, |wanted| async move {
            let object = objects.open(&key, &entry).await?;
            this.fetch(&key, &object, number, wanted).await
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
            self.shelf.used(&block);
            if let Some(cached) = self.cache().get(&block) {
                if !counted {
                    self.cache().count(true);
                }
                if cached.trusted || self.check(key, object, number, &cached).await {
                    return Ok(cached);
                }
            }
            if !counted {
                self.cache().count(false);
                counted = true;
            }
            let (this, key, object) = (self.clone(), key.clone(), Arc::clone(object));
            let flight = self.flights.start(&FETCH, &block, |wanted| async move {
                this.fetch(&key, &object, number, wanted).await
            });
            flight
                .landed()
                .await
                .unwrap_or_else(|| Err(ReadError::Cache("stopping".to_owned())))?;
        }
    }

    /// A file of an earlier run: is it what the object says? If not it goes.
    async fn check(&self, key: &Key, object: &Arc<Opened>, number: u32, cached: &Cached) -> bool {
        let block = &id(key, number);
        let (object_, path) = (Arc::clone(object), cached.path.clone());
        let (from, length) = (u64::from(number) * BLOCK, self.length(&object_, number));
        let sound = self
            .tasks
            .blocking(move || {
                std::fs::read(path).is_ok_and(|bytes| {
                    bytes.len() as u64 == length && object_.blocks.check(from, &bytes).is_ok()
                })
            })
            .await;
        if sound {
            self.cache().trust(block);
        } else {
            tracing::warn!(%key, block = number, "a cached block is damaged and is fetched again");
            self.cache().forget(block);
        }
        sound
    }

    fn length(&self, object: &Opened, number: u32) -> u64 {
        let data = object.data_bytes();
        let extent = extent(number, data, object.blocks.covers());
        extent.end.saturating_sub(extent.start)
    }

    /// Others want the memory of a block that its readers have behind them.
    fn make_way(&self) {
        if self.fetches.available_permits() == 0 {
            self.shelf.make_way();
        }
    }

    /// A turn to have a block on its way; read-ahead does not hold up what somebody waits for.
    async fn place(&self, wanted: &Wanted) -> Option<OwnedSemaphorePermit> {
        let hurried = async {
            wanted.clone().wait().await;
            self.shelf.urge();
            Arc::clone(&self.hurried).acquire_owned().await
        };
        self.make_way();
        // Never closed.
        tokio::select! {
            biased;
            place = Arc::clone(&self.fetches).acquire_owned() => place.ok(),
            place = hurried => place.ok(),
        }
    }

    async fn fetch(&self, key: &Key, object: &Arc<Opened>, number: u32, wanted: Wanted) -> Outcome {
        let block = id(key, number);
        if self.cache().get(&block).is_some() {
            return Ok(());
        }
        let from = u64::from(number) * BLOCK;
        let range = from..from + self.length(object, number);
        let op = self.ops.begin(FETCH, key);
        let mut pause = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let place = self.place(&wanted).await;
            let bytes = self.fetch_once(key, object, range.clone()).await;
            let kept = match bytes {
                Ok(bytes) => self.keep(&block, bytes, &wanted, place).await,
                Err(e) => Err(e),
            };
            match kept {
                Err(e @ ReadError::Cache(_)) => return Err(e),
                Err(e) => {
                    op.failed(&e);
                    last = Some(e);
                }
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

    /// Bytes of the object, compared with its table.
    async fn fetch_once(
        &self,
        key: &Key,
        object: &Arc<Opened>,
        range: Span<u64>,
    ) -> Result<Bytes, ReadError> {
        let from = range.start;
        let bytes = match self.store.get_range(key, range).await {
            Ok(bytes) => bytes,
            Err(e) if e.is_not_found() => {
                return Err(ReadError::damaged(key, "it is not in the bucket"));
            }
            Err(e) => return Err(ReadError::Store(Arc::new(e))),
        };
        let meter = self.ops.meter();
        meter.count(names::FETCHED_BYTES, bytes.len() as u64);
        let object = Arc::clone(object);
        let check = move || object.blocks.check(from, &bytes).map(|()| bytes);
        let checked = self.tasks.blocking(check).await;
        checked.map_err(|e| ReadError::format(key, &e))
    }

    /// Whoever waits has it before the disk does, which gets it meanwhile; its place is held until then.
    async fn keep(
        &self,
        block: &BlockId,
        bytes: Bytes,
        wanted: &Wanted,
        place: Option<OwnedSemaphorePermit>,
    ) -> Outcome {
        let wanted = wanted.clone().wait();
        let kept = self.shelf.put(block.clone(), bytes, wanted, place).await;
        kept.map_err(|e| ReadError::Cache(e.to_string()))
    }

    /// Where the object's bytes `span` are, with the checksums of the blocks that hold them. In `doubt` they
    /// are looked at first, and come from the cache also where the object is a local file: the one who asks
    /// may see another part of the filesystem than we do.
    pub async fn ranges(
        &self,
        key: &Key,
        object: &Arc<Opened>,
        span: Span<u64>,
        doubt: bool,
    ) -> Result<Vec<Range>, ReadError> {
        if let Some(path) = self.store.local(key).filter(|_| !doubt) {
            return Ok(vec![range(path, 0, &object.blocks, span)]);
        }
        let mut ranges = Vec::new();
        let mut at = span.start;
        while at < span.end {
            let number = u32::try_from(at / BLOCK).unwrap_or(u32::MAX);
            let base = u64::from(number) * BLOCK;
            let end = span.end.min(base + BLOCK);
            let block = id(key, number);
            if doubt && let Some(cached) = self.cache().get(&block) {
                self.check(key, object, number, &cached).await;
            }
            let cached = self.get(key, object, number).await?;
            ranges.push(range(cached.path, base, &object.blocks, at..end));
            at = end;
        }
        Ok(ranges)
    }

    /// How far a range that begins at `from` may go so that nobody waits for more than one block.
    pub fn reach(&self, key: &Key, from: u64, want: u64) -> u64 {
        if self.store.local(key).is_some() {
            return want;
        }
        let mut end = (from / BLOCK + 1) * BLOCK;
        if end - from < SHORT {
            end += BLOCK;
        }
        while end < want && self.holds(key, end) {
            end += BLOCK;
        }
        want.min(end)
    }

    /// Whether the block with this position is cached.
    pub fn holds(&self, key: &Key, position: u64) -> bool {
        u32::try_from(position / BLOCK).is_ok_and(|number| self.cache().holds(&id(key, number)))
    }

    /// A reader has these blocks behind it and goes on: their memory is of more use to what comes next, and to
    /// the log. They stay on the disk for others.
    pub fn let_go(&self, key: &Key, numbers: Span<u32>) {
        let (this, key) = (self.clone(), key.clone());
        self.tasks.spawn_ok("let go of blocks", async move {
            let shelf = this.shelf.clone();
            let let_go = move || numbers.for_each(|number| shelf.let_go(&id(&key, number)));
            this.tasks.blocking(let_go).await;
            this.make_way();
        });
    }

    /// True where blocks are fetched from afar, one by one.
    pub fn is_remote(&self, key: &Key) -> bool {
        self.store.local(key).is_none()
    }

    /// Tells the kernel that these bytes of a local object are next.
    pub fn will_need(&self, key: &Key, span: Span<u64>) {
        let Some(path) = self.store.local(key) else {
            return;
        };
        let tasks = self.tasks.clone();
        self.tasks.spawn_ok("read ahead", async move {
            tasks.blocking(move || direct::will_need(&path, span)).await;
        });
    }

    /// At least one checked byte at `position` unless it is the end of the data; about `want` of them.
    pub async fn read(
        &self,
        key: &Key,
        object: &Arc<Opened>,
        position: u64,
        want: u64,
    ) -> Result<Bytes, ReadError> {
        let data = object.data_bytes();
        let end = position.saturating_add(want).min(data);
        if let Some(path) = self.store.local(key) {
            let (key, object) = (key.clone(), Arc::clone(object));
            // The whole block is read for its checksum, so all of it is handed on.
            let span = position..object.blocks.cover(&(position..end)).end.min(data);
            return self
                .tasks
                .blocking(move || direct::read(&path, &key, &object, &span))
                .await;
        }
        let number = u32::try_from(position / BLOCK).unwrap_or(u32::MAX);
        let base = u64::from(number) * BLOCK;
        let end = end.min(base + BLOCK);
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
                // Evicted between the look and the read.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    self.cache().forget(&id(key, number));
                }
                Err(e) => return Err(ReadError::Cache(e.to_string())),
            }
        }
    }
}

/// The object's bytes `span` in a file that begins at the object's `base`, a block boundary.
fn range(path: std::path::PathBuf, base: u64, table: &BlockTable, span: Span<u64>) -> Range {
    let cover = table.cover(&span);
    Range {
        path,
        position: span.start - base,
        length: span.end - span.start,
        before: span.start - cover.start,
        after: cover.end.saturating_sub(span.end),
        crcs: table.crcs(&cover).to_vec(),
    }
}
