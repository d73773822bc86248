//! Topics: created, grown and deleted with Kafka's rules and error codes.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_fleet::{
    FailoverGroup, GroupName, NodeId, RegionName, Topic, TopicId,
    naming::{self, MAX_PARTITIONS},
};

use super::{Change, MorePartitions, NewTopic, Outcome, State, assign, kafka};

/// Kafka's `offsets.topic.replication.factor` and its kin: as many copies as a region has brokers for, up to
/// these.
pub(super) const INTERNAL_REPLICATION: i16 = 3;
/// Copies inside one region.
const MAX_REPLICATION: i16 = 32;
/// Configs of one topic, and the length of one key and value: they are in everybody's view.
const MAX_CONFIGS: usize = 64;
const MAX_CONFIG_KEY: usize = 128;
const MAX_CONFIG_VALUE: usize = 4_096;

impl State {
    pub(super) fn create_topic(&mut self, new: NewTopic) -> Change {
        if self
            .view
            .topics
            .get(&new.name)
            .is_some_and(|t| t.id == new.topic_id)
        {
            return Change::hidden(Outcome::Topic {
                topic_id: new.topic_id,
            });
        }
        let group = match self.check_create(&new) {
            Ok(group) => group,
            Err(refusal) => return Change::hidden(refusal),
        };
        let replication_factor = if new.internal {
            new.replication_factor.max(INTERNAL_REPLICATION)
        } else {
            new.replication_factor
        };
        let copies = usize::try_from(replication_factor).unwrap_or(1);
        let count = usize::try_from(new.partitions).unwrap_or(0);
        let partitions = (0..count)
            .map(|i| {
                let named = new.copies.get(i).map(Vec::as_slice);
                assign::partition(&self.view, group, (new.topic_id, i), copies, named)
            })
            .collect();
        let topic = Topic {
            group: group.name.clone(),
            name: new.name.clone(),
            id: new.topic_id,
            partitions,
            configs: new.configs,
            replication_factor,
            internal: new.internal,
        };
        self.view.topics.insert(new.name, topic);
        Change::shown(Outcome::Topic {
            topic_id: new.topic_id,
        })
    }

    /// Everything that could be refused, without creating; the group that the topic would belong to.
    pub fn check_create(&self, new: &NewTopic) -> Result<&FailoverGroup, Outcome> {
        let refuse = |code, message: String| Err(Outcome::kafka(code, message));
        if !naming::is_valid_topic(&new.name) {
            return refuse(kafka::INVALID_TOPIC_EXCEPTION, "topic names are 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-', and neither '.' nor '..'".to_owned());
        }
        if self.view.topics.contains_key(&new.name) {
            return refuse(
                kafka::TOPIC_ALREADY_EXISTS,
                format!("topic {} already exists", new.name),
            );
        }
        // Kafka's metric names do not tell '.' from '_', so two topics may not differ only by that.
        let flat = new.name.replace('.', "_");
        if let Some(other) = self
            .view
            .topics
            .keys()
            .find(|name| name.replace('.', "_") == flat)
        {
            return refuse(
                kafka::INVALID_TOPIC_EXCEPTION,
                format!("topic {} collides with {other}", new.name),
            );
        }
        if new.topic_id.is_nil()
            || self.deleted.contains(&new.topic_id)
            || self.view.topic_by_id(new.topic_id).is_some()
        {
            return refuse(
                kafka::INVALID_REQUEST,
                "the topic id is nil or was used before".to_owned(),
            );
        }
        if !(1..=MAX_PARTITIONS).contains(&new.partitions) {
            return refuse(
                kafka::INVALID_PARTITIONS,
                format!("a topic has 1 to {MAX_PARTITIONS} partitions"),
            );
        }
        check_configs(&new.configs)?;
        let Some(group) = self.view.groups.get(&GroupName::default_group()) else {
            return refuse(
                kafka::INVALID_REQUEST,
                "the fleet is not bootstrapped yet".to_owned(),
            );
        };
        let factor = new.replication_factor;
        let at_home = assign::brokers(&self.view, &group.home);
        let brokers = at_home.len();
        let copies = usize::try_from(factor).unwrap_or(0);
        if !(1..=MAX_REPLICATION).contains(&factor) || copies > brokers {
            return refuse(
                kafka::INVALID_REPLICATION_FACTOR,
                format!(
                    "replication factor {factor} counts copies inside one region: region {} has {brokers} brokers",
                    group.home
                ),
            );
        }
        let count = usize::try_from(new.partitions).unwrap_or(0);
        check_copies(&new.copies, count, copies, &at_home, &group.home)?;
        Ok(group)
    }

    pub(super) fn delete_topic(&mut self, name: &str) -> Change {
        match self.view.topics.get(name) {
            None => Change::hidden(Outcome::kafka(
                kafka::UNKNOWN_TOPIC_OR_PARTITION,
                format!("there is no topic {name}"),
            )),
            Some(topic) if topic.internal => Change::hidden(Outcome::kafka(
                kafka::INVALID_REQUEST,
                format!("{name} is internal and stays"),
            )),
            Some(topic) => {
                let topic_id = topic.id;
                self.deleted.insert(topic_id);
                self.view.topics.remove(name);
                self.view.note_deleted(topic_id);
                Change::shown(Outcome::Topic { topic_id })
            }
        }
    }

