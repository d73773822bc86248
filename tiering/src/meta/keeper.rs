//! Writes documents and the head, as the one that has claimed them.
//!
//! A claim replaces the head with a higher epoch before anything else is written; a document goes up and is read back
//! before a head names it; what a head no longer names is deleted, and nothing else, by whoever reads its own head
//! first. A head that is gone is made again from the documents, each of which says what it is.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use uuid::Uuid;
use whimbrel_runtime::{Backoff, Clock, random};

use super::{
    Document, Fleet, Head, Kept, MAX_BYTES, MAX_DOCUMENTS, Whose, read_document, read_head,
};
use crate::{
    format::{FormatError, Keys, MetaName},
    metrics as names,
    ops::{Cause, Ops},
    root::{Reading, Stamp, Verdict, judge},
    store::{Store, StoreError, Version},
};

/// A head that was made again lies so far above all documents that were found: whoever wrote them may have gone on.
const ABOVE: u64 = 1_000;

/// Why the description of the fleet is not kept up by this daemon.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    #[error("another daemon of the region writes it, in epoch {epoch}")]
    Fenced { epoch: u64 },
    #[error("another daemon writes it in our epoch")]
    TwoOfOneIdentity,
    #[error("its head went back or is gone")]
    WentBack,
    #[error(transparent)]
    Damaged(#[from] FormatError),
    #[error("it is of {found}, not of {expected}")]
    Foreign { found: String, expected: String },
    #[error("{bytes} bytes are more than it may have")]
    TooLong { bytes: usize },
    #[error("the fleet's view {here} is older than {there}, which the bucket has")]
    Older { here: u64, there: u64 },
    #[error(transparent)]
    Store(StoreError),
}

impl Cause for MetaError {
    fn cause(&self) -> String {
        match self {
            Self::Store(error) => error.cause(),
            Self::Damaged(error) => error.cause(),
            other => other.to_string(),
        }
    }
}

/// What it works with.
#[derive(Clone, Debug)]
pub struct Context {
    pub store: Arc<dyn Store>,
    pub keys: Keys,
    pub fleet_id: String,
    pub region: String,
    pub incarnation: Uuid,
    pub clock: Clock,
    pub ops: Ops,
    /// Documents of so long ago are kept.
    pub window: Duration,
}

impl Context {
    pub fn whose(&self) -> Whose<'_> {
        Whose {
            fleet_id: &self.fleet_id,
            region: &self.region,
        }
    }

    /// The head that is there now; one answer that was bent on its way is no verdict.
    pub async fn find(&self) -> Result<Option<(Head, Version)>, MetaError> {
        let read = || read_head(&*self.store, &self.keys, self.whose());
        match read().await {
            Err(MetaError::Damaged(_)) => read().await,
            other => other,
        }
    }
}

/// Holds the claim.
#[derive(Debug)]
pub struct Keeper {
    context: Context,
    head: Head,
    version: Version,
    /// The newest document's description, encoded; nothing where there is none that can be read.
    newest: Vec<u8>,
    /// Objects may be there that no head names.
    is_littered: bool,
}

