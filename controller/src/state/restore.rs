//! An empty fleet takes over what a bucket says of another one, and comes home when its logs are filled.
//!
//! Between the two its groups are at home in a region that stands for the bucket, is lost and has no broker: nobody can
//! write, and nobody can lead before every log ends where the plan says.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use whimbrel_fleet::{
    FailoverGroup, GroupName, LeaderEpoch, Region, RegionEpoch, RegionName, Restore, Topic,
    TopicId, TopicPartition,
    naming::{self, CONSUMER_OFFSETS, MAX_PARTITIONS},
    restore::{Description, Partition},
};

use super::{
    Change, Outcome, Promoted, State, assign,
    topics::{INTERNAL_REPLICATION, check_configs},
};
use crate::codes;

/// What the view does not need of a restore.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restoring {
    /// The region that the groups come home to.
    pub to: RegionName,
    /// Of each partition, by its number.
    pub logs: BTreeMap<TopicId, Vec<Partition>>,
}

impl Restoring {
    /// Where a log begins and ends. One that was added meanwhile has no record.
    pub fn log(&self, at: TopicPartition) -> (i64, i64) {
        let of_topic = self.logs.get(&at.topic_id);
        let number = usize::try_from(at.partition).ok();
        let log = number.and_then(|n| of_topic?.get(n));
        log.map_or((0, 0), |log| (log.log_start, log.end))
    }
}

/// The commit that begins it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeginRestore {
    pub restore: Restore,
    pub description: Description,
}

/// What is done with a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestoreStep {
    Begin(Box<BeginRestore>),
    End {
        job: String,
    },
    Abandon {
        job: String,
        offsets_topic_id: TopicId,
    },
}

impl State {
    pub(super) fn apply_to_restore(&mut self, step: RestoreStep) -> Change {
        match step {
            RestoreStep::Begin(begin) => self.begin_restore(*begin),
            RestoreStep::End { job } => self.end_restore(&job),
            RestoreStep::Abandon {
                job,
                offsets_topic_id,
            } => self.abandon_restore(&job, offsets_topic_id),
        }
    }

    /// Whether a fleet is empty is decided here, where nothing can come between.
    fn begin_restore(&mut self, begin: BeginRestore) -> Change {
        let BeginRestore {
            restore,
            description,
        } = begin;
        if let Some(standing) = &mut self.view.restore {
            if (&standing.job, &standing.hash) != (&restore.job, &restore.hash) {
                let message = format!(
                    "restore {} of plan {} is under way since {} ms",
                    standing.job, standing.hash, standing.at_ms
                );
                return Change::hidden(Outcome::refused(codes::RESTORE_STANDS, message));
            }
            if standing.address == restore.address {
                return Change::hidden(Outcome::Done);
            }
            standing.address = restore.address;
            return Change::shown(Outcome::Done);
        }
        if self.is_restored(&restore.job, &restore.hash) {
            return Change::hidden(Outcome::Done);
        }
        let refusal = self
            .refuse_used()
            .or_else(|| self.refuse_description(&restore, &description));
        if let Some(refusal) = refusal {
            return Change::hidden(refusal);
        }
        self.take_over_description(restore, description);
        Change::shown(Outcome::Done)
    }

    fn is_restored(&self, job: &str, hash: &str) -> bool {
        self.restored
            .as_ref()
            .is_some_and(|(j, h)| (j.as_str(), h.as_str()) == (job, hash))
    }

    /// What the internal topics of an empty fleet hold is nobody's: positions need a topic, and transactions a
    /// producer id.
    fn refuse_used(&self) -> Option<Outcome> {
        let view = &self.view;
        let refuse = |why: String| Some(Outcome::refused(codes::NOT_EMPTY, why));
        if view.fleet_id.is_empty() {
            return Some(Outcome::refused(
                codes::NOT_BOOTSTRAPPED,
                "the fleet is not bootstrapped yet",
            ));
        }
        if let Some(topic) = view.topics.values().find(|topic| !topic.internal) {
            return refuse(format!("it has topics, {} among them", topic.name));
        }
        if !self.deleted.is_empty() {
            return refuse("it had topics, which were deleted".to_owned());
        }
        if self.next_producer_id > 0 {
            return refuse("it has given producer ids".to_owned());
        }
        let is_first = |group: &FailoverGroup| {
            group.epoch == RegionEpoch(1) && group.fence.is_none() && group.moves.is_empty()
        };
        if view.groups.len() != 1 || !view.groups.values().all(is_first) {
            return refuse("its groups have moved".to_owned());
        }
        let people = [
            (!view.credentials.is_empty(), "users"),
            (!view.acls.is_empty(), "access rules"),
            (!view.quotas.is_empty(), "quotas"),
            (view.configs != Default::default(), "configs"),
        ];
        let found = people.iter().find(|(is_there, _)| *is_there);
        found.and_then(|(_, what)| refuse(format!("it has {what} of its own")))
    }

