//! One session: the partitions asked for, in the order in which they are read, and what was told of each.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
};

use uuid::Uuid;
use whimbrel_wire::messages::fetch::{FetchPartition, FetchTopic, ForgottenTopic};

use super::{INITIAL_EPOCH, next_epoch};
use crate::waiters::{Parked, Waiter};

/// One partition of a fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Shared by all partitions of a topic; empty where topics go by id.
    pub topic: Arc<str>,
    pub topic_id: Uuid,
    pub partition: i32,
    pub current_leader_epoch: i32,
    pub last_fetched_epoch: i32,
    pub offset: i64,
    pub max_bytes: usize,
}

/// What an answer says of a partition, as far as the next one depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start: i64,
    pub has_records: bool,
    /// An error, a divergence or another replica to read from: always said.
    pub is_news: bool,
    pub is_error: bool,
}

/// Which of the partitions that were read belong into the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    All,
    /// One for each.
    Some(Vec<bool>),
}

impl Changes {
    pub fn has(&self, index: usize) -> bool {
        match self {
            Self::All => true,
            Self::Some(kept) => kept.get(index).copied().unwrap_or(true),
        }
    }
}

/// What a session takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    pub partitions: usize,
    pub bytes: usize,
}

/// By what a partition is known to a session.
type Key = (Arc<str>, Uuid, i32);

#[derive(Clone, Debug)]
struct Entry {
    wanted: Wanted,
    /// High watermark, last stable offset and log start of the last answer that had them.
    told: Option<(i64, i64, i64)>,
}

#[derive(Debug)]
pub struct Session {
    epoch: i32,
    by_id: bool,
    /// By turn: who was given records goes to the end, so that a full answer starves nobody.
    entries: BTreeMap<u64, Entry>,
    turns: HashMap<Key, u64>,
    next_turn: u64,
    bytes: usize,
    /// The request that waits for something new.
    waiting: Weak<Parked>,
}

/// A request's partitions, in its order; the last mention of one counts.
pub fn wanted(topics: Vec<FetchTopic>) -> Vec<Wanted> {
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut at: HashMap<Key, usize> = HashMap::new();
    for one in each(topics) {
        match at.get(&key(&one)) {
            Some(index) => wanted[*index] = one,
            None => {
                at.insert(key(&one), wanted.len());
                wanted.push(one);
            }
        }
    }
    wanted
}

fn each(topics: Vec<FetchTopic>) -> impl Iterator<Item = Wanted> {
    topics.into_iter().flat_map(|topic| {
        let (name, id): (Arc<str>, Uuid) = (topic.topic.into(), topic.topic_id);
        topic
            .partitions
            .into_iter()
            .map(move |partition| Wanted::new(Arc::clone(&name), id, &partition))
    })
}

fn key(wanted: &Wanted) -> Key {
    (Arc::clone(&wanted.topic), wanted.topic_id, wanted.partition)
}

/// What an entry takes, its place in both maps included.
fn weight(wanted: &Wanted) -> usize {
    2 * size_of::<Entry>() + size_of::<Key>() + wanted.topic.len()
}

impl Wanted {
    fn new(topic: Arc<str>, topic_id: Uuid, partition: &FetchPartition) -> Self {
        Self {
            topic,
            topic_id,
            partition: partition.partition,
            current_leader_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
            offset: partition.fetch_offset,
            max_bytes: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
        }
    }
}

impl Session {
    /// After a full answer that told `told` of `wanted`.
    pub fn new(by_id: bool, wanted: &[Wanted], told: &[Told]) -> Self {
        let mut session = Self {
            epoch: next_epoch(INITIAL_EPOCH),
            by_id,
            entries: BTreeMap::new(),
            turns: HashMap::new(),
            next_turn: 0,
            bytes: 0,
            waiting: Weak::new(),
        };
        for wanted in wanted {
            session.want(wanted.clone());
        }
        session.tell(wanted, told);
        session
    }

    /// What the next request must carry.
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    pub fn by_id(&self) -> bool {
        self.by_id
    }

    /// The next request is here: who still waits with an earlier one does so for nobody.
    pub fn advance(&mut self) {
        self.epoch = next_epoch(self.epoch);
        if let Some(waiting) = std::mem::take(&mut self.waiting).upgrade() {
            waiting.nudge();
        }
    }

    pub fn wait(&mut self, waiter: &Waiter) {
        self.waiting = Arc::downgrade(waiter);
    }

    pub fn size(&self) -> Size {
        Size {
            partitions: self.entries.len(),
            bytes: self.bytes,
        }
    }

    /// Everything that is asked for, in the order in which it is to be read.
    pub fn wanted(&self) -> Vec<Wanted> {
        self.entries.values().map(|e| e.wanted.clone()).collect()
    }

    /// Takes up what a request adds, changes and forgets.
    pub fn update(&mut self, topics: Vec<FetchTopic>, forgotten: &[ForgottenTopic]) {
        for wanted in each(topics) {
            self.want(wanted);
        }
        for topic in forgotten {
            let name: Arc<str> = topic.topic.as_str().into();
            for partition in &topic.partitions {
                self.forget(&(Arc::clone(&name), topic.topic_id, *partition));
            }
        }
    }

    /// Notes what is told, and says what of it has to be.
    pub fn tell(&mut self, wanted: &[Wanted], told: &[Told]) -> Changes {
        let mut kept = Vec::with_capacity(told.len());
        for (wanted, told) in wanted.iter().zip(told) {
            kept.push(self.tell_one(&key(wanted), told));
        }
        Changes::Some(kept)
    }

    fn tell_one(&mut self, key: &Key, told: &Told) -> bool {
        let Some(turn) = self.turns.get_mut(key) else {
            // Forgotten by a request that came in between.
            return true;
        };
        let Some(entry) = self.entries.get_mut(turn) else {
            return true;
        };
        let says = (told.high_watermark, told.last_stable_offset, told.log_start);
        let changed = entry.told != Some(says);
        // After an error the client hears of the partition again, whatever it is then.
        entry.told = (!told.is_error).then_some(says);
        if told.has_records
            && let Some(entry) = self.entries.remove(turn)
        {
            *turn = self.next_turn;
            self.entries.insert(self.next_turn, entry);
            self.next_turn += 1;
        }
        changed || told.has_records || told.is_news || told.is_error
    }

    fn want(&mut self, wanted: Wanted) {
        if let Some(turn) = self.turns.get(&key(&wanted))
            && let Some(entry) = self.entries.get_mut(turn)
        {
            // The name that is held already is kept: one for all partitions of the topic.
            let topic = Arc::clone(&entry.wanted.topic);
            entry.wanted = Wanted { topic, ..wanted };
            return;
        }
        self.bytes += weight(&wanted);
        self.turns.insert(key(&wanted), self.next_turn);
        let entry = Entry { wanted, told: None };
        self.entries.insert(self.next_turn, entry);
        self.next_turn += 1;
    }

    fn forget(&mut self, key: &Key) {
        if let Some(turn) = self.turns.remove(key)
            && let Some(entry) = self.entries.remove(&turn)
        {
            self.bytes = self.bytes.saturating_sub(weight(&entry.wanted));
        }
    }
}