    /// Only bounds are checked here, as when the topic was created: a log must replay the same under any
    /// table of configs.
    pub(super) fn alter_topic_configs(
        &mut self,
        topic_id: TopicId,
        before: &BTreeMap<String, String>,
        after: BTreeMap<String, String>,
    ) -> Change {
        let Some(topic) = self.view.topics.values_mut().find(|t| t.id == topic_id) else {
            return Change::hidden(Outcome::kafka(
                kafka::UNKNOWN_TOPIC_OR_PARTITION,
                "the topic is gone",
            ));
        };
        if topic.configs == after {
            return Change::hidden(Outcome::Topic { topic_id });
        }
        if topic.configs != *before {
            return Change::hidden(Outcome::Stale);
        }
        if let Err(refusal) = check_configs(&after) {
            return Change::hidden(refusal);
        }
        topic.configs = after;
        Change::shown(Outcome::Topic { topic_id })
    }

    /// Everything that could be refused, without growing.
    pub fn check_partitions(
        &self,
        name: &str,
        total: i32,
        copies: &[Vec<NodeId>],
    ) -> Result<&Topic, Outcome> {
        let Some(topic) = self.view.topics.get(name) else {
            return Err(Outcome::kafka(
                kafka::UNKNOWN_TOPIC_OR_PARTITION,
                format!("there is no topic {name}"),
            ));
        };
        if topic.internal {
            return Err(Outcome::kafka(
                kafka::INVALID_REQUEST,
                format!("{name} is internal: its partition count is part of what it means"),
            ));
        }
        let now = topic.partitions.len();
        if total > MAX_PARTITIONS || usize::try_from(total).unwrap_or(0) <= now {
            return Err(Outcome::kafka(
                kafka::INVALID_PARTITIONS,
                format!(
                    "{name} has {now} partitions; it can only grow, to at most {MAX_PARTITIONS}"
                ),
            ));
        }
        if let Some(group) = self.view.group_of(topic) {
            let added = usize::try_from(total).unwrap_or(0).saturating_sub(now);
            let factor = usize::try_from(topic.replication_factor).unwrap_or(1);
            let at_home = assign::brokers(&self.view, &group.home);
            check_copies(copies, added, factor, &at_home, &group.home)?;
        }
        Ok(topic)
    }

    pub(super) fn create_partitions(&mut self, more: &MorePartitions) -> Change {
        let (name, total, named) = (more.name.as_str(), more.total, &more.copies);
        let (topic_id, now, factor, group) = match self.check_partitions(name, total, named) {
            Ok(topic) => (
                topic.id,
                topic.partitions.len(),
                topic.replication_factor,
                topic.group.clone(),
            ),
            Err(refusal) => return Change::hidden(refusal),
        };
        let Some(group) = self.view.groups.get(&group) else {
            return Change::hidden(Outcome::kafka(
                kafka::UNKNOWN_SERVER_ERROR,
                format!("topic {name} is in no failover group"),
            ));
        };
        let copies = usize::try_from(factor).unwrap_or(1);
        let total = usize::try_from(total).unwrap_or(now);
        let added: Vec<_> = (now..total)
            .map(|i| {
                let named = named.get(i - now).map(Vec::as_slice);
                assign::partition(&self.view, group, (topic_id, i), copies, named)
            })
            .collect();
        if let Some(topic) = self.view.topics.get_mut(name) {
            topic.partitions.extend(added);
        }
        Change::shown(Outcome::Topic { topic_id })
    }
}

/// Whether copies can be where they are asked for: `count` partitions with `factor` home copies each. Other
/// regions' copies are placed by the fleet.
fn check_copies(
    copies: &[Vec<NodeId>],
    count: usize,
    factor: usize,
    at_home: &[NodeId],
    home: &RegionName,
) -> Result<(), Outcome> {
    let refuse = |why| Err(Outcome::kafka(kafka::INVALID_REPLICA_ASSIGNMENT, why));
    if copies.is_empty() {
        return Ok(());
    }
    if copies.len() != count {
        let given = copies.len();
        return refuse(format!(
            "{count} partitions are to be made, and the copies of {given} are given"
        ));
    }
    for (at, nodes) in copies.iter().enumerate() {
        let distinct: BTreeSet<_> = nodes.iter().collect();
        if nodes.is_empty() || distinct.len() != nodes.len() {
            return refuse(format!(
                "copy list {at} does not name brokers, each of them once"
            ));
        }
        if nodes.len() != factor {
            let len = nodes.len();
            return refuse(format!(
                "copy list {at} has {len} brokers where {factor} are wanted"
            ));
        }
        if let Some(node) = nodes.iter().find(|node| !at_home.contains(node)) {
            return refuse(format!(
                "broker {node} is none of region {home}, where the topic is at home; copies elsewhere are placed by the fleet"
            ));
        }
    }
    Ok(())
}

pub(super) fn check_configs(configs: &BTreeMap<String, String>) -> Result<(), Outcome> {
    if configs.len() > MAX_CONFIGS {
        return Err(Outcome::kafka(
            kafka::INVALID_CONFIG,
            format!("more than {MAX_CONFIGS} configs"),
        ));
    }
    for (key, value) in configs {
        if key.is_empty() || key.len() > MAX_CONFIG_KEY || value.len() > MAX_CONFIG_VALUE {
            return Err(Outcome::kafka(
                kafka::INVALID_CONFIG,
                format!("config {key:.40} is longer than is kept"),
            ));
        }
        if key == "min.insync.replicas" && !value.parse::<i32>().is_ok_and(|n| n >= 1) {
            return Err(Outcome::kafka(
                kafka::INVALID_CONFIG,
                format!("min.insync.replicas is a number from 1, not {value:.40}"),
            ));
        }
    }
    Ok(())
}
