//! What was read and may be wanted again: shared values, of which those used longest ago go when all together weigh too
//! much.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    sync::Arc,
};

#[derive(Debug)]
pub struct Kept<K, V> {
    limit: u64,
    weigh: fn(&V) -> u64,
    values: HashMap<K, (u64, Arc<V>)>,
    by_use: BTreeMap<u64, K>,
    uses: u64,
    weight: u64,
}

impl<K: Clone + Eq + Hash, V> Kept<K, V> {
    /// Keeps up to `limit`, in whatever `weigh` counts; what was added last is kept in any case.
    pub fn new(limit: u64, weigh: fn(&V) -> u64) -> Self {
        Self {
            limit,
            weigh,
            values: HashMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
            weight: 0,
        }
    }

    pub fn get(&mut self, key: &K) -> Option<Arc<V>> {
        let (used, value) = self.values.get_mut(key)?;
        self.by_use.remove(used);
        *used = self.uses;
        self.by_use.insert(self.uses, key.clone());
        self.uses += 1;
        Some(Arc::clone(value))
    }

    pub fn add(&mut self, key: &K, value: Arc<V>) {
        self.weight += (self.weigh)(&value);
        if let Some((used, before)) = self.values.insert(key.clone(), (self.uses, value)) {
            self.by_use.remove(&used);
            self.weight -= (self.weigh)(&before);
        }
        while self.weight > self.limit
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            let gone = self.values.remove(&oldest);
            self.weight -= gone.map_or(0, |(_, value)| (self.weigh)(&value));
        }
        self.by_use.insert(self.uses, key.clone());
        self.uses += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let mut kept = Kept::new(10, |value: &u64| *value);
        for key in ["a", "b", "c"] {
            kept.add(&key, Arc::new(3));
        }
        assert_eq!(kept.get(&"a").as_deref(), Some(&3));
        kept.add(&"d", Arc::new(4));
        let held = ["a", "b", "c", "d"].map(|key| kept.get(&key).is_some());
        assert_eq!(held, [true, false, true, true]);
        // In the place of what it was.
        kept.add(&"d", Arc::new(1));
        kept.add(&"e", Arc::new(3));
        let held = ["a", "c", "d", "e"].map(|key| kept.get(&key).is_some());
        assert_eq!(held, [true; 4]);
    }

    #[test]
    fn the_last_is_kept_however_heavy() {
        let mut kept = Kept::new(10, |value: &u64| *value);
        kept.add(&1, Arc::new(1));
        kept.add(&2, Arc::new(11));
        assert_eq!((kept.get(&1), kept.get(&2)), (None, Some(Arc::new(11))));
    }
}
