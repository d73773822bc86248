//! Which segments of a partition may go up now, and what the daemon is told of each.

use std::{fs::File, ops::Range, os::unix::fs::FileExt, path::Path, sync::Arc};

use bytes::{Bytes, BytesMut};
use whimbrel_log::{AbortedTxn, Segment};
use whimbrel_rpc::proto::node::{EpochStart, OldestPending, Slice};

use super::Uploads;
use crate::{
    broker::Broker,
    log_starts,
    partition::{Feed, Partition, Role},
    segment_scan::{self, Scan},
};

/// Slices up to this size are handed out as bytes: a link and its file cost more than they do.
pub const SMALL: u64 = 256 << 10;

/// Offset up to which `partition` may be uploaded from here; `None` for nothing.
pub fn limit(partition: &Partition) -> Option<i64> {
    // With each slice the log start goes along.
    partition.log.offsets().known_log_start?;
    match partition.role() {
        Role::Leader(_) => Some(partition.last_stable_offset()),
        Role::Follower {
            feed: Feed::Home, ..
        } if partition.following.is_confirmed() => {
            // Above it a transaction's outcome is not known, and the list of aborted ones not whole.
            let durable_end = partition.log.offsets().durable_end;
            Some(partition.last_stable_offset().min(durable_end))
        }
        _ => None,
    }
}

/// Closed segments that hold something at or above `tiered_end` and end below the limit, oldest first.
pub fn due(partition: &Partition, tiered_end: i64) -> Vec<Segment> {
    let Some(limit) = limit(partition) else {
        return Vec::new();
    };
    closed(partition)
        .into_iter()
        .take_while(|s| s.end_offset <= limit)
        .filter(|s| s.end_offset > tiered_end && s.bytes > 0)
        .collect()
}

/// Where the next slice begins: at the bucket's end, also where compaction has left nothing there; but not below
/// the local log, whose hole would be hidden.
pub fn begin(partition: &Partition, tiered_end: i64) -> i64 {
    tiered_end.max(partition.log.offsets().local_log_start)
}

/// Closed segments, each with the end where the next one begins: what compaction has taken from the end of a
/// segment belongs to it.
pub fn closed(partition: &Partition) -> Vec<Segment> {
    let mut segments = partition.log.segments();
    for n in 1..segments.len() {
        segments[n - 1].end_offset = segments[n].base_offset;
    }
    segments.retain(|s| s.closed);
    segments
}

/// What is below the limit and in no bucket, for the age gauge.
pub fn pending(uploads: &Uploads, partition: &Partition, tiered_end: i64) -> Option<OldestPending> {
    let offsets = partition.log.offsets();
    let oldest = tiered_end.max(offsets.local_log_start);
    if oldest >= limit(partition)? {
        return None;
    }
    let bytes = partition
        .log
        .segments()
        .iter()
        .filter(|s| s.end_offset > oldest)
        .map(|s| s.bytes)
        .sum();
    Some(OldestPending {
        at: Some(partition.at.into()),
        append_time_ms: uploads.ages.of(partition, oldest)?,
        bytes,
    })
}

/// The part of the open segment that is committed and at or above `from`; `None` when there is none.
pub fn open_part(partition: &Partition, from: i64) -> Option<(Segment, i64)> {
    let limit = limit(partition)?;
    let mut segments = partition.log.segments();
    let open = segments.pop().filter(|s| !s.closed)?;
    // What lies in closed segments goes up by itself, and before this.
    let waits = segments.iter().any(|s| s.bytes > 0 && s.end_offset > from);
    (!waits && from < limit).then_some((open, limit))
}

/// Reads a small part of a segment, from `from` to `upto` or the batch boundary below it; `None` when it is
/// larger than [`SMALL`] or went away meanwhile.
pub fn read_out(partition: &Partition, segment: &Segment, from: i64, upto: i64) -> Option<Slice> {
    let read = || -> std::io::Result<Option<Slice>> {
        let mut scan = segment_scan::scan(&segment.path, from, upto, false)?;
        if scan.bytes == 0 || scan.bytes > SMALL || scan.end_offset > upto {
            return Ok(None);
        }
        let mut bytes = BytesMut::zeroed(usize::try_from(scan.bytes).unwrap_or(0));
        File::open(&segment.path)?.read_exact_at(&mut bytes, scan.position)?;
        let sparse = cover(&mut scan, segment, from..upto)?;
        let mut slice = slice(partition, segment, scan, sparse)?;
        slice.position = 0;
        slice.inline = bytes.freeze();
        Ok(Some(slice))
    };
    match read() {
        Ok(slice) => slice,
        Err(error) => {
            tracing::warn!(topic = partition.log.topic(), partition = partition.at.partition, from, %error, "a segment was not read");
            None
        }
    }
}

