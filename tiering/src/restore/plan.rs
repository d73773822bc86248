//! What a restore would bring back, and what it would not: put together from what was found. Pure.

mod build;

use std::collections::BTreeMap;

use serde::Serialize;
use uuid::Uuid;
use whimbrel_fleet::{GroupName, RegionName, TopicPartition};

use super::{Described, Extent, Open, Picked, Positions, Refused, Transactions};
use crate::store::Marker;

/// Epochs of the restored fleet begin so far above the highest that were found: leaders and homes may have changed
/// after the last description was written, and clients remember the epochs that they saw.
const ABOVE: i32 = 1_000;
/// Producer ids were given out, a block at a time, after the last description.
const IDS_ABOVE: i64 = 1_000_000;
/// So many transactions, remarks, and ranges that are missing are listed; all are counted.
const LISTED: usize = 1_000;

/// What was found in the bucket.
#[derive(Clone, Copy, Debug)]
pub struct Findings<'a> {
    pub marker: &'a Marker,
    pub asked_ms: Option<i64>,
    pub described: &'a Described,
    pub extents: &'a BTreeMap<TopicPartition, Extent>,
    pub chosen: &'a BTreeMap<GroupName, Chosen>,
    /// What the internal topics say; none where nobody looked.
    pub state: Option<(&'a Transactions, &'a [Positions])>,
    /// What could not be read on the way.
    pub unread: &'a [Missing],
    pub remarks: &'a [String],
}

/// The cut of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// None for a group that has neither transactions nor positions: its logs need no cut.
    pub cut: Option<Picked>,
    /// A newer one, which did not go up whole, and the first partition that it lacks.
    pub newer: Option<(i64, TopicPartition)>,
    /// A newer one that the roots have whole, and the first partition of which something is lost.
    pub lost: Option<(i64, TopicPartition)>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    pub fleet_id: String,
    pub region: String,
    /// Of the bucket that is read.
    pub incarnation: Uuid,
    pub asked_ms: Option<i64>,
    /// When the description that topics and users are taken from was written.
    pub described_ms: i64,
    pub view_version: u64,
    pub groups: Vec<Group>,
    pub topics: Vec<Topic>,
    pub totals: Totals,
    pub producer_ids: Epochs,
    pub users: usize,
    pub acls: usize,
    pub quotas: usize,
    pub state: Option<State>,
    /// Nothing of the cuts is missing, and no newer one is known that could have been.
    pub whole: bool,
    pub missing: Vec<Missing>,
    pub missing_ranges: usize,
    /// Of all those ranges whose bounds are known.
    pub missing_offsets: i64,
    pub remarks: Vec<String>,
    /// Over all of the above.
    pub hash: String,
}

/// The highest that was found, and the first that the restored fleet gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Epochs {
    pub found: i64,
    pub begins: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    pub name: GroupName,
    pub home: RegionName,
    pub region_epoch: Epochs,
    pub cut: Option<CutAt>,
    /// It did not go up whole.
    pub newer_cut: Option<NewerCut>,
    /// It did, and objects of it are missing: lost since, or not copied.
    pub lost_cut: Option<NewerCut>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CutAt {
    pub taken_ms: i64,
    /// Of its record.
    pub offset: i64,
    pub region_epoch: u32,
    pub partitions: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewerCut {
    pub taken_ms: i64,
    /// The first partition that is not wholly there.
    pub lacks: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Topic {
    pub name: String,
    pub id: Uuid,
    pub group: GroupName,
    pub internal: bool,
    pub replication_factor: i16,
    pub configs: BTreeMap<String, String>,
    pub partitions: Vec<Partition>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Partition {
    pub partition: i32,
    pub log_start: i64,
    /// Exclusive.
    pub end: i64,
    pub leader_epoch: Epochs,
    /// That hold it, some of them together with others.
    pub slices: usize,
    /// Of the records, with those above the cut in the last object.
    pub bytes: u64,
}

/// A range that does not come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Missing {
    pub code: &'static str,
    pub topic: String,
    pub partition: i32,
    pub from_offset: i64,
    /// Exclusive.
    pub to_offset: i64,
    pub what: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    pub topics: usize,
    pub partitions: usize,
    /// From the logs' starts to their ends.
    pub offsets: i64,
    /// Of records.
    pub bytes: u64,
    /// To be read, each once.
    pub objects: usize,
    pub object_bytes: u64,
}

/// What coordinators would find.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct State {
    pub groups: usize,
    pub positions: usize,
    /// Positions that lie above the end of their log.
    pub positions_ahead: usize,
    pub transactional_ids: usize,
    pub open: Vec<Open>,
    pub open_transactions: usize,
}

impl Plan {
    pub fn new(found: &Findings<'_>) -> Result<Self, Refused> {
        build::plan(found)
    }
}

impl Epochs {
    /// Begins above what was found, if there is room.
    fn above(what: &dyn Fn() -> String, found: i64, by: i64, most: i64) -> Result<Self, Refused> {
        let begins = found.checked_add(by).filter(|begins| *begins <= most);
        begins
            .map(|begins| Self { found, begins })
            .ok_or_else(|| Refused::NoEpoch {
                what: what(),
                found,
            })
    }
}

#[cfg(test)]
mod tests;
