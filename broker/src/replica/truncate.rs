//! Takes an orphan tail off a log: first saved, then cut.
//!
//! The order is the promise (P6): links to the segment files, the tail durable in the bucket, the bucket's
//! own copy clipped, and only then the log. Whatever fails before leaves the log as it was. Where no
//! tiering daemon is configured the links stay in the data directory instead.

use std::{path::PathBuf, sync::Arc};

use whimbrel_fleet::{RegionEpoch, TopicPartition};
use whimbrel_log::{EpochStart, Offsets};
use whimbrel_rpc::{
    proto::node::{FilePart, OrphanRequest},
    replica::{FromSink, RefuseReason},
};

use crate::{
    broker::Broker,
    catalog::Catalog,
    orphans::{Batch, Tail},
    partition::{Partition, Role},
    reports::lineage,
    segment_scan,
};

/// Directory of exported tails below the data directory.
const ORPHANS: &str = "orphans";

pub async fn run(
    broker: &Arc<Broker>,
    at: TopicPartition,
    region_epoch: RegionEpoch,
    epoch: i32,
    offset: i64,
) -> FromSink {
    match truncate(broker, at, region_epoch, epoch, offset).await {
        Ok((lineage, orphan_records)) => FromSink::Truncated {
            at,
            lineage,
            orphan_records,
        },
        Err(reason) => FromSink::Refused { at, reason },
    }
}

async fn truncate(
    broker: &Arc<Broker>,
    at: TopicPartition,
    region_epoch: RegionEpoch,
    epoch: i32,
    offset: i64,
) -> Result<(whimbrel_fleet::Lineage, u64), RefuseReason> {
    let catalog = broker.catalog();
    let partition = Arc::clone(catalog.local(at).ok_or(RefuseReason::UnknownPartition)?);
    let group = catalog.group_of(at).ok_or(RefuseReason::UnknownPartition)?;
    // Only the home of the newest epoch known here may have anything cut. A planned move's fence does not
    // hinder it: a region that takes a group back may still be getting rid of its tail.
    let follows =
        matches!(partition.role(), Role::Follower { region_epoch: now, .. } if now == region_epoch);
    if region_epoch != group.epoch || !follows || partition.is_sealed() {
        return Err(RefuseReason::Fenced);
    }
    if partition.log.is_unread() {
        // It seems empty; neither it nor its copy in the bucket may be taken for that.
        return Err(RefuseReason::Damaged);
    }
    let offsets = partition.log.offsets();
    partition.following.unconfirm();
    let mut records = 0;
    // At home the leader holds whatever was acknowledged: what it lacks was not, and is nobody's loss.
    let unacknowledged = group.home == broker.region && offset >= partition.high_watermark();
    if group.home == broker.region && !unacknowledged && !unclean(&catalog, at) {
        tracing::error!(code = "WB-118", %at, offset, high_watermark = partition.high_watermark(), "the leader lacks records that were acknowledged; nothing is cut");
        return Err(RefuseReason::Damaged);
    }
    if offset < offsets.log_end && !unacknowledged {
        let tail = save(broker, &partition, region_epoch, epoch, offset).await?;
        records = tail.records;
        let name = (partition.log.topic(), at.partition);
        tracing::info!(
            topic = name.0,
            partition = name.1,
            offset,
            end = offsets.log_end,
            records,
            object = tail.object,
            "orphan tail saved"
        );
        broker.orphans.add(tail);
    }
    let to = match unacknowledged {
        true => offset,
        false => clip(broker, &partition, epoch, offset).await?,
    };
    let cut = Arc::clone(&partition);
    let done = broker.tasks.blocking(move || {
        let local_start = cut.log.offsets().local_log_start;
        if epoch < 0 {
            // Nothing of it is the home's, or all below was trimmed there.
            cut.log.reset(offset)
        } else if offset < local_start {
            cut.log.reset_local(to)
        } else {
            cut.log.truncate(epoch, offset)
        }
    });
    done.await.map_err(|error| {
        tracing::error!(%at, epoch, offset, %error, "the log was not truncated");
        RefuseReason::Damaged
    })?;
    partition.truncated();
    broker.report.notify_one();
    let end = partition.log.offsets().log_end;
    Ok((lineage(&partition, end), records))
}

/// Clips the bucket's copy; up to where it then holds what is below `offset`. Below the local log that is how far the
/// log is kept: what the bucket lacks comes again.
async fn clip(
    broker: &Broker,
    partition: &Partition,
    epoch: i32,
    offset: i64,
) -> Result<i64, RefuseReason> {
    let at = partition.at;
    let offsets = partition.log.offsets();
    let tail = tail_epoch(&partition.log.lineage(), &offsets, offset);
    let Some(tail) = tail.filter(|_| broker.cold.is_configured()) else {
        return Ok(offset);
    };
    let clipped = broker.cold.truncate(at, epoch, offset, tail).await.map_err(|error| {
        tracing::warn!(code = "WB-110", %at, %error, "the bucket's copy was not clipped; the tail stays for now");
        RefuseReason::OrphanNotStored
    })?;
    // Another lineage's end, above the cut, is not this log's.
    partition.set_tiered_end(partition.tiered_end().min(offset));
    let start = offsets.log_start.min(offset);
    Ok(offset.min(clipped.end_offset).max(start))
}

