//! The head: which documents there are, and who wrote it. Replaced by compare-and-swap. Drawn in `docs/formats.md`.

use std::collections::BTreeSet;

use super::{disclose, enclose};
use crate::{
    format::{FieldError, Fields, FormatError, MetaName, Put},
    root::{Moved, Stamp},
};

const MAGIC: &[u8; 8] = b"WBMHEAD1";
const WHAT: &str = "head of documents";
const KEPT_BYTES: usize = 8 * 5 + 4 + 4;
/// Far more than are ever kept: see [`Head::thin`].
pub const MAX_DOCUMENTS: usize = 1_000;
pub const MAX_HEAD_BYTES: u64 = 128 << 10;

/// So many of the newest documents are kept however fast they came.
const NEWEST: usize = 16;
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
/// Beyond the first hour at most so many are kept, whatever the window: an hour apart in a week.
const STEPS: i64 = 168;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub stamp: Stamp,
    pub fleet_id: String,
    pub region: String,
    pub written_ms: i64,
    /// The newest last.
    pub documents: Vec<Kept>,
}

/// A document that the head names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    pub name: MetaName,
    pub written_ms: i64,
    pub view_version: u64,
    /// Of the whole object.
    pub length: u32,
    pub crc32c: u32,
}

impl Head {
    pub fn newest(&self) -> Option<&Kept> {
        self.documents.last()
    }

    pub fn names(&self, name: &MetaName) -> bool {
        self.documents.iter().any(|kept| kept.name == *name)
    }

    /// The newest document that was written at `ms` or before.
    pub fn as_of(&self, ms: i64) -> Option<&Kept> {
        let mut newest_first = self.documents.iter().rev();
        newest_first.find(|kept| kept.written_ms <= ms)
    }

    /// Drops what a restore to any instant of the last `window_ms` can do without: of older documents the last one of
    /// each minute stays for an hour, then the last of each hour (of each 168th of a window that is longer than a
    /// week), and the newest that is older than all of that. Without a clock that can be believed all of them stay.
    pub fn thin(&mut self, now_ms: Option<i64>, window_ms: i64) {
        let Some(now_ms) = now_ms else {
            return;
        };
        let step_ms = HOUR_MS.max(window_ms / STEPS);
        let first_ms = now_ms.saturating_sub(window_ms);
        let mut steps = BTreeSet::new();
        let place = |kept: &Kept| {
            let age_ms = now_ms.saturating_sub(kept.written_ms);
            if kept.written_ms < first_ms {
                (2, 0)
            } else if age_ms > HOUR_MS {
                (1, kept.written_ms.div_euclid(step_ms))
            } else {
                (0, kept.written_ms.div_euclid(MINUTE_MS))
            }
        };
        let mut stay = Vec::new();
        for (n, kept) in self.documents.iter().rev().enumerate() {
            let is_last_of_step = steps.insert(place(kept));
            if (n < NEWEST || is_last_of_step) && stay.len() < MAX_DOCUMENTS {
                stay.push(*kept);
            }
        }
        stay.reverse();
        self.documents = stay;
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        self.stamp.encode(&mut body);
        body.put_text(&self.fleet_id);
        body.put_text(&self.region);
        body.put_i64(self.written_ms);
        body.put_count(self.documents.len());
        for kept in &self.documents {
            for n in [kept.name.writer_epoch, kept.name.sequence, kept.name.random] {
                body.put_u64(n);
            }
            body.put_i64(kept.written_ms);
            body.put_u64(kept.view_version);
            body.put_u32(kept.length);
            body.put_u32(kept.crc32c);
        }
        enclose(MAGIC, &body)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        if let Ok(moved) = Moved::decode(bytes) {
            let reason = format_args!("it has moved to {}", moved.to);
            return Err(FormatError::malformed(WHAT, reason));
        }
        let mut fields = Fields::new(disclose(WHAT, MAGIC, bytes)?);
        let head = read(&mut fields).map_err(|e| FormatError::malformed(WHAT, e))?;
        fields.end().map_err(|e| FormatError::malformed(WHAT, e))?;
        let written = |kept: &Kept| (kept.name.writer_epoch, kept.name.sequence);
        let rise = head
            .documents
            .windows(2)
            .all(|two| written(&two[0]) < written(&two[1]));
        let newest = head.newest().map(written);
        if !rise || newest.is_some_and(|newest| newest > head.stamp.number()) {
            let reason = "documents do not rise up to the head's own number";
            return Err(FormatError::malformed(WHAT, reason));
        }
        if head.documents.len() > MAX_DOCUMENTS {
            let reason = format_args!("{} documents", head.documents.len());
            return Err(FormatError::malformed(WHAT, reason));
        }
        Ok(head)
    }
}

fn read(fields: &mut Fields<'_>) -> Result<Head, FieldError> {
    let mut head = Head {
        stamp: Stamp::read(fields)?,
        fleet_id: fields.text()?,
        region: fields.text()?,
        written_ms: fields.i64()?,
        documents: Vec::new(),
    };
    let count = fields.count(KEPT_BYTES)?;
    for _ in 0..count {
        head.documents.push(Kept {
            name: MetaName {
                writer_epoch: fields.u64()?,
                sequence: fields.u64()?,
                random: fields.u64()?,
            },
            written_ms: fields.i64()?,
            view_version: fields.u64()?,
            length: fields.u32()?,
            crc32c: fields.u32()?,
        });
    }
    Ok(head)
}

#[cfg(test)]
mod tests;
