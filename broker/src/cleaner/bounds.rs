//! How far a log may be cleaned here, and whose copy holds it up.
//!
//! A region that stands still for too long is only gone past as far as the controller has recorded that: whoever
//! leads after this broker then knows, too, from where its copy is not filled on.

use whimbrel_fleet::RegionName;
use whimbrel_log::CleanBounds;

use crate::{
    broker::Broker,
    catalog::Catalog,
    partition::{Partition, Role, Stand},
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
    /// `end` without those.
    pub end_of_others: i64,
}

/// A region is heard within seconds when it is there. A leader that is new gives it this long, whatever was recorded: home may
/// have been away itself.
const HEARD_MS: u64 = 600_000;

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

    /// The copy lacks a record for longer than it is waited for. One that had everything until a moment ago has stood
    /// still for no longer than that.
    fn ended(self, partition: &Partition, stand: Stand) -> bool {
        let longer = |ms: i64, most_ms| u64::try_from(ms).is_ok_and(|ms| ms > most_ms);
        if !longer(stand.still_ms, self.most_ms)
            || !longer(stand.heard_for_ms, self.most_ms.min(HEARD_MS))
        {
            return false;
        }
        // What lies below is only in the bucket, and older.
        let here = stand.end.max(partition.log.offsets().local_log_start);
        let missing = partition.log.appended_by(here);
        let missing_ms = missing.map(|ms| self.wall_ms.saturating_sub(ms));
        missing_ms.is_some_and(|ms| longer(ms, self.most_ms))
    }
}

/// The home's leader hears it from the regions and tells everybody whom it feeds; who follows, in any
/// region, knows what it was told. Until somebody has spoken it is nothing.
pub fn held(catalog: &Catalog, partition: &Partition, patience: Patience) -> Held {
    let nothing = Held {
        end: 0,
        by: None,
        left: Vec::new(),
        end_of_others: 0,
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
                end_of_others: i64::MAX,
                ..nothing
            };
            for region in elsewhere {
                let stand = partition.stands(region, patience.boot_ns);
                let recorded = placed.standing.get(region).and_then(|told| told.left_at);
                let left_at = stand.left_at.and_then(|upto| Some(upto.min(recorded?)));
                let end = stand.end.max(left_at.unwrap_or(0));
                if patience.ended(partition, stand) {
                    held.left.push(region.clone());
                } else {
                    held.end_of_others = held.end_of_others.min(end);
                }
                if end < held.end {
                    (held.end, held.by) = (end, Some(region.clone()));
                }
            }
            held
        }
        Role::Follower { .. } => {
            // Which of several it is, the leader alone can name.
            let only = elsewhere.next().filter(|_| elsewhere.next().is_none());
            let end = partition.following.held_end();
            Held {
                end,
                by: only.cloned(),
                left: Vec::new(),
                end_of_others: end,
            }
        }
        Role::None => nothing,
    }
}

/// What there is to be cleaned.
#[derive(Debug)]
pub struct Found {
    pub bounds: CleanBounds,
    /// Whose copy is what holds the log up.
    pub by: Option<RegionName>,
    /// Those that are not to be waited for any more, and how far they hold nothing up.
    pub left: Vec<RegionName>,
    pub upto_without: i64,
}

/// `bucket` says whether this region has one.
pub fn bounds(
    catalog: &Catalog,
    partition: &Partition,
    patience: Patience,
    bucket: bool,
    memory_bytes: u64,
) -> Found {
    let offsets = partition.log.offsets();
    let stable = partition.last_stable_offset();
    let held = held(catalog, partition, patience);
    let most = if bucket {
        stable.min(partition.tiered_end())
    } else {
        stable
    };
    let whole = offsets.local_log_start == offsets.log_start;
    let bounds = CleanBounds {
        upto: most.min(held.end),
        tombstones_below: if whole { i64::MAX } else { 0 },
        memory_bytes,
    };
    Found {
        bounds,
        by: held.by.filter(|_| held.end < stable),
        left: held.left,
        upto_without: most.min(held.end_of_others),
    }
}

#[cfg(test)]
mod tests;
