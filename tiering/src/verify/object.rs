//! One object against its root's entry.

use super::{Budget, Report, Verifier, Work};
use crate::{
    format::{BLOCK_BYTES, Opened},
    reader::BLOCK,
    store::StoreError,
};

/// No tail that we write comes near it.
const MAX_TAIL: u64 = 64 << 20;

/// What a look at an object came to.
#[derive(Debug)]
pub(super) enum Found {
    Sound {
        /// All blocks were read and compared.
        whole: bool,
    },
    Damaged(String),
    /// The store did not answer, or the budget ended: no verdict.
    Undecided(String),
}

impl From<StoreError> for Found {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { .. } => Self::Damaged("it is not in the bucket".to_owned()),
            StoreError::Short { .. } => Self::Damaged(error.to_string()),
            other => Self::Undecided(other.to_string()),
        }
    }
}

fn poor() -> Found {
    Found::Undecided("the budget is spent".to_owned())
}

impl Verifier {
    pub(super) async fn look_at(
        &self,
        work: &Work,
        budget: &mut Budget,
        report: &mut Report,
    ) -> Found {
        match self.look(work, budget, report).await {
            Ok(found) | Err(found) => found,
        }
    }

    async fn look(
        &self,
        work: &Work,
        budget: &mut Budget,
        report: &mut Report,
    ) -> Result<Found, Found> {
        let object = self.open(work, budget).await?;
        if !budget.wants_blocks() {
            return Ok(Found::Sound { whole: false });
        }
        let (mut at, body) = (0, object.blocks.covers());
        while at < body {
            let want = budget.blocks(BLOCK.min(body - at));
            let end = body.min(at + want.div_ceil(BLOCK_BYTES) * BLOCK_BYTES);
            if end == at {
                return Ok(Found::Sound { whole: false });
            }
            if !budget.pay(end - at).await {
                return Err(poor());
            }
            let bytes = self.store.get_range(&work.key, at..end).await?;
            object
                .blocks
                .check(at, &bytes)
                .map_err(|e| Found::Damaged(format!("bytes {at}..{end}: {e}")))?;
            report.bytes += end - at;
            at = end;
        }
        Ok(Found::Sound { whole: true })
    }

    /// Existence, size, the store's checksum, the tail, and the footer against the root.
    async fn open(&self, work: &Work, budget: &mut Budget) -> Result<Opened, Found> {
        let (key, entry) = (&work.key, &work.entry);
        if !budget.pay(0).await {
            return Err(poor());
        }
        let meta = self.store.head(key).await?;
        if meta.size != entry.object_bytes {
            return Err(Found::Damaged(format!(
                "{} bytes, the root says {}",
                meta.size, entry.object_bytes
            )));
        }
        if meta.crc64.is_some_and(|crc| crc != entry.crc64) {
            return Err(Found::Damaged(
                "the store's checksum is not the root's".to_owned(),
            ));
        }
        let from = Opened::tail_position(entry.object_data_bytes());
        let length = entry.object_bytes.saturating_sub(from);
        if length > MAX_TAIL {
            return Err(Found::Damaged(format!("a tail of {length} bytes")));
        }
        if !budget.pay(length).await {
            return Err(poor());
        }
        let tail = self.store.get_range(key, from..entry.object_bytes).await?;
        let object = Opened::parse(&tail, from, entry.object_bytes)
            .map_err(|e| Found::Damaged(e.to_string()))?;
        match self.footer_problem(work, &object) {
            None => Ok(object),
            Some(what) => Err(Found::Damaged(what)),
        }
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
