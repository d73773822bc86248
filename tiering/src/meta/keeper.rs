//! Writes documents and the head, as the one that has claimed them.
//!
//! A claim replaces the head with a higher epoch before anything else is written; a document goes up and is read back
//! before a head names it; what a head no longer names is deleted, and nothing else, by whoever reads its own head
//! first. A head that is gone is made again from the documents, each of which says what it is. A document that cannot be
//! read, is of a later format or of somebody else is told and stays: a deletion needs to know what it deletes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use uuid::Uuid;
use whimbrel_runtime::{Backoff, Clock, random};

use super::{
    Document, Fleet, Head, Kept, MAX_BYTES, MAX_DOCUMENTS, Whose, read_document, read_head,
};
use crate::{
    format::{FormatError, Key, Keys, MetaName},
    metrics as names,
    ops::{Cause, Ops},
    root::{Reading, Stamp, Verdict, judge},
    store::{Store, StoreError, Version},
};

/// A head that was made again lies so far above all documents that were found: whoever wrote them may have gone on.
const ABOVE: u64 = 1_000;
/// Answers that are no document before it is left out of a head that is made again: some may have been bent on their way.
const BENT: u32 = 3;

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
    #[error(
        "{documents} documents are as many as a head names, and while the clock is in doubt none of them goes"
    )]
    Doubted { documents: usize },
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
    /// What no head names any more stays for so long, on our clock that does not jump: whoever read an older head may
    /// be at it.
    pub grace: Duration,
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
    litter: BTreeMap<MetaName, Litter>,
    /// Not ours to delete, or not known to be.
    strange: BTreeSet<MetaName>,
}

/// A document that the head does not name.
#[derive(Clone, Copy, Debug)]
struct Litter {
    since_boot_ms: u64,
    /// A head of ours named it.
    is_ours: bool,
}

