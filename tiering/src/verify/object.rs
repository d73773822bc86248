//! One object against its root's entries: it is read once, however many slices lie in it.

use std::{collections::BTreeMap, ops::Range};

use super::{Budget, Report, Verifier, Work};
use crate::{
    format::{BLOCK_BYTES, Key, Opened},
    reader::BLOCK,
    store::StoreError,
};

/// No tail that we write comes near it.
const MAX_TAIL: u64 = 64 << 20;
/// Bent blocks that are told apart; an object with more of them is bent as a whole.
const MOST_BENT: usize = 64;

/// An object, and what its root says that lies in it.
#[derive(Debug)]
pub(super) struct Object {
    pub key: Key,
    pub shard: u16,
    slices: Vec<Work>,
}

/// Bytes of an object's data that are not what they should be.
#[derive(Debug)]
pub(super) struct Bent {
    /// `None` where nothing of it can be believed.
    bytes: Option<Range<u64>>,
    what: String,
}

impl Bent {
    fn all(what: impl ToString) -> Self {
        Self {
            bytes: None,
            what: what.to_string(),
        }
    }

    fn hits(&self, work: &Work) -> bool {
        let (from, to) = (work.entry.position(), work.entry.data_end());
        let overlaps = |bytes: &Range<u64>| bytes.start < to && from < bytes.end;
        self.bytes.as_ref().is_none_or(overlaps)
    }
}

impl Object {
    pub fn all(work: Vec<Work>) -> Vec<Self> {
        let mut shared = BTreeMap::new();
        let mut all: Vec<Self> = Vec::with_capacity(work.len());
        for work in work {
            if work.entry.merged.is_some() {
                let place = *shared.entry(work.key.clone()).or_insert(all.len());
                if let Some(object) = all.get_mut(place) {
                    object.slices.push(work);
                    continue;
                }
            }
            all.push(Self {
                key: work.key.clone(),
                shard: work.shard,
                slices: vec![work],
            });
        }
        all
    }

    /// The slices that are hit, and what by.
    pub fn hit<'a>(&'a self, bent: &'a [Bent]) -> impl Iterator<Item = (&'a Work, &'a str)> {
        self.slices.iter().filter_map(|work| {
            let bent = bent.iter().find(|bent| bent.hits(work))?;
            Some((work, bent.what.as_str()))
        })
    }
}

/// What a look at an object came to.
#[derive(Debug)]
pub(super) enum Found {
    Sound {
        /// All blocks were read and compared.
        whole: bool,
    },
    Damaged(Vec<Bent>),
    /// The store did not answer, or the budget ended: no verdict.
    Undecided(String),
}

impl From<StoreError> for Found {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { .. } => Self::damaged("it is not in the bucket"),
            StoreError::Short { .. } => Self::damaged(error),
            other => Self::Undecided(other.to_string()),
        }
    }
}

impl Found {
    fn damaged(what: impl ToString) -> Self {
        Self::Damaged(vec![Bent::all(what)])
    }

    fn of(bent: Vec<Bent>, whole: bool) -> Self {
        if bent.is_empty() {
            Self::Sound { whole }
        } else {
            Self::Damaged(bent)
        }
    }
}

fn poor() -> Found {
    Found::Undecided("the budget is spent".to_owned())
}

impl Verifier {
    pub(super) async fn look_at(
        &self,
        object: &Object,
        budget: &mut Budget,
        report: &mut Report,
    ) -> Found {
        match self.look(object, budget, report).await {
            Ok(found) | Err(found) => found,
        }
    }