/// Of the first record that is cut; `None` where there is none.
fn tail_epoch(lineage: &[EpochStart], log: &Offsets, offset: i64) -> Option<i32> {
    let first = offset.max(log.log_start);
    let begun = lineage.partition_point(|e| e.start_offset <= first);
    let holder = lineage.get(begun.checked_sub(1)?)?;
    (first < log.log_end).then_some(holder.epoch)
}

/// The operator prefers a leader without some records to none: they are kept as a tail then.
fn unclean(catalog: &Catalog, at: TopicPartition) -> bool {
    let topic = catalog.topic_by_id(at.topic_id);
    topic.is_some_and(whimbrel_fleet::Topic::unclean_elections)
}

/// Makes the records at and above `offset` safe elsewhere.
async fn save(
    broker: &Arc<Broker>,
    partition: &Arc<Partition>,
    region_epoch: RegionEpoch,
    common_epoch: i32,
    offset: i64,
) -> Result<Tail, RefuseReason> {
    let (broker_, partition_) = (Arc::clone(broker), Arc::clone(partition));
    let linked = broker
        .tasks
        .blocking(move || link(&broker_, &partition_, region_epoch, offset))
        .await;
    let (dir, parts, mut tail) = linked.map_err(|error| {
        tracing::error!(at = %partition.at, %error, "an orphan tail cannot be read");
        RefuseReason::OrphanNotStored
    })?;
    if !broker.cold.is_configured() {
        tail.object = dir.display().to_string();
        return Ok(tail);
    }
    let request = OrphanRequest {
        topic: partition.log.topic().to_owned(),
        at: Some(partition.at.into()),
        group: partition.home.group.to_string(),
        region_epoch: region_epoch.0,
        common_epoch,
        from_offset: tail.from_offset,
        end_offset: tail.to_offset,
        parts,
        records: tail.records,
    };
    let stored = broker.cold.store_orphan(request).await.map_err(|error| {
        tracing::warn!(code = "WB-110", at = %partition.at, %error, "the orphan tail is not in the bucket yet; nothing is truncated");
        RefuseReason::OrphanNotStored
    })?;
    tail.object = stored.object;
    if let Err(error) = std::fs::remove_dir_all(&dir) {
        tracing::warn!(dir = %dir.display(), %error, "links to a stored orphan tail were not removed");
    }
    Ok(tail)
}

/// Links the segments that hold the tail, and walks it.
fn link(
    broker: &Broker,
    partition: &Partition,
    region_epoch: RegionEpoch,
    offset: i64,
) -> std::io::Result<(PathBuf, Vec<FilePart>, Tail)> {
    let log = &partition.log;
    let dir = broker.options.data_dir.join(ORPHANS).join(format!(
        "{}-{}-{}-{offset}",
        log.topic(),
        partition.at.partition,
        region_epoch
    ));
    match std::fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => std::fs::create_dir_all(&dir)?,
    }
    let end = log.offsets().log_end;
    let high_watermark = partition.high_watermark();
    let mut tail = Tail {
        topic: log.topic().to_owned(),
        at: partition.at,
        from_offset: offset,
        to_offset: end,
        records: 0,
        bytes: 0,
        object: String::new(),
        region_epoch,
        high_watermark,
        batches: Vec::new(),
    };
    let mut parts = Vec::new();
    for segment in log.segments().iter().filter(|s| s.end_offset > offset) {
        let pinned = log
            .pin(segment.base_offset, &dir)
            .map_err(std::io::Error::other)?;
        let scan = segment_scan::scan(&pinned.log, offset, end, true)?;
        if scan.bytes == 0 {
            continue;
        }
        let path = pinned
            .log
            .strip_prefix(&broker.options.data_dir)
            .unwrap_or(&pinned.log);
        parts.push(FilePart {
            path: path.display().to_string(),
            position: scan.position,
            length: scan.bytes,
        });
        tail.records = tail.records.saturating_add(scan.records);
        tail.bytes = tail.bytes.saturating_add(scan.bytes);
        tail.batches.extend(scan.headers.iter().map(Batch::from));
    }
    for directory in [Some(dir.as_path()), dir.parent()].into_iter().flatten() {
        std::fs::File::open(directory)?.sync_all()?;
    }
    Ok((dir, parts, tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_named_by_its_first_record() {
        let lineage = [(1, 10), (3, 20), (4, 30)].map(|(epoch, start_offset)| EpochStart {
            epoch,
            start_offset,
        });
        let log = Offsets {
            log_start: 10,
            known_log_start: Some(10),
            local_log_start: 25,
            durable_end: 40,
            log_end: 40,
        };
        let named = |offset| tail_epoch(&lineage, &log, offset);
        assert_eq!(
            (named(0), named(19), named(20)),
            (Some(1), Some(1), Some(3))
        );
        assert_eq!((named(29), named(39), named(40)), (Some(3), Some(4), None));
        assert_eq!(tail_epoch(&[], &log, 20), None);
    }
}
