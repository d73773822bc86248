//! Tails of objects, opened once and kept in memory up to a limit; those from afar also in the cache, so that
//! indexes and checksums are there after a restart and a lookup costs no request for them.

use std::{
    future::{pending, ready},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use whimbrel_runtime::{Backoff, Clock, Tasks};

use super::{
    BLOCK, Flights, ReadError,
    blocks::{OPEN, extent},
    scan::is_slice_of,
};
use crate::{
    cache::{BlockId, Piece, Shelf},
    format::{Key, Opened, OpenedSlice},
    kept::Kept,
    ops::Ops,
    root::Entry,
    store::{Source, Store, StoreError},
};

/// Bytes of tails kept open. That of an object of 64 MiB takes about 100 KiB, that of one of 1 GiB 1.3 MiB.
const KEPT_BYTES: u64 = 48 << 20;
/// A tail is indexes and tables: far below this for any object that we write.
const MAX_TAIL: u64 = 64 << 20;
const ATTEMPTS: u32 = 4;

type Outcome = Result<Arc<Opened>, ReadError>;

#[derive(Clone, Debug)]
pub struct Objects {
    store: Arc<dyn Store>,
    shelf: Shelf,
    clock: Clock,
    tasks: Tasks,
    flights: Flights<Key, Outcome>,
    ops: Ops,
    kept: Arc<Mutex<Kept<Key, Opened>>>,
}

impl Objects {
    pub fn new(store: Arc<dyn Store>, shelf: Shelf, ops: Ops, clock: Clock, tasks: Tasks) -> Self {
        Self {
            store,
            shelf,
            clock,
            flights: Flights::new(tasks.clone()),
            tasks,
            ops,
            kept: Arc::new(Mutex::new(Kept::new(KEPT_BYTES, |object| {
                object.object_bytes - object.data_bytes()
            }))),
        }
    }

    /// The object that `entry` names, its tail read and compared with the entry.
    pub async fn open(&self, key: &Key, entry: &Entry) -> Outcome {
        if let Some(object) = self.kept.lock().get(key) {
            return Ok(object);
        }
        let (this, key_, entry_) = (self.clone(), key.clone(), *entry);
        let open = |_| async move { this.fetch(&key_, &entry_).await };
        let flight = self.flights.start(&OPEN, key, open);
        flight
            .landed()
            .await
            .unwrap_or_else(|| Err(ReadError::Cache("stopping".to_owned())))
    }

    async fn fetch(&self, key: &Key, entry: &Entry) -> Outcome {
        let from = Opened::tail_position(entry.object_data_bytes());
        if entry.object_bytes - from > MAX_TAIL {
            return Err(ReadError::damaged(
                key,
                format!("a tail of {} bytes", entry.object_bytes - from),
            ));
        }
        if let Some(object) = self.cached(key, entry, from).await {
            self.kept.lock().add(key, Arc::clone(&object));
            return Ok(object);
        }
        let is_remote = self.store.local(key).is_none();
        // A small one comes as a whole: what is read next is in it.
        let begin = if is_remote && entry.object_bytes <= BLOCK {
            0
        } else {
            from
        };
        let op = self.ops.begin(OPEN, key);
        let mut pause = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let read = match self.store.get_range(key, begin..entry.object_bytes).await {
                Ok(bytes) => self.take(key, entry, &bytes, begin).await,
                Err(e) if e.is_not_found() => {
                    return Err(ReadError::damaged(key, "it is not in the bucket"));
                }
                // Once it may be the network; again and again the object has been cut.
                Err(e @ StoreError::Short { .. }) => Err(ReadError::damaged(key, e)),
                Err(e) => Err(ReadError::Store(Arc::new(e))),
            };
            match read {
                Ok(object) => {
                    self.kept.lock().add(key, Arc::clone(&object));
                    return Ok(object);
                }
                Err(e) => {
                    op.failed(&e);
                    last = Some(e);
                }
            }
            self.clock.sleep(pause.next()).await;
        }
        Err(last.unwrap_or_else(|| ReadError::damaged(key, "no attempt was made")))
    }
}