    fn refuse_description(&self, restore: &Restore, of: &Description) -> Option<Outcome> {
        let refuse = |why: String| Some(Outcome::refused(codes::BAD_RESTORE, why));
        if restore.job.is_empty() || restore.hash.is_empty() || restore.address.is_empty() {
            return refuse("a restore has a job, a plan and an address".to_owned());
        }
        let region = &restore.region;
        if !naming::is_valid_label(region.as_str()) || self.view.regions.contains_key(region) {
            return refuse(format!(
                "`{region}` is no name, or the name of a region of this fleet"
            ));
        }
        let groups: BTreeSet<_> = of.groups.iter().map(|group| &group.name).collect();
        let known = |group: &GroupName| groups.contains(group);
        if groups.len() != of.groups.len() || !known(&GroupName::default_group()) {
            return refuse("its groups are not told apart, or `default` is missing".to_owned());
        }
        if let Some(group) = of.groups.iter().find(|g| g.epoch.0 < 3 || g.lease_ms == 0) {
            return refuse(format!("group {} has no epoch or no lease", group.name));
        }
        let offsets = |topic: &whimbrel_fleet::restore::Topic| topic.name == CONSUMER_OFFSETS;
        if of.producer_ids < 0 || !of.topics.iter().any(offsets) {
            return refuse(format!("it has no producer ids or no {CONSUMER_OFFSETS}"));
        }
        let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
        for topic in &of.topics {
            if !names.insert(&topic.name) || !ids.insert(topic.id) {
                return refuse(format!("topic {} is there twice", topic.name));
            }
            let is_used = self.view.topic_by_id(topic.id).is_some();
            if !known(&topic.group) || !is_sound(topic) || is_used || of.deleted.contains(&topic.id)
            {
                return refuse(format!("topic {:.100} is not sound", topic.name));
            }
            if let Err(refusal) = check_configs(&topic.configs) {
                return Some(refusal);
            }
        }
        None
    }

    fn take_over_description(&mut self, restore: Restore, of: Description) {
        let to = self.view.groups.values().next().map(|g| g.home.clone());
        // Brokers and daemons let go of what the fleet had: it is of no use under other ids.
        for topic in std::mem::take(&mut self.view.topics).into_values() {
            self.forget_topic(topic.id);
        }
        for id in of.deleted {
            self.forget_topic(id);
        }
        let region = Region {
            name: restore.region.clone(),
            lost: true,
        };
        self.view.regions.insert(region.name.clone(), region);
        self.view.groups = of
            .groups
            .into_iter()
            .map(|of| {
                let mut group = FailoverGroup::new(of.name, restore.region.clone());
                group.epoch = RegionEpoch(of.epoch.0.saturating_sub(1));
                group.lease_ms = of.lease_ms;
                group.loss_mode = of.loss_mode;
                group.offsets = of.offsets;
                group.transactions = of.transactions;
                (group.name.clone(), group)
            })
            .collect();
        let mut logs = BTreeMap::new();
        for topic in of.topics {
            logs.insert(topic.id, topic.partitions.clone());
            self.bring_back(topic);
        }
        self.next_producer_id = of.producer_ids;
        self.view.quotas = of.quotas;
        self.view.configs = of.configs;
        self.view.acls = of.acls;
        self.view.credentials = of.credentials;
        self.view.restore = Some(restore);
        self.restoring = Some(Restoring {
            to: to.unwrap_or_default(),
            logs,
        });
    }

    fn forget_topic(&mut self, id: TopicId) {
        self.deleted.insert(id);
        self.view.note_deleted(id);
    }

    fn bring_back(&mut self, of: whimbrel_fleet::restore::Topic) {
        let Some(group) = self.view.groups.get(&of.group) else {
            return;
        };
        let copies = usize::try_from(of.replication_factor).unwrap_or(1);
        let placed = |(index, log): (usize, &Partition)| {
            let placed = assign::partition(&self.view, group, (of.id, index), copies, None);
            whimbrel_fleet::Partition {
                leader_epoch: LeaderEpoch(log.leader_epoch.0.saturating_sub(1)),
                ..placed
            }
        };
        let topic = Topic {
            partitions: of.partitions.iter().enumerate().map(placed).collect(),
            name: of.name,
            id: of.id,
            group: of.group,
            configs: of.configs,
            replication_factor: of.replication_factor,
            internal: of.internal,
        };
        self.view.topics.insert(topic.name.clone(), topic);
    }