impl Keeper {
    /// Fences whoever wrote before. An error changes nothing that a later claim could not.
    pub async fn claim(context: Context) -> Result<Self, MetaError> {
        let found = context.find().await?;
        let (mut next, before) = match found {
            Some((head, version)) => (head.clone(), Some((head.stamp, version))),
            None => (again(&context).await?, None),
        };
        next.stamp = after(&next.stamp, context.incarnation, 1)?;
        next.written_ms = context.clock.wall_ms();
        let version = match write(&context, &next, before.as_ref()).await {
            // Somebody else's claim on top of the same head came first.
            Err(MetaError::TwoOfOneIdentity) => {
                let epoch = next.stamp.epoch;
                return Err(MetaError::Fenced { epoch });
            }
            other => other?,
        };
        let newest = match next.newest() {
            // Not to be read is not to be compared: the next one is written at once.
            Some(kept) => {
                match read_document(&*context.store, &context.keys, context.whose(), kept).await {
                    Ok(document) => document.fleet.encode()?,
                    Err(error) => {
                        tracing::warn!(%error, "the newest description of the fleet cannot be read");
                        Vec::new()
                    }
                }
            }
            None => Vec::new(),
        };
        let mut keeper = Self {
            context,
            head: next,
            version,
            newest,
            is_littered: true,
        };
        keeper.sweep().await;
        Ok(keeper)
    }

    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Brings `fleet` into the bucket, unless the newest document says the same. True when it was written.
    pub async fn keep(&mut self, fleet: &Fleet, view_version: u64) -> Result<bool, MetaError> {
        let there = self.head.newest().map_or(0, |kept| kept.view_version);
        if view_version < there {
            return Err(MetaError::Older {
                here: view_version,
                there,
            });
        }
        let encoded = fleet.encode()?;
        if encoded == self.newest {
            return Ok(false);
        }
        let now_ms = self.context.clock.wall_ms();
        let mut next = self.head.clone();
        next.stamp = after(&self.head.stamp, self.context.incarnation, 0)?;
        next.written_ms = now_ms;
        let document = Document {
            fleet_id: self.context.fleet_id.clone(),
            region: self.context.region.clone(),
            writer_epoch: next.stamp.epoch,
            sequence: next.stamp.sequence,
            written_ms: now_ms,
            view_version,
            fleet: Fleet::default(),
        };
        let was_littered = std::mem::replace(&mut self.is_littered, true);
        let kept = self.put(&document, document.encode_with(&encoded)).await?;
        next.documents.push(kept);
        let window_ms = i64::try_from(self.context.window.as_millis()).unwrap_or(i64::MAX);
        next.thin(now_ms, window_ms);
        let before = (self.head.stamp, self.version.clone());
        self.version = write(&self.context, &next, Some(&before)).await?;
        self.is_littered = was_littered;
        let before = std::mem::replace(&mut self.head, next).documents;
        self.newest = encoded;
        for dropped in before.iter().filter(|kept| !self.head.names(&kept.name)) {
            let key = self.context.keys.meta(&dropped.name);
            self.is_littered |= self.context.store.delete(&key).await.is_err();
        }
        self.sweep().await;
        Ok(true)
    }

    /// Uploads a document under a name of its own, and reads it back.
    async fn put(&self, document: &Document, bytes: Vec<u8>) -> Result<Kept, MetaError> {
        let length = u32::try_from(bytes.len()).ok();
        let Some(length) = length.filter(|n| u64::from(*n) <= MAX_BYTES) else {
            return Err(MetaError::TooLong { bytes: bytes.len() });
        };
        let kept = Kept {
            name: MetaName {
                writer_epoch: document.writer_epoch,
                sequence: document.sequence,
                random: random::u64(),
            },
            written_ms: document.written_ms,
            view_version: document.view_version,
            length,
            crc32c: crc32c::crc32c(&bytes),
        };
        let key = self.context.keys.meta(&kept.name);
        let bytes = Bytes::from(bytes);
        let answer = self.context.store.put_if_absent(&key, bytes.clone()).await;
        if let Err(error) = answer {
            tracing::debug!(%key, %error, "whether it was written shows when it is read");
        }
        let found = self.context.store.get(&key, length.into()).await;
        if found.map_err(MetaError::Store)?.bytes != bytes {
            return Err(FormatError::malformed("document", "it reads back differently").into());
        }
        Ok(kept)
    }

    /// Deletes documents of this epoch and of earlier ones that the head does not name: what an upload left that failed,
    /// or a deletion that did. What is not deleted now is tried again after the next document, or by the next claim.
    async fn sweep(&mut self) {
        if !self.is_littered {
            return;
        }
        match sweep(&self.context, &self.head).await {
            Ok(()) => self.is_littered = false,
            Err(error) => {
                tracing::debug!(%error, "older descriptions of the fleet were not deleted")
            }
        }
    }
}

async fn sweep(context: &Context, head: &Head) -> Result<(), MetaError> {
    let (store, keys) = (&context.store, &context.keys);
    let listed = store.list(&keys.meta_prefix()).await;
    let listed = listed.map_err(MetaError::Store)?;
    let litter: Vec<_> = listed
        .iter()
        .filter_map(|listed| keys.parse_meta(&listed.key))
        .filter(|name| name.writer_epoch <= head.stamp.epoch && !head.names(name))
        .collect();
    if litter.is_empty() {
        return Ok(());
    }
    // Read after the list was: a later owner may name what we do not.
    let here = context.find().await?;
    if here.is_none_or(|(here, _)| here.stamp.nonce != head.stamp.nonce) {
        return Err(MetaError::WentBack);
    }
    for name in litter {
        store
            .delete(&keys.meta(&name))
            .await
            .map_err(MetaError::Store)?;
    }
    Ok(())
}

