//! Cold reads: from an offset to ranges of whole batches in files that do not change.
//!
//! One fetch uses one view of the root. What it answers lies below the entry's visible end and below the
//! point where the reader's lineage and the bucket's part. An answer names the blocks that its bytes lie in
//! with their checksums from the object's table, and whoever reads the bytes compares them: what came from
//! a store, what an earlier run has cached and what lies in a folder are treated alike. A reader that finds
//! another checksum, or no file, asks again in doubt, and then the bytes are looked at here.
//!
//! A consumer that reads on where it stopped costs no look at the data at all: where it stopped is
//! remembered, and the next answer ends where the object's index says that a batch begins.

mod blocks;
mod direct;
mod flights;
mod objects;
mod roots;
mod scan;
mod spots;
mod timestamp;

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use whimbrel_fleet::{EpochStart, TopicPartition};

pub use blocks::{BLOCK, Blocks};
pub use flights::Flights;
pub use objects::Objects;
pub use roots::Roots;
pub use timestamp::Stamped;

use self::spots::{Spot, Spots};

use crate::{
    committer::Committer,
    format::{Aborted, FormatError, Key, Keys},
    ops::Cause,
    root::{Entry, Partition, Root},
    runs::RunError,
    store::StoreError,
};

/// A range that would be shorter than this takes the next block along.
const SHORT: u64 = 512 << 10;
/// Blocks fetched ahead of a consumer that reads on where it stopped: at first, and at most for one that
/// had to wait again and again.
const AHEAD: u32 = 2;
const MOST_AHEAD: u32 = 12;
/// Who has read so much in one piece is read ahead of: whoever looks for single records goes elsewhere before.
const READS_ON: u64 = 2 << 20;
/// What the kernel is told to read ahead of a consumer of a folder, so that a disk is never idle.
const WILL_NEED: u64 = 32 << 20;

/// Where bytes of an answer are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    pub path: std::path::PathBuf,
    pub position: u64,
    pub length: u64,
    /// From the beginning of the first block to `position`.
    pub before: u64,
    /// From the end of the range to the end of the last block.
    pub after: u64,
    /// CRC32C of every block that the range touches.
    pub crcs: Vec<u32>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub at: TopicPartition,
    pub offset: i64,
    /// About so many bytes; at least one batch.
    pub max_bytes: u64,
    /// An earlier answer's bytes were not what was promised.
    pub doubt: bool,
}

/// What a read came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Together whole batches, in order; the first one holds the offset.
    Ranges {
        ranges: Vec<Range>,
        next_offset: i64,
        /// All that touch the offsets from the one asked for up to `next_offset`.
        aborted: Vec<Aborted>,
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

impl From<RunError> for ReadError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Store(reason) => Self::Store(reason),
            RunError::Damaged { key, reason } => Self::Damaged { key, reason },
        }
    }
}

impl Cause for ReadError {
    fn cause(&self) -> String {
        match self {
            Self::Store(reason) => reason.cause(),
            Self::Damaged { reason, .. } | Self::Cache(reason) => reason.clone(),
        }
    }
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
    pub roots: Roots,
    pub keys: Keys,
    pub blocks: Blocks,
    pub objects: Objects,
    pub damage: Damage,
    spots: Arc<Mutex<Spots>>,
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

/// Blocks of the object up to the end of the entry's slice.
fn block_count(entry: &Entry) -> u32 {
    u32::try_from(entry.data_end().div_ceil(BLOCK)).unwrap_or(u32::MAX)
}

impl Reader {
    pub fn new(
        committer: Committer,
        keys: Keys,
        blocks: Blocks,
        objects: Objects,
        damage: Damage,
    ) -> Self {
        Self::of(
            Roots::Own(Box::new(committer)),
            keys,
            blocks,
            objects,
            damage,
        )
    }

    pub fn of(roots: Roots, keys: Keys, blocks: Blocks, objects: Objects, damage: Damage) -> Self {
        Self {
            roots,
            keys,
            blocks,
            objects,
            damage,
            spots: Arc::default(),
        }
    }

