//! Makes a damaged or missing object whole again from the logs that still hold its records: the disk of the
//! broker beside us, another replica in the region, or a broker of another region, which reads its own disk
//! and its own bucket.
//!
//! What comes from there is proved as an upload is: every batch by its CRC, their order, their epochs against
//! the root's lineage; and it must be what the old object held: as many bytes and records, and the very bytes
//! wherever the old object's block table can still be read and no other slice shares its blocks. The new object goes under a new key, one swap
//! names it instead of the old one, and the old one is kept and listed.

mod copies;
mod scratch;

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use uuid::Uuid;
use whimbrel_fleet::EpochStart;
use whimbrel_runtime::{Clock, Tasks, random};

pub use copies::{Copies, Holder, KafkaCopies, Range};
pub use scratch::Scratch;

use crate::{
    committer::{Committer, Edit},
    format::{Keys, Opened, SectionKind},
    ops::Ops,
    prepare::{Prepared, Slice, Writer, prepare},
    quarantine::Quarantine,
    root::{Entry, Partition},
    store::Store,
    transfer::Transfer,
    verify::{Mended, Repair, Work},
};

/// No tail that we write comes near it.
const MAX_TAIL: u64 = 64 << 20;

#[derive(Clone, Debug)]
pub struct Repairer {
    pub copies: Arc<dyn Copies>,
    pub store: Arc<dyn Store>,
    pub committer: Committer,
    pub transfer: Transfer,
    pub keys: Keys,
    pub region: String,
    pub incarnation: Uuid,
    pub quarantine: Quarantine,
    /// Where an object is put together.
    pub scratch_dir: PathBuf,
    pub clock: Clock,
    pub tasks: Tasks,
    pub ops: Ops,
}

/// What of the old object can still be believed.
struct Old {
    object: Opened,
    tail: Bytes,
    from: u64,
}

impl Repairer {
    /// Finds who has the records whole; with [`Repair::Apply`] the object is made again.
    pub async fn mend(&self, work: &Work, repair: Repair) -> Mended {
        let mut mended = Mended {
            object: work.key.to_string(),
            topic: work.topic.clone(),
            partition: work.at.partition,
            from_offset: work.entry.base,
            to_offset: work.entry.end,
            from: None,
            replaced_by: None,
            what: String::new(),
        };
        match self.prepare_any(work).await {
            Err(why) => mended.what = why,
            Ok((holder, scratch, prepared)) => {
                mended.from = Some(holder.name.clone());
                if repair == Repair::Apply {
                    match self.replace(work, prepared).await {
                        Ok(key) => mended.replaced_by = Some(key),
                        Err(why) => mended.what = why,
                    }
                }
                drop(scratch);
            }
        }
        mended
    }

    /// The first holder whose copy proves to be what the object held.
    async fn prepare_any(&self, work: &Work) -> Result<(Holder, Scratch, Prepared), String> {
        let partition = self
            .committer
            .partition(work.at)
            .ok_or("the partition is not in the bucket any more")?;
        if work.entry.end != work.entry.object_end {
            return Err(
                "a truncation has clipped it: what it held above is nowhere else".to_owned(),
            );
        }
        let old = self.old(work).await;
        if work.entry.aborted && old.is_none() {
            return Err("its list of aborted transactions is lost with its tail".to_owned());
        }
        if work.entry.is_sparse() && old.is_none() {
            // Copies are cleaned each by itself: nothing is left to compare theirs with.
            return Err(
                "compaction has been there; its log replaces it at the next look".to_owned(),
            );
        }
        let holders = self.copies.holders();
        let mut why = Vec::new();
        for holder in holders {
            match self
                .prepare_from(&holder, work, &partition, old.as_ref())
                .await
            {
                Ok((scratch, prepared)) => return Ok((holder, scratch, prepared)),
                Err(reason) => why.push(format!("{}: {reason}", holder.name)),
            }
        }
        if why.is_empty() {
            return Err("no broker is known that could have it".to_owned());
        }
        Err(why.join("; "))
    }

    /// The old object's tail, if it is whole.
    async fn old(&self, work: &Work) -> Option<Old> {
        let entry = &work.entry;
        let from = Opened::tail_position(entry.object_data_bytes());
        if entry.object_bytes.saturating_sub(from) > MAX_TAIL {
            return None;
        }
        let read = self.store.get_range(&work.key, from..entry.object_bytes);
        let tail = read.await.ok()?;
        let object = Opened::parse(&tail, from, entry.object_bytes).ok()?;
        let slice = object.slice_at(entry.position())?.meta;
        let same = slice.at == work.at
            && slice.base_offset == entry.base
            && slice.end_offset == entry.object_end
            && slice.length == entry.data_bytes;
        same.then_some(Old { object, tail, from })
    }

