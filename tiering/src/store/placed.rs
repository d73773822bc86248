//! One bucket that is in two places while it moves from one to the other.
//!
//! Keys are the same in both. Each [`Unit`] is in one of them: where its root, or the head of the fleet's documents,
//! stands; a tombstone there says that it is in the other one. Whoever reads a root here is sent on by the tombstone
//! that it meets, and remembers; nothing ever goes back. What nobody owns ([`Unit::Loose`]) is written to the new place
//! and read from both, once the move cannot be cancelled any more. Without a move this is the one store that it was made of.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Range,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};
use uuid::Uuid;

use super::{
    Capabilities, Found, Heard, IsDead, Listed, Meta, ProbeError, Source, Store, StoreError,
    Version, probe,
};
use crate::{
    format::{Key, Keys, Unit},
    root::Moved,
};

/// Opens the store that a URL names.
pub type Opener = Arc<dyn Fn(&str) -> Result<Arc<dyn Store>, StoreError> + Send + Sync>;

/// Clones share it.
#[derive(Clone)]
pub struct Placed(Arc<Inner>);

struct Inner {
    from: Arc<dyn Store>,
    keys: Keys,
    open: Opener,
    target: RwLock<Option<Arc<Target>>>,
    turns: Mutex<BTreeMap<Unit, Arc<Turn<()>>>>,
}

/// Where everything goes.
#[derive(Debug)]
pub struct Target {
    pub id: Uuid,
    pub url: String,
    pub store: Arc<dyn Store>,
    moved: RwLock<BTreeSet<Unit>>,
    is_done: AtomicBool,
    /// It cannot be cancelled any more.
    is_decided: AtomicBool,
    /// What it can do, once it was asked.
    capabilities: RwLock<Option<Capabilities>>,
}

impl Target {
    /// True when the tombstone of the unit was seen.
    pub fn has(&self, unit: Unit) -> bool {
        self.moved.read().contains(&unit)
    }

    /// True when it was seen that all of it is there.
    pub fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Relaxed)
    }

    pub(crate) fn finish(&self) {
        self.is_done.store(true, Ordering::Relaxed);
    }

    pub(crate) fn mark(&self, unit: Unit) {
        self.decide();
        self.moved.write().insert(unit);
    }

    /// True when it was seen that the move goes on whatever is asked for. Until then nothing is only there.
    pub(crate) fn is_decided(&self) -> bool {
        self.is_decided.load(Ordering::Relaxed)
    }

    pub(crate) fn decide(&self) {
        self.is_decided.store(true, Ordering::Relaxed);
    }

    /// What the store can do; it is asked once. `through` is the store behind deadlines.
    pub(crate) async fn probed(
        &self,
        through: &Arc<dyn Store>,
        keys: &Keys,
    ) -> Result<Capabilities, ProbeError> {
        if let Some(known) = *self.capabilities.read() {
            return Ok(known);
        }
        let found = probe(through, keys).await?;
        *self.capabilities.write() = Some(found);
        Ok(found)
    }

    /// True once it was asked and said so.
    pub(crate) fn tells_checksum(&self) -> bool {
        self.capabilities.read().is_some_and(|known| known.checksum)
    }
}

/// Which of the places a key is asked for in.
enum Side {
    From,
    To(Arc<Target>),
    Both(Arc<Target>),
}

impl fmt::Debug for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Placed")
            .field("from", &self.0.from)
            .field("target", &*self.0.target.read())
            .finish_non_exhaustive()
    }
}

impl Placed {
    pub fn new(from: Arc<dyn Store>, keys: Keys, open: Opener) -> Self {
        Self(Arc::new(Inner {
            from,
            keys,
            open,
            target: RwLock::new(None),
            turns: Mutex::default(),
        }))
    }

    /// The place that the configuration names.
    pub fn from(&self) -> &Arc<dyn Store> {
        &self.0.from
    }

    pub fn target(&self) -> Option<Arc<Target>> {
        self.0.target.read().clone()
    }

    /// Opens a store that nothing is read from yet.
    pub fn open(&self, url: &str) -> Result<Arc<dyn Store>, StoreError> {
        (self.0.open)(url)
    }

