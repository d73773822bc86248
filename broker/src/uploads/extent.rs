//! What the bucket is said to hold of a partition, held against the log: nothing may be freed for it, nor go up behind
//! it, unless both are the same log. Two logs whose record at one offset is of one leader epoch are the same below it.

use whimbrel_log::EpochStart;
use whimbrel_rpc::proto::node::Extent;

use crate::partition::{Partition, Role};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    Ours,
    /// The bucket begins above what is here.
    Gap,
    /// Its last record is of another epoch than the one here.
    Differs,
    /// The log is not so far, or its lineage is not known there.
    Unknown,
}

pub fn held(partition: &Partition, extent: &Extent) -> Held {
    let offsets = partition.log.offsets();
    if extent.start_offset > offsets.local_log_start.max(offsets.log_start) {
        return Held::Gap;
    }
    // Nothing is held there, or nothing is known of it.
    let Some(epoch) = extent.end_epoch else {
        return Held::Ours;
    };
    let last = extent.end_offset.saturating_sub(1);
    let leads = matches!(partition.role(), Role::Leader(_));
    match epoch_of(&partition.log.lineage(), last) {
        Some(here) if here == epoch => Held::Ours,
        // Of a leader's log all epochs are known, also above its end.
        Some(_) if leads || last < offsets.log_end => Held::Differs,
        _ => Held::Unknown,
    }
}

fn epoch_of(lineage: &[EpochStart], offset: i64) -> Option<i32> {
    let begun = lineage.partition_point(|e| e.start_offset <= offset);
    Some(lineage.get(begun.checked_sub(1)?)?.epoch)
}
