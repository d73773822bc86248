//! Blocks of objects on the local disk, at most so many bytes of them.
//!
//! ```text
//! CACHE_DIR/<object's name>.<block number>     8 MiB of an object's body, or what is left of it
//! CACHE_DIR/<object's name>.tail               the object from the last CRC block of its data on
//! CACHE_DIR/.tmp-<uuid>                        being written; removed at start
//! ```
//! A file is complete when it has its name, and is never written again; it can only go. Files live over
//! restarts, and are compared with the object's block table when they are first used after one; a tail, which
//! holds that table, is compared with the root's entry and its own checksums whenever it is read. The limit
//! holds at every instant: room is made before a block is written. Readers have a file as soon as it has its
//! name. One is pushed to the disk before the next one is written, so that a broker's sync never finds much; only
//! a block that a reader waits for is written without waiting for its turn.

mod shelf;

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use rustix::fs::{Advice, fadvise};
use whimbrel_runtime::random;

pub use shelf::Shelf;

const TAIL: &str = "tail";

/// A part of an object that is cached as one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Piece {
    Block(u32),
    Tail,
}

/// One piece of one object, which is named by the last part of its key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BlockId {
    pub object: Arc<str>,
    pub piece: Piece,
}

impl BlockId {
    fn file_name(&self) -> String {
        match self.piece {
            Piece::Block(number) => format!("{}.{number}", self.object),
            Piece::Tail => format!("{}.{TAIL}", self.object),
        }
    }

    fn parse(name: &str) -> Option<Self> {
        let (object, piece) = name.rsplit_once('.')?;
        let legal = !object.is_empty()
            && object
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-');
        legal.then_some(Self {
            object: object.into(),
            piece: if piece == TAIL {
                Piece::Tail
            } else {
                Piece::Block(piece.parse().ok()?)
            },
        })
    }
}

/// A block that is on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached {
    pub path: PathBuf,
    pub bytes: u64,
    /// It was written or checked by this process.
    pub trusted: bool,
}

#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
    limit: u64,
    state: Mutex<State>,
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    blocks: HashMap<BlockId, Block>,
    /// Oldest use first.
    by_use: BTreeMap<u64, BlockId>,
    uses: u64,
    /// Of all files, those being written included.
    bytes: u64,
}

#[derive(Debug)]
struct Block {
    bytes: u64,
    used: u64,
    trusted: bool,
}

impl State {
    fn touch(&mut self, id: &BlockId) -> Option<(u64, bool)> {
        let now = self.uses;
        let block = self.blocks.get_mut(id)?;
        self.by_use.remove(&block.used);
        block.used = now;
        self.by_use.insert(now, id.clone());
        self.uses += 1;
        Some((block.bytes, block.trusted))
    }

    fn add(&mut self, id: BlockId, bytes: u64, trusted: bool) {
        let used = self.uses;
        self.uses += 1;
        self.by_use.insert(used, id.clone());
        self.blocks.insert(
            id,
            Block {
                bytes,
                used,
                trusted,
            },
        );
    }

    fn remove(&mut self, id: &BlockId) -> Option<u64> {
        let block = self.blocks.remove(id)?;
        self.by_use.remove(&block.used);
        Some(block.bytes)
    }
}

