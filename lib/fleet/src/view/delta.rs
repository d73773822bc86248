//! What is different in a later view, so that a fleet of many partitions is not sent again for each topic that is made.
//!
//! A delta is made between any two views, however far apart, and applies to the earlier one alone. Fields that are
//! small or rarely change go whole; nodes, groups and topics by their keys, and partitions by their numbers.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};

use super::{Daemon, FailoverGroup, Node, Partition, Region, Topic, View};
use crate::{
    GroupName, NodeId, RegionName, Restore, TopicId, acl::Acls, credential::Credentials,
    quota::Quota, resource_config::Configs,
};

/// Why a delta was not applied: the whole view has to be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    #[error("it is made for version {from}, not for {version}")]
    Base { from: u64, version: u64 },
    #[error("it names a partition that the earlier view does not have")]
    Partition,
    #[error("more topics were deleted than the earlier view knows")]
    Deleted,
}

/// Entries of a map that are new or different, and those that are gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entries<K: Ord, V> {
    #[serde(default = "BTreeMap::new", skip_serializing_if = "BTreeMap::is_empty")]
    set: BTreeMap<K, V>,
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    gone: Vec<K>,
}

impl<K: Ord, V> Default for Entries<K, V> {
    fn default() -> Self {
        Self {
            set: BTreeMap::new(),
            gone: Vec::new(),
        }
    }
}

impl<K: Ord + Clone, V: PartialEq + Clone> Entries<K, V> {
    fn between(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> Self {
        let different = new
            .iter()
            .filter(|(key, value)| old.get(key) != Some(value));
        let gone = old.keys().filter(|key| !new.contains_key(key));
        Self {
            set: different.map(|(k, v)| (k.clone(), v.clone())).collect(),
            gone: gone.cloned().collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.set.is_empty() && self.gone.is_empty()
    }

    fn apply(self, to: &mut BTreeMap<K, V>) {
        for key in &self.gone {
            to.remove(key);
        }
        to.extend(self.set);
    }
}

/// The difference between two views.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Delta {
    /// Version of the earlier view.
    pub from: u64,
    /// Version of the later one.
    pub version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    regions: Option<BTreeMap<RegionName, Region>>,
    #[serde(skip_serializing_if = "Entries::is_empty")]
    nodes: Entries<NodeId, Node>,
    #[serde(skip_serializing_if = "Option::is_none")]
    daemons: Option<Vec<Daemon>>,
    #[serde(skip_serializing_if = "Entries::is_empty")]
    groups: Entries<GroupName, FailoverGroup>,
    #[serde(skip_serializing_if = "Entries::is_empty")]
    topics: Entries<String, Topic>,
    /// By topic and number, of topics of which nothing else is different.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    partitions: BTreeMap<String, BTreeMap<usize, Partition>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fenced: Option<BTreeSet<NodeId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quotas: Option<Vec<Quota>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    configs: Option<Configs>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acls: Option<Acls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    credentials: Option<Credentials>,
    /// How many of the oldest are forgotten, and which come behind the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<(usize, Vec<TopicId>)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    producer_ids: Option<i64>,
    /// `null` for one that is over.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    restore: Option<Option<Restore>>,
}

impl Delta {
    #[must_use]
    pub fn between(old: &View, new: &View) -> Self {
        // A field that is added to the view is missed here by name.
        let View {
            version,
            fleet_id,
            regions,
            nodes,
            daemons,
            groups,
            topics,
            fenced,
            quotas,
            configs,
            acls,
            credentials,
            deleted,
            producer_ids,
            restore,
        } = new;
        let mut changed = Entries::between(&old.topics, topics);
        let mut partitions = BTreeMap::new();
        changed.set.retain(|name, topic| {
            let Some(few) = old.topics.get(name).and_then(|was| few(was, topic)) else {
                return true;
            };
            partitions.insert(name.clone(), few);
            false
        });
        Self {
            from: old.version,
            version: *version,
            fleet_id: different(&old.fleet_id, fleet_id),
            regions: different(&old.regions, regions),
            nodes: Entries::between(&old.nodes, nodes),
            daemons: different(&old.daemons, daemons),
            groups: Entries::between(&old.groups, groups),
            topics: changed,
            partitions,
            fenced: different(&old.fenced, fenced),
            quotas: different(&old.quotas, quotas),
            configs: different(&old.configs, configs),
            acls: different(&old.acls, acls),
            credentials: different(&old.credentials, credentials),
            deleted: shifted(&old.deleted, deleted),
            producer_ids: different(&old.producer_ids, producer_ids),
            restore: different(&old.restore, restore),
        }
    }