impl Keeper {
    /// Fences whoever wrote before. An error changes nothing that a later claim could not.
    pub async fn claim(context: Context) -> Result<Self, MetaError> {
        let found = context.find().await?;
        let (mut next, before, strange) = match found {
            Some((head, version)) => {
                let before = Some((head.stamp, version));
                if went_back(&context, &head).await? {
                    let (made, left_out) = again(&context).await?;
                    (made, before, left_out)
                } else {
                    (head, before, BTreeSet::new())
                }
            }
            None => {
                let (head, left_out) = again(&context).await?;
                (head, None, left_out)
            }
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
            litter: BTreeMap::new(),
            strange,
        };
        keeper.tidy().await;
        Ok(keeper)
    }

    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Brings `fleet` into the bucket, unless the newest document says the same. True when it was written. Older
    /// documents grow sparser by `believed_ms`, the wall clock where it can be believed; without it all of them stay.
    pub async fn keep(
        &mut self,
        fleet: &Fleet,
        view_version: u64,
        believed_ms: Option<i64>,
    ) -> Result<bool, MetaError> {
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
        let documents = self.head.documents.len();
        if believed_ms.is_none() && documents >= MAX_DOCUMENTS {
            return Err(MetaError::Doubted { documents });
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
        next.thin(believed_ms, window_ms);
        let before = (self.head.stamp, self.version.clone());
        self.version = write(&self.context, &next, Some(&before)).await?;
        self.is_littered = was_littered;
        let before = std::mem::replace(&mut self.head, next).documents;
        self.newest = encoded;
        let since_boot_ms = self.context.clock.boot_ms();
        for dropped in before.iter().filter(|kept| !self.head.names(&kept.name)) {
            let dropped_now = Litter {
                since_boot_ms,
                is_ours: true,
            };
            self.litter.insert(dropped.name, dropped_now);
            self.is_littered = true;
        }
        self.tidy().await;
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

    /// Deletes documents of this epoch and of earlier ones that the head has not named for the grace: what it dropped,
    /// and what an upload left that failed. What is not deleted now is tried again with the next call.
    pub async fn tidy(&mut self) {
        if !self.is_littered {
            return;
        }
        match self.sweep().await {
            Ok(waits) => self.is_littered = waits,
            Err(error) => {
                tracing::debug!(%error, "older descriptions of the fleet were not deleted")
            }
        }
    }

    /// True where something waits for the end of its grace.
    async fn sweep(&mut self) -> Result<bool, MetaError> {
        let (store, keys) = (Arc::clone(&self.context.store), self.context.keys.clone());
        let listed = store.list(&keys.meta_prefix()).await;
        let listed = listed.map_err(MetaError::Store)?;
        let epoch = self.head.stamp.epoch;
        let unnamed: BTreeSet<_> = listed
            .iter()
            .filter_map(|listed| keys.parse_meta(&listed.key))
            .filter(|name| name.writer_epoch <= epoch && !self.head.names(name))
            .filter(|name| !self.strange.contains(name))
            .collect();
        let since_boot_ms = self.context.clock.boot_ms();
        self.litter.retain(|name, _| unnamed.contains(name));
        for name in &unnamed {
            let found = Litter {
                since_boot_ms,
                is_ours: false,
            };
            self.litter.entry(*name).or_insert(found);
        }
        let grace_ms = self.context.grace.as_millis();
        let is_due = |litter: &Litter| {
            u128::from(since_boot_ms.saturating_sub(litter.since_boot_ms)) >= grace_ms
        };
        let litter = self.litter.iter().filter(|(_, litter)| is_due(litter));
        let due: Vec<_> = litter
            .map(|(name, litter)| (*name, litter.is_ours))
            .collect();
        if due.is_empty() {
            return Ok(!self.litter.is_empty());
        }
        // Read after the list was: a later owner may name what we do not.
        let here = self.context.find().await?;
        if here.is_none_or(|(here, _)| here.stamp.nonce != self.head.stamp.nonce) {
            return Err(MetaError::WentBack);
        }
        for (name, is_ours) in due {
            let key = keys.meta(&name);
            if is_ours || read_ours(&self.context, &name, &key).await?.is_some() {
                store.delete(&key).await.map_err(MetaError::Store)?;
            } else {
                self.strange.insert(name);
            }
            self.litter.remove(&name);
        }
        Ok(!self.litter.is_empty())
    }
}

/// The document of that name, described as a head does, if it can be read and is one of this fleet and region; else it
/// is told why not.
async fn read_ours(
    context: &Context,
    name: &MetaName,
    key: &Key,
) -> Result<Option<Kept>, MetaError> {
    let tell = |why: &dyn std::fmt::Display| {
        tracing::warn!(code = "WB-322", %key, reason = %why, "it stays, and no head names it");
    };
    let mut bent = 0;
    loop {
        let object = match context.store.get(key, MAX_BYTES).await {
            Ok(object) => object,
            Err(error @ StoreError::TooLarge { .. }) => {
                tell(&error);
                return Ok(None);
            }
            Err(error) => return Err(MetaError::Store(error)),
        };
        bent += 1;
        let document = match Document::decode(&object.bytes) {
            Ok(document) => document,
            Err(error) if bent == BENT => {
                tell(&error);
                return Ok(None);
            }
            Err(_) => continue,
        };
        let found = (&document.fleet_id, &document.region);
        if found != (&context.fleet_id, &context.region) {
            tell(&format_args!("it is of {} in {}", found.0, found.1));
            return Ok(None);
        }
        if (document.writer_epoch, document.sequence) != (name.writer_epoch, name.sequence) {
            tell(&"it is not the document that its name says");
            return Ok(None);
        }
        return Ok(Some(Kept {
            name: *name,
            written_ms: document.written_ms,
            view_version: document.view_version,
            // At most MAX_BYTES were read.
            length: u32::try_from(object.bytes.len()).unwrap_or(u32::MAX),
            crc32c: crc32c::crc32c(&object.bytes),
        }));
    }
}

/// Whether documents are there that were written after a later head than this one: somebody has put an older one in its
/// place, and what it does not name is no garbage. The next one's document, which comes before its head, says nothing.
async fn went_back(context: &Context, head: &Head) -> Result<bool, MetaError> {
    let (store, keys) = (&context.store, &context.keys);
    let listed = store.list(&keys.meta_prefix()).await;
    let next = (head.stamp.epoch, head.stamp.sequence.saturating_add(1));
    for listed in listed.map_err(MetaError::Store)? {
        let name = keys.parse_meta(&listed.key);
        let later = name.filter(|name| (name.writer_epoch, name.sequence) > next);
        if let Some(name) = later
            && read_ours(context, &name, &listed.key).await?.is_some()
        {
            tracing::error!(code = "WB-322", key = %listed.key, "the head is older than this document; it is made again from all of them");
            return Ok(true);
        }
    }
    Ok(false)
}

/// A head for a bucket that has none: of nothing, or of the documents that are there; and those that it leaves out.
async fn again(context: &Context) -> Result<(Head, BTreeSet<MetaName>), MetaError> {
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
    let mut left_out: BTreeSet<_> = found.iter().map(|(name, _)| *name).collect();
    let surplus = found.len().saturating_sub(MAX_DOCUMENTS);
    let mut documents: Vec<Kept> = Vec::new();
    for (name, listed) in found.drain(surplus..) {
        let follows = documents.last().is_none_or(|before| {
            (before.name.writer_epoch, before.name.sequence) < (name.writer_epoch, name.sequence)
        });
        if follows && let Some(kept) = read_ours(context, &name, &listed.key).await? {
            left_out.remove(&name);
            documents.push(kept);
        }
    }
    let head = Head {
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
    };
    Ok((head, left_out))
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
