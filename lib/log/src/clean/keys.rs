//! The newest offset of each key in a dirty range, in bounded memory.
//!
//! Keys are held as 128 bits of a hash with random seeds of this process: two keys that share one cannot
//! be made up, and do not happen.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// Memory of an entry: hash, offset, and what the table adds at its usual fill.
const ENTRY_BYTES: u64 = 32;

#[derive(Debug)]
pub(crate) struct Keys {
    seeds: [RandomState; 2],
    newest: HashMap<(u64, u64), i64>,
    most: usize,
    /// Offset up to which, inclusive, all keys are in the map; -1 for none.
    pub(crate) latest: i64,
}

impl Keys {
    pub(crate) fn new(memory_bytes: u64) -> Self {
        Keys {
            seeds: [RandomState::new(), RandomState::new()],
            newest: HashMap::new(),
            most: usize::try_from(memory_bytes / ENTRY_BYTES)
                .unwrap_or(usize::MAX)
                .max(1),
            latest: -1,
        }
    }

    fn hash(&self, key: &[u8]) -> (u64, u64) {
        (self.seeds[0].hash_one(key), self.seeds[1].hash_one(key))
    }

    /// False if there is no room for another key.
    pub(crate) fn put(&mut self, key: &[u8], offset: i64) -> bool {
        let hash = self.hash(key);
        if self.newest.len() >= self.most && !self.newest.contains_key(&hash) {
            return false;
        }
        self.newest.insert(hash, offset);
        true
    }

    /// The newest offset of `key` at or below `latest`.
    pub(crate) fn newest(&self, key: &[u8]) -> Option<i64> {
        self.newest.get(&self.hash(key)).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.newest.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_offset_counts_and_a_full_map_says_so() {
        let mut keys = Keys::new(2 * ENTRY_BYTES);
        assert!(keys.put(b"a", 1) && keys.put(b"b", 2) && keys.put(b"a", 3));
        assert!(!keys.put(b"c", 4));
        assert!(keys.put(b"b", 5));
        assert_eq!(
            (keys.newest(b"a"), keys.newest(b"b"), keys.newest(b"c")),
            (Some(3), Some(5), None)
        );
        assert_eq!(keys.len(), 2);
    }
}