    /// Learns where everything goes; the first to say so is believed.
    pub fn aim(&self, id: Uuid, url: &str) -> Result<Arc<Target>, StoreError> {
        let known = |target: &Arc<Target>| {
            if target.id == id {
                return Ok(Arc::clone(target));
            }
            Err(StoreError::Failed {
                op: "follow",
                key: url.to_owned(),
                reason: format!("a move to {} is known already", target.url),
            })
        };
        if let Some(target) = self.0.target.read().as_ref() {
            return known(target);
        }
        let store = self.open(url)?;
        let mut target = self.0.target.write();
        if let Some(target) = target.as_ref() {
            return known(target);
        }
        Ok(Arc::clone(target.insert(Arc::new(Target {
            id,
            url: url.to_owned(),
            store,
            moved: RwLock::default(),
            is_done: AtomicBool::new(false),
            is_decided: AtomicBool::new(false),
            capabilities: RwLock::new(None),
        }))))
    }

    /// The move was cancelled: everything stays where it is.
    pub(crate) fn forget(&self, id: Uuid) {
        let mut target = self.0.target.write();
        if target
            .as_ref()
            .is_some_and(|target| target.id == id && !target.is_decided())
        {
            *target = None;
        }
    }

    /// Until it is dropped no root of the unit is written through this store.
    pub async fn hold(&self, unit: Unit) -> OwnedMutexGuard<()> {
        let turn = Arc::clone(self.0.turns.lock().entry(unit).or_default());
        turn.lock_owned().await
    }

    /// What [`hold`](Self::hold) keeps apart: `None` for what is no root.
    async fn turn(&self, key: &Key) -> Option<OwnedMutexGuard<()>> {
        let unit = self.0.keys.unit_of(key.as_str());
        let is_head = self.0.keys.head_of(unit).as_ref() == Some(key);
        match is_head {
            true => Some(self.hold(unit).await),
            false => None,
        }
    }

    fn side(&self, key: &str) -> Side {
        let Some(target) = self.target() else {
            return Side::From;
        };
        match self.0.keys.unit_of(key) {
            Unit::Place => Side::From,
            Unit::Loose if target.is_decided() => Side::Both(target),
            unit if target.has(unit) => Side::To(target),
            _ => Side::From,
        }
    }

    /// The store that is written to.
    fn writes(&self, key: &Key) -> Arc<dyn Store> {
        match self.side(key.as_str()) {
            Side::From => Arc::clone(&self.0.from),
            Side::To(target) | Side::Both(target) => Arc::clone(&target.store),
        }
    }

    /// Whether what was found says that it is in the other place.
    fn follow(&self, key: &Key, bytes: &[u8]) -> Result<bool, StoreError> {
        if !Moved::is_one(bytes) {
            return Ok(false);
        }
        let unit = self.0.keys.unit_of(key.as_str());
        // What is no tombstone of this unit is for whoever asked to judge.
        let Ok(moved) = Moved::decode(bytes) else {
            return Ok(false);
        };
        if moved.unit != unit || self.0.keys != Keys::new(&moved.region) {
            return Ok(false);
        }
        self.aim(moved.id, &moved.to)?.mark(unit);
        Ok(true)
    }
}

/// What the new place has, or else what is still in the old one.
fn or_else<T>(there: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match there {
        Ok(found) => Ok(Some(found)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e),
    }
}

#[async_trait]
impl Store for Placed {
    fn describe(&self) -> String {
        self.0.from.describe()
    }

    async fn get(&self, key: &Key, max_bytes: u64) -> Result<Found, StoreError> {
        match self.side(key.as_str()) {
            Side::From => {
                let found = self.0.from.get(key, max_bytes).await?;
                match self.follow(key, &found.bytes)? {
                    true => self.writes(key).get(key, max_bytes).await,
                    false => Ok(found),
                }
            }
            Side::To(target) => target.store.get(key, max_bytes).await,
            Side::Both(target) => match or_else(target.store.get(key, max_bytes).await)? {
                Some(found) => Ok(found),
                None => self.0.from.get(key, max_bytes).await,
            },
        }
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        match self.side(key.as_str()) {
            Side::From => self.0.from.get_range(key, range).await,
            Side::To(target) => target.store.get_range(key, range).await,
            Side::Both(target) => {
                match or_else(target.store.get_range(key, range.clone()).await)? {
                    Some(found) => Ok(found),
                    None => self.0.from.get_range(key, range).await,
                }
            }
        }
    }