impl Cache {
    /// Takes over what an earlier run left, removes what it had not finished, and shrinks to the limit.
    pub fn open(dir: &Path, limit: u64) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        // Answers name its files to another process, which has a working directory of its own.
        let dir = &dir.canonicalize()?;
        let mut state = State::default();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.starts_with(".tmp-") {
                fs::remove_file(entry.path())?;
            } else if let Some(id) = BlockId::parse(name) {
                let bytes = entry.metadata()?.len();
                state.bytes += bytes;
                state.add(id, bytes, false);
            }
        }
        let cache = Self {
            dir: dir.to_owned(),
            limit,
            state: Mutex::new(state),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        };
        cache.make_room(0);
        Ok(cache)
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    pub fn bytes(&self) -> u64 {
        self.state.lock().bytes
    }

    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    pub fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    /// Counts what a reader found.
    pub fn count(&self, hit: bool) {
        let counter = if hit { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The block, which counts as used now.
    pub fn get(&self, id: &BlockId) -> Option<Cached> {
        let (bytes, trusted) = self.state.lock().touch(id)?;
        Some(Cached {
            path: self.path(id),
            bytes,
            trusted,
        })
    }

    /// Whether the block is here, without counting as a use.
    pub fn holds(&self, id: &BlockId) -> bool {
        self.state.lock().blocks.contains_key(id)
    }

    /// The block was compared with its object.
    pub fn trust(&self, id: &BlockId) {
        if let Some(block) = self.state.lock().blocks.get_mut(id) {
            block.trusted = true;
        }
    }

    /// Writes a block, which readers can have afterwards. Blocking. It is not pushed to the disk: that is done with
    /// the file, unless the block was there already and stays as it is.
    pub fn write(&self, id: &BlockId, bytes: &[u8]) -> io::Result<Option<File>> {
        let length = bytes.len() as u64;
        if self.state.lock().blocks.contains_key(id) {
            return Ok(None);
        }
        if !self.make_room(length) {
            return Err(io::Error::other(format!(
                "{length} bytes do not fit into a cache of {}",
                self.limit
            )));
        }
        let temporary = self.dir.join(format!(".tmp-{}", random::uuid()));
        let written = write_new(&temporary, bytes)
            .and_then(|file| fs::rename(&temporary, self.path(id)).map(|()| file));
        let file = match written {
            Ok(file) => file,
            Err(error) => {
                let _ = fs::remove_file(&temporary);
                self.state.lock().bytes -= length;
                return Err(error);
            }
        };
        let mut state = self.state.lock();
        if state.blocks.contains_key(id) {
            // Somebody else was faster; the file is one and the same.
            state.bytes -= length;
        } else {
            state.add(id.clone(), length, true);
        }
        Ok(Some(file))
    }

    /// Takes a block out of the kernel's page cache, where new pages for the next block cost more than the
    /// copy into them. Blocking. It fails where the block is not on the disk yet, and costs nothing then.
    pub fn let_go(&self, id: &BlockId) {
        if self.holds(id)
            && let Ok(file) = File::open(self.path(id))
        {
            let _ = fadvise(&file, 0, None, Advice::DontNeed);
        }
    }

    /// Removes a block. Blocking. Whoever has it open keeps it; whoever was only told where it is asks again.
    pub fn forget(&self, id: &BlockId) {
        let removed = self.state.lock().remove(id);
        if let Some(bytes) = removed {
            self.drop_file(id, bytes);
        }
    }

    /// Reserves `bytes`, after removing what was used longest ago; false when they can never fit.
    fn make_room(&self, bytes: u64) -> bool {
        loop {
            let victim = {
                let mut state = self.state.lock();
                if state.bytes.saturating_add(bytes) <= self.limit {
                    state.bytes += bytes;
                    return true;
                }
                let Some(id) = state.by_use.first_key_value().map(|(_, id)| id.clone()) else {
                    return false;
                };
                state.remove(&id).map(|bytes| (id, bytes))
            };
            if let Some((id, bytes)) = victim {
                self.drop_file(&id, bytes);
            }
        }
    }

    /// The bytes count until the file is gone; a reader that has it open keeps it alive.
    fn drop_file(&self, id: &BlockId, bytes: u64) {
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::error!(%error, block = id.file_name(), "a cached block cannot be removed; it keeps its place");
            }
            _ => self.state.lock().bytes -= bytes,
        }
    }

    fn path(&self, id: &BlockId) -> PathBuf {
        self.dir.join(id.file_name())
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes).map(|()| file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(object: &str, number: u32) -> BlockId {
        BlockId {
            object: object.into(),
            piece: Piece::Block(number),
        }
    }

    #[test]
    fn the_limit_holds_and_the_oldest_use_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path(), 250).unwrap();
        cache.write(&id("a", 0), &[1; 100]).unwrap();
        cache.write(&id("a", 1), &[2; 100]).unwrap();
        assert!(cache.get(&id("a", 0)).is_some());
        cache.write(&id("a", 2), &[3; 100]).unwrap();
        assert_eq!((cache.get(&id("a", 1)), cache.bytes()), (None, 200));
        assert!(cache.write(&id("b", 0), &[0; 300]).is_err());
        let on_disk: u64 = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().metadata().unwrap().len())
            .sum();
        assert!(on_disk == cache.bytes() && on_disk <= 250);
    }

    #[test]
    fn blocks_live_over_a_restart_but_are_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        Cache::open(dir.path(), 1_000)
            .unwrap()
            .write(&id("a", 7), b"x")
            .unwrap();
        fs::write(dir.path().join(".tmp-1"), b"half").unwrap();
        let cache = Cache::open(dir.path(), 1_000).unwrap();
        let found = cache.get(&id("a", 7)).unwrap();
        assert!(!found.trusted && cache.bytes() == 1 && !dir.path().join(".tmp-1").exists());
        cache.forget(&id("a", 7));
        assert!(!found.path.exists() && cache.get(&id("a", 7)).is_none());
        assert_eq!(Cache::open(dir.path(), 1).unwrap().bytes(), 0);
    }
}
