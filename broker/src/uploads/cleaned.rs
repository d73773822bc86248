//! What compaction has left of a log, for the bucket to hold instead of what it was: all of it at once and of one
//! state. Parts of two states do not go together, for one may have what the other lacks the tombstone of.

use std::sync::Arc;

use whimbrel_log::Segment;
use whimbrel_rpc::proto::node::{CleanedSegment, Slice};

use super::slice;
use crate::{broker::Broker, partition::Partition};

/// Segments handed out at once: a TiB of the usual ones, and answers stay small.
const MOST: usize = 1_024;

/// Closed segments that compaction has looked at and that may go up from here.
///
/// Where cuts are taken the bucket keeps internal topics as they were written: at an older cut a group stands where its
/// last commit below it says, which a newer one has taken out of the cleaned log.
fn segments(broker: &Broker, partition: &Partition) -> Vec<Segment> {
    let cuts = !broker.options.cut_interval.0.is_zero();
    let kept = cuts && partition.log.topic().starts_with("__");
    if kept || !partition.log.config().cleanup_policy.compact {
        return Vec::new();
    }
    let Some(limit) = slice::limit(partition) else {
        return Vec::new();
    };
    let clean_end = partition.log.clean_end();
    let mut segments = slice::closed(partition);
    // The end of a segment is that of the next one's beginning, which compaction need not have reached: what it
    // has taken from the end is below both.
    let usable = segments.partition_point(|s| s.base_offset < clean_end && s.end_offset <= limit);
    segments.truncate(usable);
    segments
}

/// The same, as the daemon is told.
pub fn told(broker: &Broker, partition: &Partition) -> Vec<CleanedSegment> {
    let told = |s: Segment| CleanedSegment {
        base_offset: s.base_offset,
        end_offset: s.end_offset,
        bytes: s.bytes,
    };
    segments(broker, partition).into_iter().map(told).collect()
}

/// Pins all segments up to `end`. The first slice begins at `base`, where the bucket's part does.
pub fn hand_out(
    broker: &Broker,
    partition: &Arc<Partition>,
    base: i64,
    end: i64,
) -> Result<Vec<Slice>, String> {
    let offsets = partition.log.offsets();
    if offsets.known_log_start.is_none() {
        return Err("where the log begins is not known now".to_owned());
    }
    if base >= end || base.max(offsets.log_start) < offsets.local_log_start {
        return Err(format!("the log does not hold all of {base}..{end}"));
    }
    let below = || {
        let mut all = segments(broker, partition);
        all.retain(|s| s.end_offset <= end);
        all
    };
    let all = below();
    if all.last().is_none_or(|last| last.end_offset != end) {
        return Err(format!("no cleaned segment ends at {end}"));
    }
    let mut full: Vec<&Segment> = all.iter().filter(|s| s.bytes > 0).collect();
    if full.is_empty() || full.len() > MOST {
        return Err(format!("{} segments have records", full.len()));
    }
    let uploads = &broker.uploads;
    let (token, dir) = uploads
        .reserve(partition.at, base, broker.clock.boot_ns())
        .ok_or("it is handed out already")?;
    let last = full.pop();
    let mut from = base;
    let ends = full.into_iter().map(|s| (s, s.end_offset));
    let slices = ends
        .chain(last.map(|s| (s, end)))
        .map(|(segment, upto)| {
            let span = std::mem::replace(&mut from, upto)..upto;
            let slice = slice::pin(broker, partition, segment, span, &dir);
            slice.map(|slice| Slice { token, ..slice })
        })
        .collect::<Result<Vec<Slice>, _>>()
        .map_err(|e| e.to_string())
        .and_then(|slices| {
            // A cleaning that ended meanwhile has left the pins in two states.
            let same = below() == all;
            same.then_some(slices)
                .ok_or_else(|| "the log was cleaned meanwhile".to_owned())
        });
    if slices.is_err() {
        uploads.release(&[token]);
    }
    slices
}