    async fn prepare_from(
        &self,
        holder: &Holder,
        work: &Work,
        partition: &Partition,
        old: Option<&Old>,
    ) -> Result<(Scratch, Prepared), String> {
        let entry = work.entry;
        let scratch = Scratch::new(&self.scratch_dir, entry.data_bytes, self.tasks.clone())?;
        let range = Range {
            topic: work.topic.clone(),
            at: work.at,
            base: entry.base,
            end: entry.object_end,
        };
        self.copies.read(holder, &range, &scratch).await?;
        let bytes = scratch.length();
        if bytes != entry.data_bytes {
            return Err(format!("{bytes} bytes, it had {}", entry.data_bytes));
        }
        // A slice that shares its object does not begin at a block.
        if let Some(old) = old.filter(|_| entry.merged.is_none()) {
            scratch
                .compare(&old.object.blocks, &old.tail, old.from)
                .await?;
        }
        let slice = Slice {
            topic: work.topic.clone(),
            at: work.at,
            group: partition.group.clone(),
            region_epoch: partition.region_epoch,
            base: entry.base,
            end: entry.object_end,
            path: scratch.path.clone(),
            position: 0,
            bytes,
            inline: Bytes::new(),
            lineage: touching(&partition.lineage, entry.base, entry.object_end),
            producers: section(old, &entry, SectionKind::Producers),
            aborted: section(old, &entry, SectionKind::Aborted),
            log_start: partition.log_start,
            sparse: entry.is_sparse(),
        };
        let epoch = self
            .committer
            .root(work.shard)
            .map_or(0, |root| root.stamp.epoch);
        let writer = Writer {
            region: self.region.clone(),
            incarnation: self.incarnation,
            epoch,
            random: random::u64(),
            now_ms: self.clock.wall_ms(),
        };
        let prepared = self.tasks.blocking(move || prepare(&slice, &writer));
        let mut prepared = prepared.await.map_err(|e| e.to_string())?;
        let new = &mut prepared.commit.entry;
        if (new.records, new.leader_epoch, new.aborted)
            != (entry.records, entry.leader_epoch, entry.aborted)
        {
            return Err(format!(
                "{} records of epoch {}, it had {} of epoch {}",
                new.records, new.leader_epoch, entry.records, entry.leader_epoch
            ));
        }
        new.created_ms = entry.created_ms;
        Ok((scratch, prepared))
    }

    /// Uploads, verifies, and names the new object instead of the old one. Its key.
    async fn replace(&self, work: &Work, prepared: Prepared) -> Result<String, String> {
        let new = prepared.commit.entry;
        let key = new.key(&self.keys, work.shard, work.at);
        let op = self.ops.begin("repair", &key);
        let put = self.transfer.put(&key, &prepared.source, &op).await;
        put.map_err(|e| e.to_string())?;
        op.step("commit");
        let edit = Edit::Replace {
            at: work.at,
            old: Box::new(work.entry),
            new: Box::new(new),
        };
        if let Err(error) = self.committer.edit(work.shard, edit).await {
            // Nothing names it; the sweep of the next start finds it if this is not done.
            let unlink = Edit::Unlink(vec![key]);
            if let Err(error) = self.committer.edit(work.shard, unlink).await {
                tracing::warn!(%error, "an object that was not needed is left");
            }
            return Err(error.to_string());
        }
        let root = self.committer.root(work.shard);
        if !root.is_some_and(|root| root.reads_from(&self.keys, &work.key)) {
            self.quarantine.release(&work.key).await;
        }
        self.ops.meter().count(crate::metrics::REPAIRED_OBJECTS, 1);
        tracing::info!(old = %work.key, new = %key, "an object was repaired");
        Ok(key.to_string())
    }
}

fn section(old: Option<&Old>, entry: &Entry, kind: SectionKind) -> Bytes {
    let found = old.and_then(|old| {
        let section = old.object.slice_at(entry.position())?.meta.section(kind)?;
        let from = usize::try_from(section.position.checked_sub(old.from)?).ok()?;
        let end = from.checked_add(usize::try_from(section.length).ok()?)?;
        (end <= old.tail.len()).then(|| old.tail.slice(from..end))
    });
    found.unwrap_or_default()
}

/// Epoch starts that touch `base..end`.
fn touching(lineage: &[EpochStart], base: i64, end: i64) -> Vec<EpochStart> {
    let first = lineage
        .partition_point(|e| e.start_offset <= base)
        .saturating_sub(1);
    let rest = lineage.iter().skip(first);
    rest.take_while(|e| e.start_offset < end).copied().collect()
}
