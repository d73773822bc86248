//! Objects on their way from one place to the other. Each arrives under its own key and is verified there as an
//! upload is; what is there and verified is not copied again.
//!
//! Where one store holds both places and vouches for what it has (its own CRC64NVME is the one that the root says), it
//! copies by itself; otherwise, and where that did not arrive as it should, the bytes come through here. The first
//! reason for that is remembered and told.

use std::{
    fs::File,
    ops::Range,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use whimbrel_runtime::{Backoff, Clock, Tasks};

use super::{MoveError, Tally};
use crate::{
    checksum::Crc64,
    format::Key,
    ops::{Op, Ops},
    repair::Scratch,
    store::{Brought, Known, Meta, Part, Source, Store, StoreError},
    transfer::Transfer,
};

/// Size of a GET, and of what is put together in memory.
const PIECE: u64 = 8 << 20;
/// Of a GET, before the shard's turn ends; it comes again.
const ATTEMPTS: u32 = 6;

/// What is known of an object before it is looked at.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub key: Key,
    /// Length and CRC64NVME, as the root says.
    pub expected: Option<(u64, u64)>,
    /// It may be gone: it waits to be deleted.
    pub may_be_gone: bool,
}

#[derive(Clone, Debug)]
pub struct Copier {
    pub from: Arc<dyn Store>,
    /// Into the new place.
    pub transfer: Transfer,
    pub scratch_dir: PathBuf,
    pub clock: Clock,
    pub tasks: Tasks,
    pub ops: Ops,
    /// The new place was left once, and has what it had then.
    pub comes_back: bool,
    /// Bytes a second; 0 is no limit.
    pub rate: u64,
    pub tally: Tally,
    /// When the next piece may be read.
    pub free_ns: Arc<AtomicU64>,
}

impl Copier {
    /// Returns once the object is verified in the new place; false where it is gone, and may be. `is_listed` says that the new place has something under its key.
    pub async fn bring(&self, wanted: &Wanted, is_listed: bool) -> Result<bool, MoveError> {
        if is_listed
            && let Some((length, crc64)) = wanted.expected
            && self.is_there(&wanted.key, length, crc64).await?
        {
            self.tally.found(length);
            return Ok(true);
        }
        let meta = match self.from.head(&wanted.key).await {
            Ok(meta) => meta,
            Err(e) if e.is_not_found() && wanted.may_be_gone => return Ok(false),
            Err(e) if e.is_not_found() => return Err(damaged(wanted, "it is not in the bucket")),
            Err(e) => return Err(e.into()),
        };
        if wanted
            .expected
            .is_some_and(|(length, _)| length != meta.size)
        {
            return Err(damaged(wanted, "it has another length than its root says"));
        }
        if self.is_brought_inside(wanted, &meta).await? {
            self.tally.copied_inside(meta.size);
            return Ok(true);
        }
        self.stream(wanted, meta.size).await?;
        self.tally.copied(meta.size);
        Ok(true)
    }

    /// True once the store has copied it by itself, and that was verified.
    async fn is_brought_inside(&self, wanted: &Wanted, meta: &Meta) -> Result<bool, MoveError> {
        if self.tally.streams_all() {
            return Ok(false);
        }
        let Some(origin) = self.from.origin() else {
            self.tally.streams("the old place is no store that copies");
            return Ok(false);
        };
        let expected = wanted.expected.map(|(_, crc64)| crc64);
        // What it does not vouch for comes through here, where its bytes are summed before they go on.
        let Some(crc64) = meta
            .crc64
            .filter(|told| expected.is_none_or(|e| e == *told))
        else {
            return Ok(false);
        };
        let known = Known {
            key: &wanted.key,
            version: &meta.version,
            length: meta.size,
        };
        let op = self.ops.begin("copy object inside the store", &wanted.key);
        self.pace(meta.size).await;
        match self.transfer.store.bring(&origin, &known).await {
            Ok(Brought::Done) => {}
            Ok(Brought::Not(why)) => {
                self.tally.streams(&why);
                return Ok(false);
            }
            // It may have arrived all the same.
            Err(error) => op.failed(&error),
        }
        op.step("verify copy");
        self.is_there(&wanted.key, meta.size, crc64).await
    }

    async fn is_there(&self, key: &Key, length: u64, crc64: u64) -> Result<bool, MoveError> {
        match self.transfer.verify(key, length, crc64).await {
            Ok(is_there) => Ok(is_there),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    async fn stream(&self, wanted: &Wanted, length: u64) -> Result<(), MoveError> {
        let key = &wanted.key;
        let op = self.ops.begin("move object", key);
        let mut crc = Crc64::new();
        let small = length <= PIECE;
        let scratch = match small {
            true => None,
            false => Some(
                Scratch::new(&self.scratch_dir, length, self.tasks.clone())
                    .map_err(MoveError::Scratch)?,
            ),
        };
        let (mut whole, mut at) = (BytesMut::new(), 0);
        while at < length {
            let end = length.min(at + PIECE);
            self.pace(end - at).await;
            let bytes = self.piece(key, at..end, &op).await?;
            crc.update(&bytes);
            match &scratch {
                Some(scratch) => scratch.append(bytes).await.map_err(MoveError::Scratch)?,
                None => whole.extend_from_slice(&bytes),
            }
            at = end;
        }
        let crc64 = crc.finish();
        if wanted
            .expected
            .is_some_and(|(_, expected)| expected != crc64)
        {
            return Err(damaged(wanted, "its checksum is not the root's"));
        }
        let part = match &scratch {
            Some(scratch) => Part::File {
                file: Arc::new(open(&scratch.path, &self.tasks).await?),
                position: 0,
                length,
            },
            None => Part::Bytes(Bytes::from(whole)),
        };
        let source = Source::new(vec![part], crc64);
        Ok(self.transfer.put(key, &source, &op).await?)
    }

    /// A piece of an object; the store may need several attempts.
    async fn piece(&self, key: &Key, range: Range<u64>, op: &Op) -> Result<Bytes, StoreError> {
        let mut pause = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let mut attempts = 1;
        loop {
            match self.from.get_range(key, range.clone()).await {
                Err(e) if e.is_retryable() && attempts < ATTEMPTS => op.failed(&e),
                done => return done,
            }
            attempts += 1;
            self.clock.sleep(pause.next()).await;
        }
    }

    /// Waits for the turn of so many bytes; all that are on their way share the rate.
    async fn pace(&self, bytes: u64) {
        let Some(ns) = bytes.saturating_mul(1_000_000_000).checked_div(self.rate) else {
            return;
        };
        let now_ns = self.clock.boot_ns();
        let take = |free_ns: u64| Some(free_ns.max(now_ns).saturating_add(ns));
        let taken = self
            .free_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        let at_ns = taken.unwrap_or(now_ns).max(now_ns);
        self.clock.sleep(Duration::from_nanos(at_ns - now_ns)).await;
    }
}

async fn open(path: &std::path::Path, tasks: &Tasks) -> Result<File, MoveError> {
    let path = path.to_owned();
    let opened = tasks.blocking(move || File::open(path)).await;
    opened.map_err(|e| MoveError::Scratch(e.to_string()))
}

fn damaged(wanted: &Wanted, reason: &str) -> MoveError {
    MoveError::Damaged {
        key: wanted.key.clone(),
        reason: reason.to_owned(),
    }
}
