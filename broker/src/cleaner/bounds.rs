//! How far a log may be cleaned here, and whose copy holds it up.

use whimbrel_fleet::RegionName;
use whimbrel_log::CleanBounds;

use crate::{
    broker::Broker,
    catalog::Catalog,
    partition::{Partition, Role},
};

/// How far every region but the home holds a partition durably.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// [`i64::MAX`] where no other region has a copy.
    pub end: i64,
    /// The region that holds no more, where it is known here.
    pub by: Option<RegionName>,
    /// Regions that stood still for too long to be waited for.
    pub left: Vec<RegionName>,
}

/// When it is, and for how long a region that stands still is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub boot_ns: u64,
    pub wall_ms: i64,
    pub most_ms: u64,
}

impl Patience {
    pub fn of(broker: &Broker) -> Self {
        let patience = broker.options.cleaner.region_patience.0.as_millis();
        Self {
            boot_ns: broker.clock.boot_ns(),
            wall_ms: broker.clock.wall_ms(),
            most_ms: u64::try_from(patience).unwrap_or(u64::MAX),
        }
    }

    /// A copy that came forward last at `moved_ns` lacks a record for longer than it is waited for. One that had
    /// everything until a moment ago has stood still for no longer than that.
    fn ended(self, partition: &Partition, end: i64, moved_ns: u64) -> bool {
        let still_ms = self.boot_ns.saturating_sub(moved_ns) / 1_000_000;
        if still_ms <= self.most_ms {
            return false;
        }
        // What lies below is only in the bucket, and older.
        let here = end.max(partition.log.offsets().local_log_start);
        let missing = partition.log.appended_by(here);
        let missing_ms = missing.map(|ms| self.wall_ms.saturating_sub(ms));
        missing_ms.is_some_and(|ms| u64::try_from(ms).is_ok_and(|ms| ms > self.most_ms))
    }
}

/// The home's leader hears it from the regions and tells everybody whom it feeds; who follows, in any
/// region, knows what it was told. Until somebody has spoken it is nothing.
pub fn held(catalog: &Catalog, partition: &Partition, patience: Patience) -> Held {
    let nothing = Held {
        end: 0,
        by: None,
        left: Vec::new(),
    };
    let Some((topic, placed)) = catalog.placed(partition.at) else {
        return nothing;
    };
    let home = catalog.view.group_of(topic).map(|group| &group.home);
    let mut elsewhere = placed
        .replicas
        .iter()
        .filter(|(region, nodes)| Some(*region) != home && !nodes.is_empty())
        .map(|(region, _)| region);
    match partition.role() {
        Role::Leader(_) => {
            let mut held = Held {
                end: i64::MAX,
                ..nothing
            };
            for region in elsewhere {
                let (end, moved_ns) = partition.stands(region);
                if patience.ended(partition, end, moved_ns) {
                    held.left.push(region.clone());
                } else if end < held.end {
                    (held.end, held.by) = (end, Some(region.clone()));
                }
            }
            held
        }
        Role::Follower { .. } => {
            // Which of several it is, the leader alone can name.
            let only = elsewhere.next().filter(|_| elsewhere.next().is_none());
            Held {
                end: partition.following.held_end(),
                by: only.cloned(),
                ..nothing
            }
        }
        Role::None => nothing,
    }
}

/// `bucket` says whether this region has one; a region is named while its copy is what holds the log up, and
/// those that are not waited for any more are told.
pub fn bounds(
    catalog: &Catalog,
    partition: &Partition,
    patience: Patience,
    bucket: bool,
    memory_bytes: u64,
) -> (CleanBounds, Option<RegionName>, Vec<RegionName>) {
    let offsets = partition.log.offsets();
    let stable = partition.last_stable_offset();
    let held = held(catalog, partition, patience);
    let mut upto = stable.min(held.end);
    if bucket {
        upto = upto.min(partition.tiered_end());
    }
    let whole = offsets.local_log_start == offsets.log_start;
    let bounds = CleanBounds {
        upto,
        tombstones_below: if whole { i64::MAX } else { 0 },
        memory_bytes,
    };
    let by = held.by.filter(|_| held.end < stable);
    (bounds, by, held.left)
}

#[cfg(test)]
mod tests;
