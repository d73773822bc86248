//! What the fleet was, by the documents that a restore goes by.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;
use whimbrel_fleet::{GroupName, TopicPartition};

use crate::meta::{Document, Topic};

/// The document of the time that was asked for, and later ones: a cut may have been taken after a topic was made and
/// before that was written down, and epochs went on rising.
#[derive(Clone, Debug)]
pub struct Described {
    base: Document,
    /// In the order in which they came: the newest first, then what was needed besides.
    later: Vec<Document>,
    topics: HashMap<Uuid, Known>,
    deleted: HashSet<Uuid>,
}

/// What all documents together say of a topic.
#[derive(Clone, Debug)]
struct Known {
    /// As the oldest of them has it: its document, 0 for the base, and its place there.
    document: usize,
    place: usize,
    /// The highest of each partition.
    leader_epochs: Vec<i32>,
}

impl Described {
    pub fn new(base: Document) -> Self {
        let mut described = Self {
            base,
            later: Vec::new(),
            topics: HashMap::new(),
            deleted: HashSet::new(),
        };
        described.index(0);
        described
    }

    /// One that was written later.
    pub fn add(&mut self, later: Document) {
        self.later.push(later);
        self.index(self.later.len());
    }

    pub fn base(&self) -> &Document {
        &self.base
    }

    fn all(&self) -> impl Iterator<Item = &Document> {
        std::iter::once(&self.base).chain(&self.later)
    }

    fn document(&self, n: usize) -> Option<&Document> {
        n.checked_sub(1)
            .map_or(Some(&self.base), |n| self.later.get(n))
    }

    fn index(&mut self, n: usize) {
        let document = n
            .checked_sub(1)
            .map_or(Some(&self.base), |n| self.later.get(n));
        let Some(document) = document else { return };
        for (place, topic) in document.fleet.topics.iter().enumerate() {
            let known = self.topics.entry(topic.id).or_insert_with(|| Known {
                document: n,
                place,
                leader_epochs: Vec::new(),
            });
            let more = topic.leader_epochs.len().max(known.leader_epochs.len());
            known.leader_epochs.resize(more, -1);
            for (highest, epoch) in known.leader_epochs.iter_mut().zip(&topic.leader_epochs) {
                *highest = (*highest).max(*epoch);
            }
        }
        self.deleted.extend(&document.fleet.deleted);
    }

    pub fn topic(&self, id: Uuid) -> Option<&Topic> {
        let known = self.topics.get(&id)?;
        let document = self.document(known.document)?;
        document.fleet.topics.get(known.place)
    }

    /// The base's, or that of a later document.
    pub fn topic_named(&self, name: &str) -> Option<&Topic> {
        self.all().find_map(|document| {
            let topics = &document.fleet.topics;
            let place = topics.binary_search_by(|topic| topic.name.as_str().cmp(name));
            topics.get(place.ok()?)
        })
    }

    pub fn is_in_base(&self, id: Uuid) -> bool {
        self.topics
            .get(&id)
            .is_some_and(|known| known.document == 0)
    }

    /// True for a topic that was there at `view_version` and that a later view did not have.
    pub fn is_deleted(&self, id: Uuid, view_version: u64) -> bool {
        if self.deleted.contains(&id) {
            return true;
        }
        let lacks = |document: &Document| {
            let name = self.topic(id).map(|topic| topic.name.as_str());
            let topics = &document.fleet.topics;
            let place = name.and_then(|n| topics.binary_search_by(|t| t.name.as_str().cmp(n)).ok());
            place.and_then(|place| topics.get(place)).map(|t| t.id) != Some(id)
        };
        self.all()
            .any(|document| document.view_version >= view_version && lacks(document))
    }

    /// How many partitions a topic was ever said to have.
    pub fn partitions(&self, id: Uuid) -> usize {
        self.topics
            .get(&id)
            .map_or(0, |known| known.leader_epochs.len())
    }

    /// The highest leader epoch that was given.
    pub fn leader_epoch(&self, at: TopicPartition) -> i32 {
        let partition = usize::try_from(at.partition).unwrap_or(usize::MAX);
        let known = self.topics.get(&at.topic_id);
        let epoch = known.and_then(|known| known.leader_epochs.get(partition));
        epoch.copied().unwrap_or(-1)
    }

    /// The highest region epoch that was given to a group.
    pub fn region_epoch(&self, group: &GroupName) -> u32 {
        let all = self.all().flat_map(|d| &d.fleet.groups);
        let of_group = all.filter(|g| g.name == *group);
        of_group.map(|g| g.epoch.0).max().unwrap_or(0)
    }

    /// All producer ids that were given lie below; zero where nobody said.
    pub fn producer_ids(&self) -> i64 {
        let all = self.all().map(|d| d.fleet.producer_ids);
        all.max().unwrap_or(0)
    }
}
