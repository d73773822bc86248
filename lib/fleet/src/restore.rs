//! A fleet that is being filled from a bucket, and what it is told of the one that it begins again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    GroupName, LeaderEpoch, LossMode, OffsetsBlock, RegionEpoch, RegionName, TopicId,
    TopicPartition, acl::Acls, credential::Credentials, quota::Quota, resource_config::Configs,
};

/// Longest description, as JSON: some 200,000 partitions. It is one commit, and a command of the controllers has 5 MiB.
pub const MOST_BYTES: usize = (5 << 20) - (64 << 10);

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

impl Description {
    /// Topics whose `min.insync.replicas` a region with so many brokers cannot give, with what they ask for and the copies that
    /// there would be: nobody could write to them with acks=all, so no group comes home with one.
    pub fn short_of_copies(&self, brokers: usize) -> Vec<(&str, usize, usize)> {
        let of_all = self.configs.of_all(MIN_INSYNC);
        let short = |topic: &'_ Topic| {
            let own = topic.configs.get(MIN_INSYNC).and_then(|v| v.parse().ok());
            let wanted: usize = own.or(of_all.filter(|_| !topic.internal)).unwrap_or(1);
            let copies = usize::try_from(topic.replication_factor)
                .unwrap_or(0)
                .min(brokers);
            (copies < wanted).then_some((wanted, copies))
        };
        let all = self.topics.iter();
        all.filter_map(|topic| {
            short(topic).map(|(wanted, copies)| (topic.name.as_str(), wanted, copies))
        })
        .collect()
    }

    /// Has those topics ask for what there is, but for one copy at least.
    pub fn lower_copies(&mut self, brokers: usize) {
        let short: BTreeMap<_, _> = self
            .short_of_copies(brokers)
            .into_iter()
            .map(|(name, _, copies)| (name.to_owned(), copies.max(1)))
            .collect();
        for topic in &mut self.topics {
            if let Some(copies) = short.get(&topic.name) {
                topic
                    .configs
                    .insert(MIN_INSYNC.to_owned(), copies.to_string());
            }
        }
    }
}

const MIN_INSYNC: &str = "min.insync.replicas";

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

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str, copies: i16, own: Option<&str>) -> Topic {
        let own = own.map(|value| (MIN_INSYNC.to_owned(), value.to_owned()));
        Topic {
            name: name.into(),
            id: TopicId::from_u128(1),
            group: GroupName::default_group(),
            internal: name.starts_with("__"),
            replication_factor: copies,
            configs: own.into_iter().collect(),
            partitions: Vec::new(),
        }
    }

    #[test]
    fn topics_that_ask_for_more_copies_than_there_are_brokers_are_named_and_lowered() {
        let mut description = Description {
            topics: vec![
                topic("a", 3, Some("2")),
                topic("b", 3, Some("1")),
                topic("c", 3, None),
                topic("d", 1, Some("2")),
                topic("__e", 3, None),
            ],
            ..Description::default()
        };
        assert_eq!(description.short_of_copies(2), [("d", 2, 1)]);
        assert_eq!(description.short_of_copies(1), [("a", 2, 1), ("d", 2, 1)]);
        let all = serde_json::json!({"of_brokers": {MIN_INSYNC: "2"}});
        description.configs = serde_json::from_value(all).unwrap();
        let short = [("a", 2, 1), ("c", 2, 1), ("d", 2, 1)];
        assert_eq!(description.short_of_copies(1), short);
        description.lower_copies(1);
        assert_eq!(description.short_of_copies(1), []);
        let set: Vec<_> = description
            .topics
            .iter()
            .map(|t| t.configs.get(MIN_INSYNC).map(String::as_str))
            .collect();
        assert_eq!(set, [Some("1"), Some("1"), Some("1"), Some("1"), None]);
    }
}