    /// Whole batches from the one that holds the offset on.
    pub async fn read(&self, wish: Wish, lineage: &[EpochStart]) -> Result<Answer, ReadError> {
        self.refuse_sick(wish.at)?;
        let (mut wish, mut newer) = (wish, None);
        loop {
            let root = newer.clone().or_else(|| self.roots.root_of(wish.at));
            let Some(root) = root else {
                return Ok(Answer::NotTiered("no shard".to_owned()));
            };
            let place = match self.place(&root, wish.at, wish.offset, lineage).await? {
                Ok(place) => place,
                Err(why) => return Ok(Answer::NotTiered(why)),
            };
            match self.read_object(&place, wish).await {
                Ok(Some(answer)) => return Ok(answer),
                // Compaction may have left nothing at the end of an object: what comes next answers.
                Ok(None) if place.next.is_some() => wish.offset = place.visible_end,
                Ok(None) if place.visible_end == place.entry.end => {
                    return Ok(Answer::Ranges {
                        ranges: Vec::new(),
                        next_offset: place.visible_end,
                        aborted: Vec::new(),
                    });
                }
                Ok(None) => {
                    return Ok(Answer::NotTiered(format!("no batch holds {}", wish.offset)));
                }
                Err(ReadError::Damaged { key, reason }) => {
                    let Some(without) = self.root_without(&root, &key).await? else {
                        self.note_damage(&key, &reason);
                        return Err(ReadError::Damaged { key, reason });
                    };
                    if newer.replace(without).is_some() {
                        return Ok(Answer::NotTiered("it was deleted meanwhile".to_owned()));
                    }
                }
                Err(other) => return Err(other),
            }
        }
    }

    /// `Ok(Err(why))` where the bucket has nothing for this reader.
    async fn place(
        &self,
        root: &Root,
        at: TopicPartition,
        offset: i64,
        lineage: &[EpochStart],
    ) -> Result<Result<Place, String>, ReadError> {
        let Some(partition) = root.partitions.get(&at) else {
            return Ok(Err("the bucket has nothing of this partition".to_owned()));
        };
        let run = match partition.run_at(offset) {
            Some(run) => Some(self.roots.runs().read(run).await?),
            None => None,
        };
        let older = run.as_ref().map_or(&[][..], |run| &run[..]);
        Ok(Self::place_in(root, partition, older, at, offset, lineage))
    }

    /// `older` are the entries of the run that holds the offset.
    fn place_in(
        root: &Root,
        partition: &Partition,
        older: &[Entry],
        at: TopicPartition,
        offset: i64,
        lineage: &[EpochStart],
    ) -> Result<Place, String> {
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
        let holds = |offset: i64| {
            let older = older.iter().find(|e| (e.base..e.end).contains(&offset));
            older.or_else(|| partition.find(offset)).copied()
        };
        let entry = holds(offset).ok_or("no object holds it")?;
        let visible_end = entry.end.min(agreed);
        let next = holds(entry.end).filter(|_| agreed > entry.end);
        Ok(Place {
            shard: root.shard,
            at,
            entry,
            visible_end,
            next,
        })
    }

    /// What a root that is not believed had named is not said to be missing: nobody knows.
    fn refuse_sick(&self, at: TopicPartition) -> Result<(), ReadError> {
        match self.roots.unknown(at) {
            Some((shard, error)) => Err(ReadError::damaged(&self.keys.root(shard), error)),
            None => Ok(()),
        }
    }

    /// A newer root that does not name the object any more: a read that met a 404 is damage only if there is none.
    /// What follows a shard has a root that may be older than what its owner has deleted, so the bucket's is read,
    /// once for an object.
    async fn root_without(&self, used: &Root, key: &Key) -> Result<Option<Arc<Root>>, ReadError> {
        let own = self.roots.root(used.shard);
        let own = own.filter(|own| own.stamp.number() > used.stamp.number());
        let known = self.damage.lock().contains_key(key);
        let newer = match own {
            Some(own) => Some(own),
            None if known => None,
            None => self.roots.newer(used).await?,
        };
        let Some(root) = newer else {
            return Ok(None);
        };
        let named = self.roots.runs().names(&root, key).await?;
        Ok((!named).then_some(root))
    }

    pub fn note_damage(&self, key: &Key, reason: &str) {
        let meter = self.roots.meter();
        meter.count(crate::metrics::DAMAGE, 1);
        tracing::error!(code = "WB-316", %key, reason, "an object is missing or damaged");
        self.damage.lock().insert(key.clone(), reason.to_owned());
    }

    fn key(&self, place: &Place, entry: &Entry) -> Key {
        entry.key(&self.keys, place.shard, place.at)
    }

