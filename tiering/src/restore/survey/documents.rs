//! Which descriptions of the fleet are read.

use super::{Read, Survey};
use crate::{
    meta::{Document, Head, Kept, MetaError, Whose, read_document, read_head},
    restore::{Described, Refused, slice::patiently},
    store::{Marker, StoreError, utc},
};

pub(super) struct Documents {
    pub head: Head,
    pub described: Described,
}

fn whose(marker: &Marker) -> Whose<'_> {
    Whose {
        fleet_id: &marker.fleet_id,
        region: &marker.region,
    }
}

/// What is no document: it is not there, or not what the head says.
type Unreadable = String;

impl Survey {
    /// The newest that was written at `to_ms` or before, and the newest of all. One that cannot be read, because it was
    /// not copied when the head was or is damaged, gives way to the one before it, and is told.
    pub(super) async fn documents(
        &self,
        marker: &Marker,
        to_ms: Option<i64>,
        remarks: &mut Vec<String>,
    ) -> Result<Documents, Refused> {
        let head = self.head(marker).await?;
        let is_before = |kept: &&Kept| to_ms.is_none_or(|ms| kept.written_ms <= ms);
        let asked = head.documents.iter().rposition(|kept| is_before(&kept));
        let oldest_ms = head.documents.iter().map(|kept| kept.written_ms).min();
        let (last, asked_ms) = match (asked, to_ms, oldest_ms) {
            (Some(last), ..) => (last, to_ms),
            (None, Some(asked_ms), Some(oldest_ms)) => {
                return Err(Refused::TooEarly {
                    asked_ms,
                    oldest_ms,
                });
            }
            _ => return Err(Refused::NoDocument("the head names none".to_owned())),
        };
        let newest = head.documents.len().saturating_sub(1);
        let mut later = None;
        let mut at = newest;
        while at > last && later.is_none() {
            later = self.readable(marker, &head.documents[at], remarks).await?;
            at -= 1;
        }
        let mut candidates = head.documents[..=last].iter().rev();
        let base = loop {
            let Some(kept) = candidates.next() else {
                let why = remarks.last().cloned().unwrap_or_default();
                return Err(Refused::NoDocument(why));
            };
            let allowed = asked_ms.is_none_or(|ms| kept.written_ms <= ms);
            if allowed && let Some(found) = self.readable(marker, kept, remarks).await? {
                break found;
            }
        };
        self.say(&format!(
            "the fleet is described as of {}",
            utc(base.written_ms)
        ));
        let mut described = Described::new(base);
        if let Some(later) = later {
            described.add(later);
        }
        Ok(Documents { head, described })
    }

    /// The first description of a view that is not older than the cuts: what they name was there then.
    pub(super) async fn bridge(&self, head: &Head, read: &mut Read) -> Result<(), Refused> {
        let cuts = read.chosen.values().filter_map(|c| c.cut.as_ref());
        let needed = cuts.map(|picked| picked.cut.view_version).max();
        let base = read.described.base();
        let (Some(needed), (epoch, sequence)) = (needed, (base.writer_epoch, base.sequence)) else {
            return Ok(());
        };
        if needed <= base.view_version {
            return Ok(());
        }
        let is_later =
            |kept: &&Kept| (kept.name.writer_epoch, kept.name.sequence) > (epoch, sequence);
        let later = head.documents.iter().filter(is_later);
        for kept in later.filter(|kept| kept.view_version >= needed) {
            let marker = &read.marker;
            if let Some(found) = self.readable(marker, kept, &mut read.remarks).await? {
                read.described.add(found);
                return Ok(());
            }
        }
        Ok(())
    }

    async fn head(&self, marker: &Marker) -> Result<Head, Refused> {
        let read = || async {
            // One answer that was bent on its way is no verdict.
            let found = match read_head(&*self.store, &self.keys, whose(marker)).await {
                Err(MetaError::Damaged(_) | MetaError::Foreign { .. }) => {
                    read_head(&*self.store, &self.keys, whose(marker)).await
                }
                other => other,
            };
            apart(found)
        };
        let found = patiently(&self.clock, read).await??;
        found.map(|(head, _)| head).ok_or(Refused::NoHead)
    }

    /// Nothing, and a remark, where it is no document.
    async fn readable(
        &self,
        marker: &Marker,
        kept: &Kept,
        remarks: &mut Vec<String>,
    ) -> Result<Option<Document>, Refused> {
        let mut why = Unreadable::new();
        for _ in 0..2 {
            let read = || async {
                apart(read_document(&*self.store, &self.keys, whose(marker), kept).await)
            };
            match patiently(&self.clock, read).await {
                Ok(Ok(document)) => return Ok(Some(document)),
                Ok(Err(error)) => why = error.to_string(),
                Err(error @ StoreError::NotFound { .. }) => {
                    why = error.to_string();
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        let (key, at) = (self.keys.meta(&kept.name), utc(kept.written_ms));
        remarks.push(format!("{key}, of {at}, is passed over: {why}"));
        Ok(None)
    }
}

/// What the store said, and what was found.
fn apart<T>(found: Result<T, MetaError>) -> Result<Result<T, MetaError>, StoreError> {
    match found {
        Ok(found) => Ok(Ok(found)),
        Err(MetaError::Store(error)) => Err(error),
        Err(other) => Ok(Err(other)),
    }
}
