//! A fleet that is being filled from a bucket, and what it is told of the one that it begins again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    GroupName, LeaderEpoch, LossMode, OffsetsBlock, RegionEpoch, RegionName, TopicId,
    TopicPartition, acl::Acls, credential::Credentials, quota::Quota, resource_config::Configs,
};

/// Stands from the commit that put the description of another fleet into an empty one until all of its logs are there
/// and at home. Meanwhile `region` is lost and the home of every group, and its logs come from whoever serves the
/// bucket at `address`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    /// Told apart from every other by it; chosen by whoever began.
    pub job: String,
    /// The region whose part of the bucket is read.
    pub region: RegionName,
    /// Of the plan: what it names is what comes.
    pub hash: String,
    /// Wall clock of its beginning; for people only.
    pub at_ms: i64,
    /// `HOST:PORT` of the replica stream over the bucket. It moves when another process takes the work over.
    pub address: String,
}

/// A fleet without its machines, as it is to begin again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Description {
    pub groups: Vec<Group>,
    /// The internal ones too, but for the cuts: the restored fleet takes its own.
    pub topics: Vec<Topic>,
    /// Never to be given to a topic again.
    pub deleted: Vec<TopicId>,
    /// The first that may be given.
    pub producer_ids: i64,
    pub quotas: Vec<Quota>,
    pub configs: Configs,
    pub acls: Acls,
    pub credentials: Credentials,
}

/// A failover group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    pub name: GroupName,
    /// The first that the restored fleet gives, when the group comes home.
    pub epoch: RegionEpoch,
    pub lease_ms: u64,
    pub loss_mode: LossMode,
    pub offsets: OffsetsBlock,
    pub transactions: OffsetsBlock,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    pub name: String,
    pub id: TopicId,
    pub group: GroupName,
    pub internal: bool,
    pub replication_factor: i16,
    pub configs: BTreeMap<String, String>,
    pub partitions: Vec<Partition>,
}

/// Where a log begins and ends, in offsets. Written as a list: a fleet has many of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(i32, i64, i64)", into = "(i32, i64, i64)")]
pub struct Partition {
    /// The first that the restored fleet gives.
    pub leader_epoch: LeaderEpoch,
    pub log_start: i64,
    /// Exclusive.
    pub end: i64,
}

impl From<(i32, i64, i64)> for Partition {
    fn from((epoch, log_start, end): (i32, i64, i64)) -> Self {
        Self {
            leader_epoch: LeaderEpoch(epoch),
            log_start,
            end,
        }
    }
}

impl From<Partition> for (i32, i64, i64) {
    fn from(of: Partition) -> Self {
        (of.leader_epoch.0, of.log_start, of.end)
    }
}

/// How far a restore is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// The one that stands; none before and after.
    pub restore: Option<Restore>,
    /// Job and plan of the last that came to its end here.
    pub ended: Option<(String, String)>,
    /// The region that its groups come home to.
    pub to: RegionName,
    pub groups: Vec<GroupName>,
    pub partitions: usize,
    /// Partitions whose copies there all reach the plan's end.
    pub there: usize,
    pub offsets: u64,
    /// Of the copies that are furthest behind.
    pub offsets_there: u64,
    /// The first few that are not there: where they are to end, and where the copy that is furthest behind ends, if
    /// its broker says.
    pub behind: Vec<(TopicPartition, i64, Option<i64>)>,
}
