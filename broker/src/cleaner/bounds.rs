//! How far a log may be cleaned here, and whose copy holds it up.

use whimbrel_fleet::RegionName;
use whimbrel_log::CleanBounds;

use crate::{
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
}

/// The home's leader hears it from the regions and tells everybody whom it feeds; who follows, in any
/// region, knows what it was told. Until somebody has spoken it is nothing.
pub fn held(catalog: &Catalog, partition: &Partition) -> Held {
    let Some((topic, placed)) = catalog.placed(partition.at) else {
        return Held { end: 0, by: None };
    };
    let home = catalog.view.group_of(topic).map(|group| &group.home);
    let mut elsewhere = placed
        .replicas
        .iter()
        .filter(|(region, nodes)| Some(*region) != home && !nodes.is_empty())
        .map(|(region, _)| region);
    match partition.role() {
        Role::Leader(_) => elsewhere
            .map(|region| (partition.remote_end(region), region))
            .min()
            .map_or(
                Held {
                    end: i64::MAX,
                    by: None,
                },
                |(end, region)| Held {
                    end,
                    by: Some(region.clone()),
                },
            ),
        Role::Follower { .. } => {
            // Which of several it is, the leader alone can name.
            let only = elsewhere.next().filter(|_| elsewhere.next().is_none());
            Held {
                end: partition.following.held_end(),
                by: only.cloned(),
            }
        }
        Role::None => Held { end: 0, by: None },
    }
}

/// `bucket` says whether this region has one; a region is named while its copy is what holds the log up.
pub fn bounds(
    catalog: &Catalog,
    partition: &Partition,
    bucket: bool,
    memory_bytes: u64,
) -> (CleanBounds, Option<RegionName>) {
    let offsets = partition.log.offsets();
    let stable = partition.last_stable_offset();
    let held = held(catalog, partition);
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
    (bounds, held.by.filter(|_| held.end < stable))
}

#[cfg(test)]
mod tests;
