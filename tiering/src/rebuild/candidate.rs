//! An object of which a root does not name every slice, read whole.

use bytes::Bytes;
use whimbrel_fleet::{EpochStart, TopicPartition};

use crate::{
    checksum::Crc64,
    format::{Fields, Footer, ObjectName, Opened, SectionKind, TRAILER_BYTES, Trailer},
    root::{Entry, Merged},
    store::{Listed, Store, StoreError},
};

/// A GET while reading it.
const PIECE: u64 = 8 << 20;
/// No footer or tail that we write comes near it.
const MAX_TAIL: u64 = 64 << 20;

/// A slice in it.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub at: TopicPartition,
    pub object: String,
    pub topic: String,
    pub group: String,
    pub region_epoch: u32,
    pub lineage: Vec<EpochStart>,
    pub entry: Entry,
}

impl Candidate {
    /// True when `entry` names this very slice.
    pub fn is(&self, entry: &Entry) -> bool {
        let name = |e: &Entry| (e.base, e.writer_epoch, e.random);
        name(entry) == name(&self.entry)
    }
}

type Read = Result<Vec<Candidate>, String>;

/// The outer error is about the store, the inner one about the object.
pub(super) async fn read(
    store: &dyn Store,
    region: &str,
    name: &ObjectName,
    listed: &Listed,
) -> Result<Read, StoreError> {
    match whole(store, region, name, listed).await {
        Ok(slices) => Ok(Ok(slices)),
        Err(Fault::Object(why)) => Ok(Err(why)),
        Err(Fault::Store(e)) => Err(e),
    }
}

enum Fault {
    Object(String),
    Store(StoreError),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { .. } | StoreError::Short { .. } => {
                Self::Object(error.to_string())
            }
            other => Self::Store(other),
        }
    }
}

fn bad(why: impl ToString) -> Fault {
    Fault::Object(why.to_string())
}

async fn whole(
    store: &dyn Store,
    region: &str,
    name: &ObjectName,
    listed: &Listed,
) -> Result<Vec<Candidate>, Fault> {
    let (key, size) = (&listed.key, listed.size);
    let footer = footer(store, listed).await?;
    let ends = footer.slices.iter();
    let ends = ends.map(|slice| slice.position.saturating_add(slice.length));
    let data_bytes = ends.max().unwrap_or(0);
    let from = Opened::tail_position(data_bytes);
    if size.saturating_sub(from) > MAX_TAIL {
        return Err(bad("its tail is too long"));
    }
    let tail = store.get_range(key, from..size).await?;
    let object = Opened::parse(&tail, from, size).map_err(bad)?;
    let crc64 = prove(store, &object, listed).await?;
    describe(region, name, listed, &object, &tail, from, crc64).map_err(bad)
}

/// What an object says that it holds; `None` where that cannot be read.
pub(crate) async fn footer_of(
    store: &dyn Store,
    listed: &Listed,
) -> Result<Option<Footer>, StoreError> {
    match footer(store, listed).await {
        Ok(footer) => Ok(Some(footer)),
        Err(Fault::Object(_)) => Ok(None),
        Err(Fault::Store(error)) => Err(error),
    }
}

async fn footer(store: &dyn Store, listed: &Listed) -> Result<Footer, Fault> {
    let (key, size) = (&listed.key, listed.size);
    let trailer_at = size
        .checked_sub(TRAILER_BYTES as u64)
        .ok_or_else(|| bad("it is shorter than a trailer"))?;
    let trailer = store.get_range(key, trailer_at..size).await?;
    let trailer = trailer
        .last_chunk::<TRAILER_BYTES>()
        .ok_or_else(|| bad("it is shorter than a trailer"))?;
    let trailer = Trailer::decode(trailer, size).map_err(bad)?;
    let from = trailer.footer_position;
    let footer = store
        .get_range(key, from..from.saturating_add(trailer.footer_length.into()))
        .await?;
    Footer::decode(&footer, trailer.body_length).map_err(bad)
}

/// Every block, and the checksum of it all.
async fn prove(store: &dyn Store, object: &Opened, listed: &Listed) -> Result<u64, Fault> {
    let (body, mut crc, mut at) = (object.blocks.covers(), Crc64::new(), 0);
    while at < listed.size {
        let end = listed.size.min(at + PIECE);
        let bytes = store.get_range(&listed.key, at..end).await?;
        crc.update(&bytes);
        let inside = usize::try_from(body.saturating_sub(at)).unwrap_or(usize::MAX);
        let blocks = &bytes[..bytes.len().min(inside)];
        if !blocks.is_empty() {
            object.blocks.check(at, blocks).map_err(bad)?;
        }
        at = end;
    }
    Ok(crc.finish())
}

fn describe(
    region: &str,
    name: &ObjectName,
    listed: &Listed,
    object: &Opened,
    tail: &Bytes,
    from: u64,
    crc64: u64,
) -> Result<Vec<Candidate>, String> {
    let footer = &object.footer;
    let same = footer.region == region && footer.writer_epoch == name.writer_epoch();
    let all = footer.slices.iter().map(|slice| {
        let is_named = match name {
            ObjectName::Own(name) => {
                slice.at == name.at
                    && slice.base_offset == name.base
                    && slice.end_offset == name.last.saturating_add(1)
                    && slice.leader_epoch == name.leader_epoch
                    && slice.position == 0
                    && footer.slices.len() == 1
            }
            ObjectName::Merged(_) => true,
        };
        if !same || !is_named {
            return Err("its footer is not what its key says".to_owned());
        }
        let lineage = slice
            .section(SectionKind::Lineage)
            .and_then(|s| {
                let at = usize::try_from(s.position.checked_sub(from)?).ok()?;
                tail.get(at..at.checked_add(usize::try_from(s.length).ok()?)?)
            })
            .and_then(lineage)
            .ok_or("its lineage cannot be read")?;
        let (random, merged) = match name {
            ObjectName::Own(name) => (name.random, None),
            ObjectName::Merged(name) => {
                let place = Merged {
                    position: slice.position,
                    object_data_bytes: object.data_bytes(),
                };
                (name.random, Some(place))
            }
        };
        Ok(Candidate {
            at: slice.at,
            object: listed.key.to_string(),
            topic: slice.topic.clone(),
            group: slice.group.clone(),
            region_epoch: slice.region_epoch,
            lineage,
            entry: Entry {
                base: slice.base_offset,
                end: slice.end_offset,
                object_end: slice.end_offset,
                leader_epoch: slice.leader_epoch,
                writer_epoch: footer.writer_epoch,
                random,
                object_bytes: listed.size,
                data_bytes: slice.length,
                records: slice.records,
                first_timestamp_ms: slice.first_timestamp_ms,
                max_timestamp_ms: slice.max_timestamp_ms,
                crc64,
                created_ms: footer.created_ms,
                aborted: slice
                    .section(SectionKind::Aborted)
                    .is_some_and(|s| s.length > 0),
                merged,
            },
        })
    });
    all.collect()
}

/// {epoch i32, start offset i64}, rising.
fn lineage(bytes: &[u8]) -> Option<Vec<EpochStart>> {
    let mut fields = Fields::new(bytes);
    let mut all: Vec<EpochStart> = Vec::new();
    for _ in 0..bytes.len() / 12 {
        all.push(EpochStart {
            epoch: fields.i32().ok()?,
            start_offset: fields.i64().ok()?,
        });
    }
    let rises = all
        .windows(2)
        .all(|w| w[0].epoch < w[1].epoch && w[0].start_offset <= w[1].start_offset);
    (rises && bytes.len().is_multiple_of(12)).then_some(all)
}
