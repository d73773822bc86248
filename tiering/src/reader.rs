//! Cold reads: from an offset to ranges of whole batches in cache files.
//!
//! One fetch uses one view of the root. What it answers lies below the entry's visible end and below the
//! point where the reader's lineage and the bucket's part. Every byte that is answered was compared with
//! the object's block table, once, when it came from the store or when a file of an earlier run was first
//! used; the CRC of an answered range is combined from that table.

mod blocks;
mod flights;
mod objects;
mod scan;
mod timestamp;

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use whimbrel_fleet::{EpochStart, TopicPartition};

pub use blocks::{BLOCK, Blocks};
pub use flights::Flights;
pub use objects::Objects;
pub use timestamp::Stamped;

use crate::{
    committer::Committer,
    format::{FormatError, Key, Keys},
    root::{Entry, Partition},
    store::StoreError,
};

/// A range that would be shorter than this takes the next block along.
const SHORT: u64 = 512 << 10;
/// Blocks fetched ahead of a consumer that reads on where it stopped.
const AHEAD: u32 = 4;
/// Readers whose position is remembered.
const REMEMBERED: usize = 4_096;

/// Where bytes of an answer are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    pub path: std::path::PathBuf,
    pub position: u64,
    pub length: u64,
    pub crc32c: u32,
}

/// What a read came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Together whole batches, in order; the first one holds the offset.
    Ranges {
        ranges: Vec<Range>,
        next_offset: i64,
    },
    NotTiered(String),
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    #[error("{0}")]
    Store(Arc<StoreError>),
    /// The root names it and it is not there, or not what was written.
    #[error("{key}: {reason}")]
    Damaged { key: Key, reason: String },
    #[error("cache: {0}")]
    Cache(String),
}

impl ReadError {
    fn damaged(key: &Key, reason: impl ToString) -> Self {
        Self::Damaged {
            key: key.clone(),
            reason: reason.to_string(),
        }
    }

    fn format(key: &Key, error: &FormatError) -> Self {
        Self::damaged(key, error)
    }
}

/// Objects found missing or damaged, by key, with the reason; shown until the daemon ends.
pub type Damage = Arc<Mutex<BTreeMap<Key, String>>>;

#[derive(Clone, Debug)]
pub struct Reader {
    pub committer: Committer,
    pub keys: Keys,
    pub blocks: Blocks,
    pub objects: Objects,
    pub damage: Damage,
    positions: Arc<Mutex<BTreeMap<TopicPartition, i64>>>,
}

/// A read's place: one object, and where the answer begins in it.
struct Place {
    shard: u16,
    at: TopicPartition,
    entry: Entry,
    /// Exclusive end of what this reader may see of the object.
    visible_end: i64,
    /// The object after this one, for reading ahead.
    next: Option<Entry>,
}

impl Reader {
    pub fn new(
        committer: Committer,
        keys: Keys,
        blocks: Blocks,
        objects: Objects,
        damage: Damage,
    ) -> Self {
        Self {
            committer,
            keys,
            blocks,
            objects,
            damage,
            positions: Arc::default(),
        }
    }

    /// Whole batches from `offset` on, about `max_bytes` of them, at least one.
    pub async fn read(
        &self,
        at: TopicPartition,
        offset: i64,
        max_bytes: u64,
        lineage: &[EpochStart],
    ) -> Result<Answer, ReadError> {
        let place = match self.place(at, offset, lineage) {
            Ok(place) => place,
            Err(why) => return Ok(Answer::NotTiered(why)),
        };
        let read = self.read_object(&place, offset, max_bytes).await;
        match read {
            Err(ReadError::Damaged { key, reason }) => {
                if self.still_named(&place, &key) {
                    self.note_damage(&key, &reason);
                    return Err(ReadError::Damaged { key, reason });
                }
                Ok(Answer::NotTiered("it was deleted meanwhile".to_owned()))
            }
            other => other,
        }
    }