impl Objects {
    /// What an earlier look has left in the cache, if it is what the root's entry says.
    async fn cached(&self, key: &Key, entry: &Entry, from: u64) -> Option<Arc<Opened>> {
        let id = tail_of(key);
        let cached = self.shelf.cache().get(&id)?;
        let (key_, entry) = (key.clone(), *entry);
        let read = move || {
            let whole = cached.bytes == entry.object_bytes - from;
            let tail = whole.then(|| std::fs::read(cached.path).ok()).flatten()?;
            opened(&key_, &entry, &tail, from).ok()
        };
        let object = self.tasks.blocking(read).await;
        if object.is_none() {
            tracing::warn!(%key, "a cached tail is damaged and is fetched again");
            self.shelf.cache().forget(&id);
        }
        object
    }

    /// The object of which `bytes` are all from `begin` on. What came from afar is cached.
    async fn take(&self, key: &Key, entry: &Entry, bytes: &Bytes, begin: u64) -> Outcome {
        let from = Opened::tail_position(entry.object_data_bytes());
        let skip = usize::try_from(from - begin).unwrap_or(usize::MAX);
        if bytes.len() < skip {
            return Err(ReadError::damaged(key, "it is shorter than the root says"));
        }
        let tail = bytes.slice(skip..);
        let object = opened(key, entry, &tail, from)?;
        if self.store.local(key).is_some() {
            return Ok(object);
        }
        let data = extent(0, entry.object_data_bytes(), object.blocks.covers());
        let data = usize::try_from(data.end).ok().and_then(|n| bytes.get(..n));
        let block = data.filter(|data| begin == 0 && object.blocks.check(0, data).is_ok());
        self.keep(key, block.map(|data| bytes.slice_ref(data)), tail)
            .await;
        Ok(object)
    }

    /// An object that was just written: its tail is at hand, and nobody need ask the store for it. A small
    /// one comes as a whole with the first request for it.
    pub async fn written(&self, key: &Key, entry: &Entry, source: Source) {
        if self.store.local(key).is_some() || entry.object_bytes <= BLOCK {
            return;
        }
        let from = Opened::tail_position(entry.object_data_bytes());
        match self.tasks.blocking(move || source.bytes_from(from)).await {
            Ok(tail) => self.keep(key, None, tail).await,
            Err(error) => tracing::warn!(%key, %error, "the tail of a written object was not kept"),
        }
    }

    /// Caches the tail, and the first block where the object has no other; back when readers have that one.
    async fn keep(&self, key: &Key, block: Option<Bytes>, tail: Bytes) {
        let (shelf, tail_id) = (self.shelf.clone(), tail_of(key));
        let first = BlockId {
            object: Arc::clone(&tail_id.object),
            piece: Piece::Block(0),
        };
        if let Some(block) = block
            && let Err(error) = shelf.put(first, block, ready(()), ()).await
        {
            return tracing::warn!(%error, "an object was not cached");
        }
        // It is in memory already: nobody waits for this.
        self.tasks.spawn_ok("cache a tail", async move {
            if let Err(error) = shelf.put(tail_id, tail, pending(), ()).await {
                tracing::warn!(%error, "an object's tail was not cached");
            }
        });
    }
}

fn tail_of(key: &Key) -> BlockId {
    BlockId {
        object: key.name().into(),
        piece: Piece::Tail,
    }
}

/// Believes a tail only if it says what the root says.
fn opened(key: &Key, entry: &Entry, tail: &[u8], from: u64) -> Outcome {
    let object =
        Opened::parse(tail, from, entry.object_bytes).map_err(|e| ReadError::format(key, &e))?;
    // Offsets and sizes of another partition's object may well be the same.
    let is_whose = |slice: &OpenedSlice<'_>| {
        let at = slice.meta.at;
        let whose = format!("{}-{}-", at.topic_id.simple(), at.partition);
        entry.merged.is_some() || key.name().starts_with(&whose)
    };
    let slice = object.slice_at(entry.position());
    if slice.is_some_and(|slice| is_slice_of(&slice, entry) && is_whose(&slice)) {
        Ok(Arc::new(object))
    } else {
        Err(ReadError::damaged(
            key,
            "its footer is not what the root says",
        ))
    }
}