    async fn head(&self, key: &Key) -> Result<Meta, StoreError> {
        let there = async |target: &Target| {
            let mut meta = target.store.head(key).await?;
            if !target.tells_checksum() {
                meta.crc64 = None;
            }
            Ok(meta)
        };
        match self.side(key.as_str()) {
            Side::From => self.0.from.head(key).await,
            Side::To(target) => there(&target).await,
            Side::Both(target) => match or_else(there(&target).await)? {
                Some(found) => Ok(found),
                None => self.0.from.head(key).await,
            },
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        self.list_heard(prefix, &|| ()).await
    }

    async fn list_heard(&self, prefix: &str, heard: &Heard<'_>) -> Result<Vec<Listed>, StoreError> {
        let Some(target) = self.target() else {
            return self.0.from.list_heard(prefix, heard).await;
        };
        // As things stand before anything is listed: what moves meanwhile was whole where it was.
        let (moved, decided) = (target.moved.read().clone(), target.is_decided());
        let here = self.0.from.list_heard(prefix, heard).await?;
        let there = target.store.list_heard(prefix, heard).await?;
        let mut all = BTreeMap::new();
        for (listed, is_there) in here
            .into_iter()
            .map(|listed| (listed, false))
            .chain(there.into_iter().map(|listed| (listed, true)))
        {
            let counts = match self.0.keys.unit_of(listed.key.as_str()) {
                Unit::Loose => !is_there || decided,
                Unit::Place => !is_there,
                unit => moved.contains(&unit) == is_there,
            };
            if counts {
                all.insert(listed.key.clone(), listed);
            }
        }
        Ok(all.into_values().collect())
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        match self.side(key.as_str()) {
            Side::From => self.0.from.delete(key).await,
            Side::To(target) => target.store.delete(key).await,
            Side::Both(target) => {
                target.store.delete(key).await?;
                self.0.from.delete(key).await
            }
        }
    }

    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<Version, StoreError> {
        let _turn = self.turn(key).await;
        self.writes(key).put_if_absent(key, bytes).await
    }

    async fn swap(
        &self,
        key: &Key,
        bytes: Bytes,
        expected: &Version,
    ) -> Result<Version, StoreError> {
        let _turn = self.turn(key).await;
        self.writes(key).swap(key, bytes, expected).await
    }

    async fn put_file(&self, key: &Key, source: &Source) -> Result<Option<u64>, StoreError> {
        self.writes(key).put_file(key, source).await
    }

    fn upload_requests(&self, length: u64) -> u64 {
        self.0.from.upload_requests(length)
    }

    async fn drop_unfinished(
        &self,
        prefix: &str,
        is_dead: &IsDead<'_>,
    ) -> Result<usize, StoreError> {
        let Some(target) = self.target() else {
            return self.0.from.drop_unfinished(prefix, is_dead).await;
        };
        // What is on its way to the new place for a unit that is not there yet is somebody's copy.
        let arrived = |key: &Key, at: Option<i64>| {
            target.has(self.0.keys.unit_of(key.as_str())) && is_dead(key, at)
        };
        let there = target.store.drop_unfinished(prefix, &arrived).await?;
        let here = self.0.from.drop_unfinished(prefix, is_dead).await?;
        Ok(there + here)
    }

    fn local(&self, key: &Key) -> Option<PathBuf> {
        match self.side(key.as_str()) {
            Side::From => self.0.from.local(key),
            Side::To(target) => target.store.local(key),
            // Which of them has it is not known without asking.
            Side::Both(_) => None,
        }
    }

    async fn check_options(&self) -> Result<(), StoreError> {
        self.0.from.check_options().await
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<(), StoreError> {
        self.writes(to).copy(from, to).await
    }
}