    async fn look(
        &self,
        object: &Object,
        budget: &mut Budget,
        report: &mut Report,
    ) -> Result<Found, Found> {
        let (opened, mut bent) = self.open(object, budget).await?;
        if !budget.wants_blocks() {
            return Ok(Found::of(bent, false));
        }
        let (mut at, body) = (0, opened.blocks.covers());
        while at < body {
            let want = budget.blocks(BLOCK.min(body - at));
            let end = body.min(at + want.div_ceil(BLOCK_BYTES) * BLOCK_BYTES);
            if end == at {
                return Ok(Found::of(bent, false));
            }
            if !budget.pay(end - at).await {
                // What was found until now is a verdict all the same.
                return if bent.is_empty() {
                    Err(poor())
                } else {
                    Ok(Found::Damaged(bent))
                };
            }
            let bytes = self.store.get_range(&object.key, at..end).await?;
            bent.extend(bent_blocks(&opened, at, &bytes));
            if bent.len() > MOST_BENT {
                return Err(Found::damaged(format!("many blocks up to byte {end}")));
            }
            report.bytes += end - at;
            at = end;
        }
        Ok(Found::of(bent, true))
    }

    /// Existence, size, the store's checksum, the tail, and the footer against the root; the slices that the
    /// footer tells otherwise.
    async fn open(
        &self,
        object: &Object,
        budget: &mut Budget,
    ) -> Result<(Opened, Vec<Bent>), Found> {
        let key = &object.key;
        let Some(entry) = object.slices.first().map(|work| work.entry) else {
            return Err(Found::Sound { whole: false });
        };
        if !budget.pay(0).await {
            return Err(poor());
        }
        let meta = self.store.head(key).await?;
        for Work { entry, .. } in &object.slices {
            if meta.size != entry.object_bytes {
                return Err(Found::damaged(format!(
                    "{} bytes, the root says {}",
                    meta.size, entry.object_bytes
                )));
            }
            if meta.crc64.is_some_and(|crc| crc != entry.crc64) {
                return Err(Found::damaged("the store's checksum is not the root's"));
            }
        }
        let from = Opened::tail_position(entry.object_data_bytes());
        let length = entry.object_bytes.saturating_sub(from);
        if length > MAX_TAIL {
            return Err(Found::damaged(format!("a tail of {length} bytes")));
        }
        if !budget.pay(length).await {
            return Err(poor());
        }
        let tail = self.store.get_range(key, from..entry.object_bytes).await?;
        let opened = Opened::parse(&tail, from, entry.object_bytes).map_err(Found::damaged)?;
        let told = |work: &Work| {
            let what = self.footer_problem(work, &opened)?;
            let bytes = Some(work.entry.position()..work.entry.data_end());
            Some(Bent { bytes, what })
        };
        let bent = object.slices.iter().filter_map(told).collect();
        Ok((opened, bent))
    }

    /// What the footer says otherwise than the root: an object that was put in another's place.
    fn footer_problem(&self, work: &Work, object: &Opened) -> Option<String> {
        let entry = &work.entry;
        let Some(slice) = object.slice_at(entry.position()) else {
            return Some("its footer names no such slice".to_owned());
        };
        let slice = slice.meta;
        let is = [
            ("region", object.footer.region == self.region),
            ("partition", slice.at == work.at),
            ("topic", slice.topic == work.topic),
            ("base offset", slice.base_offset == entry.base),
            ("end offset", slice.end_offset == entry.object_end),
            ("leader epoch", slice.leader_epoch == entry.leader_epoch),
            ("records", slice.records == entry.records),
            ("bytes", slice.length == entry.data_bytes),
        ];
        let other: Vec<_> = is
            .iter()
            .filter(|(_, same)| !same)
            .map(|(n, _)| *n)
            .collect();
        (!other.is_empty())
            .then(|| format!("its footer is not what the root says: {}", other.join(", ")))
    }
}

/// Those of `bytes`, which begin at `from`, that are not what their checksums say. Behind the data lie the indexes of
/// all slices.
fn bent_blocks(opened: &Opened, from: u64, bytes: &[u8]) -> Vec<Bent> {
    let length = usize::try_from(BLOCK_BYTES).unwrap_or(usize::MAX);
    let data_end = opened.data_bytes();
    let mut bent = Vec::new();
    for (n, block) in (0_u64..).zip(bytes.chunks(length)) {
        let at = from + n * BLOCK_BYTES;
        if let Err(error) = opened.blocks.check(at, block) {
            let end = at + block.len() as u64;
            bent.push(Bent {
                bytes: (end <= data_end).then_some(at..end),
                what: format!("bytes {at}..{end}: {error}"),
            });
        }
    }
    bent
}