/// A head for a bucket that has none: of nothing, or of the documents that are there.
async fn again(context: &Context) -> Result<Head, MetaError> {
    let (store, keys) = (&context.store, &context.keys);
    let listed = store.list(&keys.meta_prefix()).await;
    let listed = listed.map_err(MetaError::Store)?;
    let mut found: Vec<_> = listed
        .iter()
        .filter_map(|listed| Some((keys.parse_meta(&listed.key)?, listed)))
        .collect();
    found.sort_unstable_by_key(|(name, _)| *name);
    let highest = found.iter().map(|(name, _)| name.writer_epoch).max();
    let sequence = found.iter().map(|(name, _)| name.sequence).max();
    let surplus = found.len().saturating_sub(MAX_DOCUMENTS);
    let mut documents: Vec<Kept> = Vec::new();
    for (name, listed) in found.drain(surplus..) {
        let object = match store.get(&listed.key, MAX_BYTES).await {
            Ok(object) => object,
            Err(error @ StoreError::TooLarge { .. }) => {
                tracing::warn!(key = %listed.key, %error, "this is no description of the fleet");
                continue;
            }
            Err(error) => return Err(MetaError::Store(error)),
        };
        let (Ok(document), Ok(length)) = (
            Document::decode(&object.bytes),
            u32::try_from(object.bytes.len()),
        ) else {
            tracing::warn!(key = %listed.key, "a description of the fleet that cannot be read");
            continue;
        };
        let is_it = (&document.fleet_id, &document.region) == (&context.fleet_id, &context.region)
            && (document.writer_epoch, document.sequence) == (name.writer_epoch, name.sequence);
        let follows = documents.last().is_none_or(|before| {
            (before.name.writer_epoch, before.name.sequence) < (name.writer_epoch, name.sequence)
        });
        if is_it && follows {
            documents.push(Kept {
                name,
                written_ms: document.written_ms,
                view_version: document.view_version,
                length,
                crc32c: crc32c::crc32c(&object.bytes),
            });
        }
    }
    Ok(Head {
        stamp: Stamp {
            incarnation: Uuid::nil(),
            epoch: highest.map_or(0, |epoch| epoch.saturating_add(ABOVE)),
            sequence: sequence.unwrap_or(0),
            nonce: Uuid::nil(),
        },
        fleet_id: context.fleet_id.clone(),
        region: context.region.clone(),
        written_ms: 0,
        documents,
    })
}

/// The stamp of the next write. Numbers that cannot rise were not written by any of us.
fn after(before: &Stamp, incarnation: Uuid, epochs: u64) -> Result<Stamp, MetaError> {
    let exhausted = || FormatError::malformed("head of documents", "its numbers cannot rise");
    Ok(Stamp {
        incarnation,
        epoch: before.epoch.checked_add(epochs).ok_or_else(exhausted)?,
        sequence: before.sequence.checked_add(1).ok_or_else(exhausted)?,
        nonce: random::uuid(),
    })
}

/// Sends one head until it is known what became of it. Waits while the store is away.
async fn write(
    context: &Context,
    head: &Head,
    before: Option<&(Stamp, Version)>,
) -> Result<Version, MetaError> {
    let (key, bytes) = (context.keys.meta_head(), Bytes::from(head.encode()));
    let op = context.ops.begin("swap head of meta", &key);
    let mut pause = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    loop {
        let answer = match before {
            Some((_, version)) => context.store.swap(&key, bytes.clone(), version).await,
            None => context.store.put_if_absent(&key, bytes.clone()).await,
        };
        if let Err(e) = &answer {
            op.failed(e);
        }
        // Whatever the answer was, what is there decides.
        let now = context.find().await;
        let reading = match &now {
            Ok(Some((here, _))) => Reading::Root(here.stamp),
            Ok(None) => Reading::Missing,
            Err(MetaError::Store(e)) => {
                op.failed(e);
                context.clock.sleep(pause.next()).await;
                continue;
            }
            Err(_) => Reading::Damaged,
        };
        let verdict = judge(&head.stamp, before.map(|(stamp, _)| stamp), reading);
        let meter = context.ops.meter();
        meter.count_one(names::META_VERDICTS, &[("verdict", verdict.name())]);
        match (verdict, now) {
            (Verdict::Done, Ok(Some((_, version)))) => return Ok(version),
            (Verdict::Done | Verdict::Again, _) => context.clock.sleep(pause.next()).await,
            // Only a claim can be overtaken by an older epoch; it is made again on top of that.
            (Verdict::Moved | Verdict::WentBack, _) => return Err(MetaError::WentBack),
            (Verdict::Fenced { epoch }, _) => return Err(MetaError::Fenced { epoch }),
            (Verdict::TwoOfOneIdentity, _) => return Err(MetaError::TwoOfOneIdentity),
        }
    }
}