/// Pins the part of a segment at or above `tiered_end`, which may lie below it where nothing is between, and
/// describes it; `None` when it is out already or went away meanwhile.
pub fn hand_out(
    broker: &Broker,
    uploads: &Uploads,
    partition: &Arc<Partition>,
    segment: &Segment,
    tiered_end: i64,
    upto: i64,
) -> Option<Slice> {
    let from = tiered_end;
    let (token, dir) = uploads.reserve(partition.at, from, broker.clock.boot_ns())?;
    let pinned = pin(broker, partition, segment, from..upto, &dir);
    match pinned {
        Ok(slice) => Some(Slice { token, ..slice }),
        Err(error) => {
            tracing::warn!(topic = partition.log.topic(), partition = partition.at.partition, from, %error, "a segment was not pinned");
            uploads.release(&[token]);
            None
        }
    }
}

pub(super) fn pin(
    broker: &Broker,
    partition: &Partition,
    segment: &Segment,
    span: Range<i64>,
    dir: &Path,
) -> std::io::Result<Slice> {
    let log = &partition.log;
    std::fs::create_dir_all(dir)?;
    let pinned = log
        .pin(segment.base_offset, dir)
        .map_err(std::io::Error::other)?;
    let mut scan = segment_scan::scan(&pinned.log, span.start, span.end, false)?;
    if scan.end_offset > span.end {
        return Err(std::io::Error::other("a batch reaches over the limit"));
    }
    let sparse = cover(&mut scan, &pinned.segment, span)?;
    let path = pinned
        .log
        .strip_prefix(&broker.options.data_dir)
        .unwrap_or(&pinned.log)
        .display()
        .to_string();
    Ok(Slice {
        path,
        ..slice(partition, segment, scan, sparse)?
    })
}

/// Widens what was found to what it stands for, where compaction has taken records out at an edge: from the
/// beginning of `span`, and to its end where the segment has nothing more. True if it was widened.
fn cover(scan: &mut Scan, segment: &Segment, span: Range<i64>) -> std::io::Result<bool> {
    let found = scan.base_offset..scan.end_offset;
    scan.base_offset = found.start.min(span.start);
    if segment.closed && segment.end_offset <= span.end {
        // A file that ends early is not one that compaction has shortened.
        if scan.position + scan.bytes != segment.bytes {
            return Err(std::io::Error::other("the segment's file is not whole"));
        }
        scan.end_offset = span.end;
    }
    let sparse = (scan.base_offset..scan.end_offset) != found;
    if sparse {
        scan.offset_index.clear();
        scan.time_index.clear();
    }
    Ok(sparse)
}

/// All that is told of a slice but where its bytes are.
fn slice(
    partition: &Partition,
    segment: &Segment,
    scan: Scan,
    sparse: bool,
) -> std::io::Result<Slice> {
    let log = &partition.log;
    let region_epoch = partition.role().region_epoch().map_or(0, |e| e.0);
    let snapshot = segment
        .path
        .with_file_name(format!("{:020}.snapshot", scan.end_offset));
    let aborted = log
        .aborted(scan.base_offset, scan.end_offset)
        .map_err(std::io::Error::other)?;
    let producer_snapshot = match std::fs::read(snapshot) {
        // Written when the next segment was opened; gone once a newer one replaced it.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Bytes::new(),
        other => other?.into(),
    };
    Ok(Slice {
        topic: log.topic().to_owned(),
        at: Some(partition.at.into()),
        group: partition.home.group.to_string(),
        region_epoch,
        base_offset: scan.base_offset,
        end_offset: scan.end_offset,
        leader_epoch: scan.leader_epoch,
        position: scan.position,
        bytes: scan.bytes,
        first_timestamp_ms: scan.first_timestamp_ms,
        max_timestamp_ms: scan.max_timestamp_ms,
        records: scan.records,
        lineage: touching(partition, scan.base_offset, scan.end_offset),
        producer_snapshot,
        aborted: aborted
            .iter()
            .flat_map(txn_entry)
            .collect::<Vec<u8>>()
            .into(),
        offset_index: scan.offset_index.into(),
        time_index: scan.time_index.into(),
        // The root takes it for the bucket's.
        log_start: log_starts::told(partition),
        sparse,
        ..Slice::default()
    })
}

/// Epoch starts that touch `base..end`.
fn touching(partition: &Partition, base: i64, end: i64) -> Vec<EpochStart> {
    let epochs = partition.log.lineage();
    let first = epochs
        .partition_point(|e| e.start_offset <= base)
        .saturating_sub(1);
    let touching = epochs
        .iter()
        .skip(first)
        .take_while(|e| e.start_offset < end);
    touching
        .map(|e| EpochStart {
            epoch: e.epoch,
            start_offset: e.start_offset,
        })
        .collect()
}

/// An entry as in Kafka's `.txnindex`: i16 version 0, then producer id, first, last and last stable offset.
fn txn_entry(txn: &AbortedTxn) -> Vec<u8> {
    let mut entry = 0_i16.to_be_bytes().to_vec();
    for field in [
        txn.producer_id,
        txn.first_offset,
        txn.last_offset,
        txn.last_stable_offset,
    ] {
        entry.extend_from_slice(&field.to_be_bytes());
    }
    entry
}