    /// `None` where the object has no batch at or behind the offset.
    async fn read_object(&self, place: &Place, wish: Wish) -> Result<Option<Answer>, ReadError> {
        let key = self.key(place, &place.entry);
        let object = self.objects.open(&key, &place.entry).await?;
        let scan = scan::Scan::new(&self.blocks, &key, &object, (place.at, &place.entry))?;
        let spot = self.spot(place, wish.offset);
        let start = spot.as_ref().map(|s| s.position);
        let near = start.unwrap_or_else(|| scan.near(wish.offset));
        let mut ahead = spot.as_ref().map_or(0, |s| s.ahead);
        if self.blocks.is_remote(&key) {
            if let Some((key, blocks)) = spot.as_ref().and_then(|s| s.behind.clone()) {
                self.blocks.let_go(&key, blocks);
            }
            if spot.as_ref().is_none_or(|s| s.read < READS_ON) {
                ahead = 0;
            } else if !self.blocks.holds(&key, near) {
                // It is faster than what was fetched for it.
                ahead = (ahead * 2).min(MOST_AHEAD);
            }
            self.fetch_ahead(place, &key, near, ahead);
        }
        let span = scan
            .span(wish.offset, start, wish.max_bytes.max(1), place.visible_end)
            .await?;
        let Some(span) = span.filter(|span| span.from < span.to) else {
            return Ok(None);
        };
        let ranges = self
            .blocks
            .ranges(&key, &object, span.from..span.to, wish.doubt)
            .await?;
        let remote = self.blocks.is_remote(&key);
        let needed = match &spot {
            Some(spot) if !remote => self.will_need(place, &key, spot.needed, span.to),
            _ => span.to,
        };
        let block = |position: u64| u32::try_from(position / BLOCK).unwrap_or(u32::MAX);
        let done = if span.to >= place.entry.data_end() {
            block(span.to.saturating_sub(1)).saturating_add(1)
        } else {
            block(span.to)
        };
        let read = block(span.from)..done;
        let aborted = scan.aborted(wish.offset, span.next_offset);
        let spot = Spot {
            offset: span.next_offset,
            object: place.entry.object(),
            position: span.to,
            ahead: ahead.max(AHEAD),
            needed,
            read: spot.as_ref().map_or(0, |s| s.read) + (span.to - span.from),
            behind: (remote && !read.is_empty()).then_some((key, read)),
        };
        self.spots.lock().put(place.at, spot);
        Ok(Some(Answer::Ranges {
            ranges,
            next_offset: span.next_offset,
            aborted,
        }))
    }

    /// Where the batch with this offset begins, if a read has ended there or the object begins with it.
    fn spot(&self, place: &Place, offset: i64) -> Option<Spot> {
        let last = self.spots.lock().get(place.at, offset);
        if offset == place.entry.base {
            let ahead = last.as_ref().map_or(AHEAD, |s| s.ahead);
            return Some(Spot {
                offset,
                object: place.entry.object(),
                position: place.entry.position(),
                ahead,
                needed: 0,
                // Whoever begins at an object's beginning is taken for one that reads on.
                read: last.as_ref().map_or(READS_ON, |s| s.read),
                behind: last.and_then(|s| s.behind),
            });
        }
        last.filter(|s| s.object == place.entry.object())
    }

    /// Starts fetching what a sequential consumer will ask for next.
    fn fetch_ahead(&self, place: &Place, key: &Key, position: u64, ahead: u32) {
        let first = u32::try_from(position / BLOCK).unwrap_or(u32::MAX);
        let blocks = block_count(&place.entry);
        let end = first.saturating_add(ahead).saturating_add(1);
        for number in first..blocks.min(end) {
            self.blocks
                .start_fetch(key, &self.objects, &place.entry, number);
        }
        let beyond = end.saturating_sub(blocks).min(ahead);
        if let Some(next) = place.next.filter(|_| beyond > 0) {
            let key = self.key(place, &next);
            let first = u32::try_from(next.position() / BLOCK).unwrap_or(u32::MAX);
            let end = first.saturating_add(beyond).min(block_count(&next));
            for number in first..end {
                self.blocks.start_fetch(&key, &self.objects, &next, number);
            }
        }
    }

    /// The same for a folder: the kernel reads ahead. Up to where it was told.
    fn will_need(&self, place: &Place, key: &Key, needed: u64, from: u64) -> u64 {
        if needed >= from.saturating_add(WILL_NEED / 2) {
            return needed;
        }
        let (data, end) = (place.entry.data_end(), from.saturating_add(WILL_NEED));
        let begin = needed.max(from);
        if begin < data {
            self.blocks.will_need(key, begin..end.min(data));
            if let Some(next) = place.next.filter(|_| end > data) {
                let key = self.key(place, &next);
                let begin = next.position();
                let span = begin..begin + (end - data).min(next.data_bytes);
                self.blocks.will_need(&key, span);
            }
        }
        end
    }

    /// The tiered part of a partition, if there is one.
    pub fn partition(&self, at: TopicPartition) -> Option<Partition> {
        self.roots.root_of(at)?.partitions.get(&at).cloned()
    }
}