    /// Why a group may not come home: a log that would not go on where the plan ends it.
    pub(crate) fn refuse_homecoming(
        &self,
        group: &FailoverGroup,
        promoted: &[Promoted],
    ) -> Option<Outcome> {
        let restore = self.view.restore.as_ref();
        restore.filter(|restore| restore.region == group.home)?;
        let restoring = self.restoring.as_ref()?;
        let ends: BTreeMap<_, _> = promoted
            .iter()
            .map(|p| (p.at, p.promotion.offset))
            .collect();
        let of_group = self.view.topics.values().filter(|t| t.group == group.name);
        for topic in of_group {
            for (number, _) in (0_i32..).zip(&topic.partitions) {
                let at = TopicPartition::new(topic.id, number);
                let (_, end) = restoring.log(at);
                if ends.get(&at) != Some(&end) {
                    let message = format!(
                        "{}-{number} is to end at {end}, and would end at {:?}",
                        topic.name,
                        ends.get(&at)
                    );
                    return Some(Outcome::refused(codes::NOT_RESTORED, message));
                }
            }
        }
        None
    }

    /// Every group is home: the region that stood for the bucket goes.
    fn end_restore(&mut self, job: &str) -> Change {
        let standing = match self.standing(job) {
            Ok(standing) => standing,
            Err(change) => return change,
        };
        let away = |group: &&FailoverGroup| group.home == standing.region;
        if let Some(group) = self.view.groups.values().find(away) {
            return Change::hidden(Outcome::refused(
                codes::NOT_RESTORED,
                format!("group {} is not home yet", group.name),
            ));
        }
        self.view.regions.remove(&standing.region);
        self.view.restore = None;
        self.restoring = None;
        self.restored = Some((standing.job, standing.hash));
        Change::shown(Outcome::Done)
    }

    /// Nothing came home yet: what was begun goes, and the fleet can be used as an empty one, though not for the same
    /// topics again.
    fn abandon_restore(&mut self, job: &str, offsets_topic_id: TopicId) -> Change {
        let standing = match self.standing(job) {
            Ok(standing) => standing,
            Err(change) => return change,
        };
        let is_begun = |g: &FailoverGroup| g.home != standing.region || g.fence.is_some();
        if let Some(group) = self.view.groups.values().find(|g| is_begun(g)) {
            let message = format!("group {} is home, or comes home at this moment", group.name);
            return Change::hidden(Outcome::refused(codes::RESTORE_STANDS, message));
        }
        let is_used = self.deleted.contains(&offsets_topic_id);
        if is_used || self.view.topic_by_id(offsets_topic_id).is_some() {
            let message = "the topic id was used before";
            return Change::hidden(Outcome::refused(codes::BAD_RESTORE, message));
        }
        let to = self.restoring.take().unwrap_or_default().to;
        for topic in std::mem::take(&mut self.view.topics).into_values() {
            self.forget_topic(topic.id);
        }
        let default = GroupName::default_group();
        self.view.groups.retain(|name, _| *name == default);
        self.view.regions.remove(&standing.region);
        self.view.quotas.clear();
        self.view.configs = Default::default();
        self.view.acls = Default::default();
        self.view.credentials = Default::default();
        self.view.restore = None;
        if let Some(group) = self.view.groups.get_mut(&default) {
            group.home = to;
            group.epoch = group.epoch.next();
        }
        self.add_offsets_topic(&default, offsets_topic_id);
        Change::shown(Outcome::Done)
    }

    fn add_offsets_topic(&mut self, group: &GroupName, id: TopicId) {
        let Some(group) = self.view.groups.get(group) else {
            return;
        };
        let count = group.offsets.start.saturating_add(group.offsets.len);
        let copies = usize::try_from(INTERNAL_REPLICATION).unwrap_or(1);
        let placed = |i| assign::partition(&self.view, group, (id, i), copies, None);
        let topic = Topic {
            name: CONSUMER_OFFSETS.to_owned(),
            id,
            group: group.name.clone(),
            partitions: (0..usize::try_from(count).unwrap_or(0))
                .map(placed)
                .collect(),
            configs: BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]),
            replication_factor: INTERNAL_REPLICATION,
            internal: true,
        };
        self.view.topics.insert(topic.name.clone(), topic);
    }

    /// The one under way, if it is this job; otherwise what is to be answered.
    fn standing(&self, job: &str) -> Result<Restore, Change> {
        match &self.view.restore {
            Some(standing) if standing.job == job => Ok(standing.clone()),
            None if self.restored.as_ref().is_some_and(|(j, _)| j == job) => {
                Err(Change::hidden(Outcome::Done))
            }
            Some(other) => Err(Change::hidden(Outcome::refused(
                codes::RESTORE_STANDS,
                format!("restore {} is under way, not {job:.100}", other.job),
            ))),
            None => Err(Change::hidden(Outcome::refused(
                codes::NO_RESTORE,
                format!("no restore {job:.100} is under way"),
            ))),
        }
    }
}

fn is_sound(topic: &whimbrel_fleet::restore::Topic) -> bool {
    let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    let log =
        |log: &Partition| log.leader_epoch.0 >= 1 && log.log_start >= 0 && log.log_start <= log.end;
    naming::is_valid_topic(&topic.name)
        && !topic.id.is_nil()
        && topic.replication_factor >= 1
        && (1..=MAX_PARTITIONS).contains(&count)
        && topic.partitions.iter().all(log)
}

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
