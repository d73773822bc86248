//! Partitions by topic id.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

/// A set of partitions. No topic stands in it with none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment(BTreeMap<Uuid, BTreeSet<i32>>);

impl Assignment {
    /// Puts a partition in.
    pub fn insert(&mut self, topic: Uuid, partition: i32) {
        self.0.entry(topic).or_default().insert(partition);
    }

    /// Whether the partition is in it.
    #[must_use]
    pub fn contains(&self, topic: Uuid, partition: i32) -> bool {
        self.0
            .get(&topic)
            .is_some_and(|partitions| partitions.contains(&partition))
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many partitions it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }

    /// The partitions, by topic.
    pub fn topics(&self) -> impl Iterator<Item = (Uuid, &BTreeSet<i32>)> {
        self.0
            .iter()
            .map(|(topic, partitions)| (*topic, partitions))
    }

    /// Each partition.
    pub fn iter(&self) -> impl Iterator<Item = (Uuid, i32)> + '_ {
        self.topics()
            .flat_map(|(topic, partitions)| partitions.iter().map(move |p| (topic, *p)))
    }
}

impl FromIterator<(Uuid, i32)> for Assignment {
    fn from_iter<I: IntoIterator<Item = (Uuid, i32)>>(places: I) -> Self {
        let mut assignment = Self::default();
        for (topic, partition) in places {
            assignment.insert(topic, partition);
        }
        assignment
    }
}
