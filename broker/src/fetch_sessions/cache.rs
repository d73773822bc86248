//! Which sessions there are: bounded in number and in bytes.
//!
//! A new session pushes out one that was not used for long, or, among those that have lived for a while,
//! a smaller one (Kafka's rules): what saves more is worth more.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use parking_lot::Mutex;

use super::{
    NO_SESSION,
    session::{Session, Size},
};

/// Kafka's `min.incremental.fetch.session.eviction.ms`: a session is safe from larger ones for so long after
/// its beginning, and from all after its last use.
const SAFE_MS: u64 = 120_000;
/// One session may take this part of all bytes.
const SHARE: usize = 8;
/// Draws before giving up on an id that nobody has.
const DRAWS: usize = 16;

/// How much all sessions may be together.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub slots: usize,
    pub bytes: usize,
}

#[derive(Debug)]
pub struct Cache {
    bounds: Bounds,
    bytes: usize,
    slots: HashMap<i32, Slot>,
    /// All, by last use.
    by_use: BTreeSet<(u64, i32)>,
    /// Those that larger ones may push out, by size.
    by_size: BTreeSet<(usize, i32)>,
}

#[derive(Debug)]
struct Slot {
    session: Arc<Mutex<Session>>,
    created_ms: u64,
    used_ms: u64,
    size: Size,
}

impl Cache {
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            bytes: 0,
            slots: HashMap::new(),
            by_use: BTreeSet::new(),
            by_size: BTreeSet::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn get(&self, id: i32) -> Option<Arc<Mutex<Session>>> {
        self.slots.get(&id).map(|slot| Arc::clone(&slot.session))
    }

    /// The new session's id; `None` where there is no room for it.
    pub fn insert(
        &mut self,
        session: Session,
        now_ms: u64,
        mut draw: impl FnMut() -> i32,
    ) -> Option<i32> {
        let size = session.size();
        if size.bytes > self.bounds.bytes / SHARE || !self.make_room(size, now_ms) {
            return None;
        }
        let id = (0..DRAWS)
            .map(|_| draw())
            .find(|id| *id != NO_SESSION && !self.slots.contains_key(id))?;
        let slot = Slot {
            session: Arc::new(Mutex::new(session)),
            created_ms: now_ms,
            used_ms: now_ms,
            size,
        };
        self.slots.insert(id, slot);
        self.by_use.insert((now_ms, id));
        self.bytes += size.bytes;
        Some(id)
    }

    /// A session was used and is of this size now. False when there is no such session any more.
    pub fn touch(&mut self, id: i32, size: Size, now_ms: u64) -> bool {
        let Some(slot) = self.slots.get_mut(&id) else {
            return false;
        };
        self.by_use.remove(&(slot.used_ms, id));
        self.by_size.remove(&(slot.size.partitions, id));
        self.bytes = self.bytes.saturating_sub(slot.size.bytes) + size.bytes;
        (slot.used_ms, slot.size) = (now_ms, size);
        let lived = now_ms.saturating_sub(slot.created_ms) > SAFE_MS;
        self.by_use.insert((now_ms, id));
        if lived {
            self.by_size.insert((size.partitions, id));
        }
        if self.bytes > self.bounds.bytes || size.bytes > self.bounds.bytes / SHARE {
            self.remove(id);
            return false;
        }
        true
    }

    pub fn remove(&mut self, id: i32) {
        if let Some(slot) = self.slots.remove(&id) {
            self.by_use.remove(&(slot.used_ms, id));
            self.by_size.remove(&(slot.size.partitions, id));
            self.bytes = self.bytes.saturating_sub(slot.size.bytes);
        }
    }

    /// Pushes out what may be pushed out for a session of that size. Nothing goes when it would not do.
    fn make_room(&mut self, size: Size, now_ms: u64) -> bool {
        let fits = |slots: usize, bytes: usize| {
            slots < self.bounds.slots && bytes.saturating_add(size.bytes) <= self.bounds.bytes
        };
        let stale = self
            .by_use
            .iter()
            .take_while(|(used_ms, _)| now_ms.saturating_sub(*used_ms) > SAFE_MS)
            .map(|(_, id)| *id);
        let smaller = self
            .by_size
            .iter()
            .take_while(|(partitions, _)| *partitions < size.partitions)
            .map(|(_, id)| *id);
        let (mut slots, mut bytes) = (self.slots.len(), self.bytes);
        let mut gone = BTreeSet::new();
        for id in stale.chain(smaller) {
            if fits(slots, bytes) {
                break;
            }
            if gone.insert(id) {
                slots -= 1;
                bytes -= self.slots.get(&id).map_or(0, |slot| slot.size.bytes);
            }
        }
        if !fits(slots, bytes) {
            return false;
        }
        for id in gone {
            self.remove(id);
        }
        true
    }
}

#[cfg(test)]
impl Cache {
    /// What must hold after every step.
    pub fn check(&self) {
        assert!(self.slots.len() <= self.bounds.slots && self.bytes <= self.bounds.bytes);
        let bytes: usize = self.slots.values().map(|slot| slot.size.bytes).sum();
        assert_eq!(bytes, self.bytes);
        assert_eq!(self.by_use.len(), self.slots.len());
        for (used_ms, id) in &self.by_use {
            assert_eq!(self.slots[id].used_ms, *used_ms);
        }
        for (partitions, id) in &self.by_size {
            assert_eq!(self.slots[id].size.partitions, *partitions);
        }
    }
}