    fn place(
        &self,
        at: TopicPartition,
        offset: i64,
        lineage: &[EpochStart],
    ) -> Result<Place, String> {
        let root = self.committer.root_of(at).ok_or("no shard")?;
        let partition = root
            .partitions
            .get(&at)
            .ok_or("the bucket has nothing of this partition")?;
        if offset < partition.start() || offset >= partition.end {
            return Err(format!(
                "the bucket holds {}..{}",
                partition.start(),
                partition.end
            ));
        }
        let agreed = partition.agreed_end(lineage);
        if offset >= agreed {
            return Err(format!(
                "the bucket's lineage is another one from offset {agreed} on"
            ));
        }
        let entry = *partition.find(offset).ok_or("no object holds it")?;
        let visible_end = entry.end.min(agreed);
        let next = partition
            .find(entry.end)
            .copied()
            .filter(|_| agreed > entry.end);
        Ok(Place {
            shard: root.shard,
            at,
            entry,
            visible_end,
            next,
        })
    }

    /// A read that met a 404 is damage only if the newest root still names the object.
    fn still_named(&self, place: &Place, key: &Key) -> bool {
        self.committer
            .root(place.shard)
            .is_some_and(|root| root.holds(&self.keys, key))
    }

    pub fn note_damage(&self, key: &Key, reason: &str) {
        metrics::counter!(crate::metrics::DAMAGE).increment(1);
        tracing::error!(code = "WB-316", %key, reason, "an object is missing or damaged");
        self.damage.lock().insert(key.clone(), reason.to_owned());
    }

    fn key(&self, place: &Place, entry: &Entry) -> Key {
        self.keys.data(&entry.name(place.shard, place.at))
    }

    async fn read_object(
        &self,
        place: &Place,
        offset: i64,
        max_bytes: u64,
    ) -> Result<Answer, ReadError> {
        let key = self.key(place, &place.entry);
        let object = self.objects.open(&key, &place.entry).await?;
        let scan = scan::Scan {
            blocks: &self.blocks,
            key: &key,
            object: &object,
            entry: &place.entry,
        };
        self.read_ahead(place, &key, scan.near(offset), offset);
        let span = scan
            .span(offset, max_bytes.max(1), place.visible_end)
            .await?;
        let Some(span) = span else {
            return Ok(Answer::NotTiered(format!("no batch holds {offset}")));
        };
        let ranges = self
            .blocks
            .ranges(&key, &object, span.from, span.to)
            .await?;
        self.remember(place.at, span.next_offset);
        Ok(Answer::Ranges {
            ranges,
            next_offset: span.next_offset,
        })
    }

    /// Starts fetching what a sequential consumer will ask for next.
    fn read_ahead(&self, place: &Place, key: &Key, position: u64, offset: i64) {
        let first = u32::try_from(position / BLOCK).unwrap_or(u32::MAX);
        let sequential =
            offset == place.entry.base || self.positions.lock().get(&place.at) == Some(&offset);
        let ahead = if sequential { AHEAD } else { 0 };
        let blocks = u32::try_from(place.entry.data_bytes.div_ceil(BLOCK)).unwrap_or(u32::MAX);
        for number in first..blocks.min(first.saturating_add(ahead + 1)) {
            self.blocks
                .start_fetch(key, &self.objects, &place.entry, number);
        }
        let beyond = first.saturating_add(ahead + 1).saturating_sub(blocks);
        if let Some(next) = place.next.filter(|_| beyond > 0 && ahead > 0) {
            let key = self.key(place, &next);
            for number in 0..beyond
                .min(AHEAD)
                .min(u32::try_from(next.data_bytes.div_ceil(BLOCK)).unwrap_or(u32::MAX))
            {
                self.blocks.start_fetch(&key, &self.objects, &next, number);
            }
        }
    }

    fn remember(&self, at: TopicPartition, next_offset: i64) {
        let mut positions = self.positions.lock();
        if positions.len() >= REMEMBERED && !positions.contains_key(&at) {
            positions.clear();
        }
        positions.insert(at, next_offset);
    }

    /// The tiered part of a partition, if there is one.
    pub fn partition(&self, at: TopicPartition) -> Option<Partition> {
        self.committer.partition(at)
    }
}
