//! What a request names again is told once: no answer is a multiple of what there is to tell. Kafka tells some of it as
//! often as it is named; clients look answers up by name.

use std::{collections::HashSet, hash::Hash};

/// Marks those whose key was not there before.
pub fn firsts<K: Hash + Eq>(keys: impl Iterator<Item = K>) -> Vec<bool> {
    let mut seen = HashSet::new();
    keys.map(|key| seen.insert(key)).collect()
}

/// Keeps those that are marked.
pub fn keep<T>(items: &mut Vec<T>, marked: &[bool]) {
    let mut marked = marked.iter();
    items.retain(|_| marked.next().copied().unwrap_or(true));
}

/// Keeps the first of each.
pub fn each<T: Hash + Eq>(items: &mut Vec<T>) {
    let marked = firsts(items.iter());
    keep(items, &marked);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_stays_in_its_place() {
        let mut names = vec!["b", "a", "b", "c", "a"];
        each(&mut names);
        assert_eq!(names, ["b", "a", "c"]);
        let mut pairs = vec![(1, "x"), (2, "x"), (3, "y")];
        let marked = firsts(pairs.iter().map(|pair| pair.1));
        keep(&mut pairs, &marked);
        assert_eq!(pairs, [(1, "x"), (3, "y")]);
    }
}