    /// The later view.
    ///
    /// # Errors
    /// [`DeltaError`]: it was made for another view.
    pub fn apply(self, base: &View) -> Result<View, DeltaError> {
        let (from, version) = (self.from, base.version);
        if from != version {
            return Err(DeltaError::Base { from, version });
        }
        let mut view = base.clone();
        view.version = self.version;
        for (name, few) in self.partitions {
            let topic = view.topics.get_mut(&name).ok_or(DeltaError::Partition)?;
            for (number, partition) in few {
                let was = topic.partitions.get_mut(number);
                *was.ok_or(DeltaError::Partition)? = partition;
            }
        }
        self.nodes.apply(&mut view.nodes);
        self.groups.apply(&mut view.groups);
        self.topics.apply(&mut view.topics);
        replace(&mut view.fleet_id, self.fleet_id);
        replace(&mut view.regions, self.regions);
        replace(&mut view.daemons, self.daemons);
        replace(&mut view.fenced, self.fenced);
        replace(&mut view.quotas, self.quotas);
        replace(&mut view.configs, self.configs);
        replace(&mut view.acls, self.acls);
        replace(&mut view.credentials, self.credentials);
        replace(&mut view.producer_ids, self.producer_ids);
        replace(&mut view.restore, self.restore);
        if let Some((forgotten, added)) = self.deleted {
            if forgotten > view.deleted.len() {
                return Err(DeltaError::Deleted);
            }
            view.deleted.drain(..forgotten);
            view.deleted.extend(added);
        }
        Ok(view)
    }
}

fn different<T: PartialEq + Clone>(old: &T, new: &T) -> Option<T> {
    (old != new).then(|| new.clone())
}

fn replace<T>(old: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *old = new;
    }
}

/// A field that is there, and may be `null`.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    value: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}

/// The partitions that are different, if the topics are the same otherwise.
fn few(old: &Topic, new: &Topic) -> Option<BTreeMap<usize, Partition>> {
    let Topic {
        name,
        id,
        group,
        partitions,
        configs,
        replication_factor,
        internal,
    } = new;
    let same = (name, id, group, configs) == (&old.name, &old.id, &old.group, &old.configs)
        && (replication_factor, internal) == (&old.replication_factor, &old.internal)
        && partitions.len() == old.partitions.len();
    same.then(|| {
        let pairs = partitions.iter().zip(&old.partitions).enumerate();
        pairs
            .filter(|(_, (new, old))| new != old)
            .map(|(number, (new, _))| (number, new.clone()))
            .collect()
    })
}

fn shifted(old: &[TopicId], new: &[TopicId]) -> Option<(usize, Vec<TopicId>)> {
    if old == new {
        return None;
    }
    // At the latest, with nothing kept of the old.
    let forgotten = (0..old.len())
        .find(|first| old.get(*first..).is_some_and(|kept| new.starts_with(kept)))
        .unwrap_or(old.len());
    let kept = old.len().saturating_sub(forgotten);
    Some((forgotten, new.get(kept..).unwrap_or_default().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(version: u64, topics: impl IntoIterator<Item = Topic>) -> View {
        View {
            version,
            topics: topics.into_iter().map(|t| (t.name.clone(), t)).collect(),
            ..View::default()
        }
    }

    fn topic(name: &str, partitions: usize) -> Topic {
        Topic {
            name: name.into(),
            id: TopicId::nil(),
            group: GroupName::default_group(),
            partitions: vec![Partition::default(); partitions],
            configs: BTreeMap::new(),
            replication_factor: 1,
            internal: false,
        }
    }

    #[test]
    fn of_a_large_topic_only_what_changed_goes() {
        let old = view(3, [topic("t", 1_000)]);
        let mut new = view(4, [topic("t", 1_000)]);
        new.topics.get_mut("t").unwrap().partitions[7].isr = vec![NodeId(1)];
        let delta = Delta::between(&old, &new);
        let text = serde_json::to_string(&delta).unwrap();
        assert!(text.len() < 500, "{text}");
        let read: Delta = serde_json::from_str(&text).unwrap();
        assert_eq!(read.apply(&old).unwrap(), new);
    }

    #[test]
    fn it_applies_to_the_view_it_was_made_from_and_to_no_other() {
        let (old, new) = (view(3, [topic("t", 2)]), view(5, [topic("u", 1)]));
        let delta = Delta::between(&old, &new);
        assert_eq!(delta.clone().apply(&old), Ok(new));
        let wrong = DeltaError::Base {
            from: 3,
            version: 4,
        };
        assert_eq!(delta.apply(&view(4, [])), Err(wrong));
        let lies = Delta {
            partitions: BTreeMap::from([("t".into(), BTreeMap::from([(2, Partition::default())]))]),
            ..Delta::between(&old, &old)
        };
        assert_eq!(lies.apply(&old), Err(DeltaError::Partition));
    }

    #[test]
    fn a_restore_comes_moves_and_is_over() {
        let restore = |address: &str| Restore {
            job: "j".into(),
            region: "gone".into(),
            hash: "h".into(),
            at_ms: 1,
            address: address.into(),
        };
        let steps = [None, Some(restore("a:1")), Some(restore("b:2")), None, None];
        for pair in steps.windows(2) {
            let (mut before, mut after) = (view(1, []), view(2, []));
            (before.restore, after.restore) = (pair[0].clone(), pair[1].clone());
            let text = serde_json::to_string(&Delta::between(&before, &after)).unwrap();
            let read: Delta = serde_json::from_str(&text).unwrap();
            assert_eq!(read.apply(&before), Ok(after), "{text}");
        }
    }

    #[test]
    fn deleted_topics_are_forgotten_in_front_and_added_behind() {
        let ids = |range: std::ops::Range<u128>| range.map(TopicId::from_u128).collect::<Vec<_>>();
        for (old, new) in [
            (0..5, 2..7),
            (0..5, 0..5),
            (0..0, 0..3),
            (0..3, 7..9),
            (0..3, 0..0),
        ] {
            let (mut before, mut after) = (view(1, []), view(2, []));
            (before.deleted, after.deleted) = (ids(old), ids(new));
            let delta = Delta::between(&before, &after);
            assert_eq!(delta.apply(&before), Ok(after));
        }
    }
}
