//! The first record at or after a timestamp in what the bucket holds.

use whimbrel_fleet::TopicPartition;
use whimbrel_wire::{Batch, codec::Limits, record::records};

use super::{ReadError, Reader, scan::Scan};
use crate::root::{Entry, Root};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamped {
    pub offset: i64,
    pub timestamp_ms: i64,
    pub leader_epoch: i32,
}

impl Reader {
    pub async fn offset_for_timestamp(
        &self,
        at: TopicPartition,
        timestamp_ms: i64,
    ) -> Result<Option<Stamped>, ReadError> {
        self.refuse_sick(at)?;
        let Some(root) = self.roots.root_of(at) else {
            return Ok(None);
        };
        let Some(partition) = root.partitions.get(&at) else {
            return Ok(None);
        };
        let start = partition.start();
        for run in &partition.runs {
            if run.max_timestamp_ms >= timestamp_ms {
                let entries = self.roots.runs().read(run).await?;
                let found = self.in_entries(&root, at, &entries, start, timestamp_ms);
                if let Some(found) = found.await? {
                    return Ok(Some(found));
                }
            }
        }
        self.in_entries(&root, at, &partition.entries, start, timestamp_ms)
            .await
    }

    async fn in_entries(
        &self,
        root: &Root,
        at: TopicPartition,
        entries: &[Entry],
        start: i64,
        timestamp_ms: i64,
    ) -> Result<Option<Stamped>, ReadError> {
        let may_hold = |e: &&Entry| e.max_timestamp_ms >= timestamp_ms && e.end > start;
        for entry in entries.iter().filter(may_hold) {
            let key = entry.key(&self.keys, root.shard, at);
            let object = self.objects.open(&key, entry).await?;
            let scan = Scan::new(&self.blocks, &key, &object, (at, entry))?;
            if let Some(found) = in_object(&scan, entry, start, timestamp_ms).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

async fn in_object(
    scan: &Scan<'_>,
    entry: &Entry,
    start: i64,
    timestamp_ms: i64,
) -> Result<Option<Stamped>, ReadError> {
    let Some(position) = scan.index().for_timestamp(timestamp_ms) else {
        return Ok(None);
    };
    let mut walk = scan.walk(entry.position().saturating_add(position.into()));
    while let Some(header) = walk.next().await? {
        if header.base_offset >= entry.end {
            return Ok(None);
        }
        if header.max_timestamp >= timestamp_ms && header.last_offset() >= start {
            let mut bytes = walk.bytes(header.size() as u64).await?;
            let batch = Batch::take(&mut bytes).map_err(|e| ReadError::damaged(scan.key, e))?;
            for record in
                records(&batch, Limits::default()).map_err(|e| ReadError::damaged(scan.key, e))?
            {
                let record = record.map_err(|e| ReadError::damaged(scan.key, e))?;
                if record.timestamp_ms >= timestamp_ms
                    && record.offset >= start
                    && record.offset < entry.end
                {
                    return Ok(Some(Stamped {
                        offset: record.offset,
                        timestamp_ms: record.timestamp_ms,
                        leader_epoch: header.partition_leader_epoch,
                    }));
                }
            }
        }
        walk.skip(&header);
    }
    Ok(None)
}
