//! The first commit of a fleet: its id, its regions, the default group and its offsets topic.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_fleet::{
    FailoverGroup, GroupName, Partition, Region, RegionName, Topic, TopicId, naming,
};

use super::{Change, Outcome, State, topics::INTERNAL_REPLICATION};
use crate::codes;

impl State {
    /// Once; a repeated one with the same id changes nothing, another id is refused.
    pub(super) fn bootstrap(
        &mut self,
        fleet_id: String,
        regions: BTreeSet<RegionName>,
        home: RegionName,
        lease_ms: u64,
        offsets_topic_id: TopicId,
    ) -> Change {
        if !self.view.fleet_id.is_empty() {
            return Change::hidden(if self.view.fleet_id == fleet_id {
                Outcome::Done
            } else {
                Outcome::refused(
                    codes::FOREIGN_FLEET,
                    format!("this fleet is {}, not {fleet_id}", self.view.fleet_id),
                )
            });
        }
        if fleet_id.is_empty()
            || !regions.contains(&home)
            || regions.iter().any(|r| !naming::is_valid_label(r.as_str()))
        {
            return Change::hidden(Outcome::refused(
                codes::BAD_BOOTSTRAP,
                "a fleet needs an id, well-formed region names and a home among them",
            ));
        }
        self.view.fleet_id = fleet_id;
        for name in regions {
            self.view
                .regions
                .insert(name.clone(), Region { name, lost: false });
        }
        let mut group = FailoverGroup::new(GroupName::default_group(), home);
        group.lease_ms = lease_ms;
        // No broker is known yet: replicas come with the first registration of each region.
        let partitions =
            usize::try_from(group.offsets.start.saturating_add(group.offsets.len)).unwrap_or(0);
        let topic = Topic {
            name: naming::CONSUMER_OFFSETS.to_owned(),
            id: offsets_topic_id,
            group: group.name.clone(),
            partitions: vec![Partition::default(); partitions],
            configs: BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]),
            replication_factor: INTERNAL_REPLICATION,
            internal: true,
        };
        self.view.topics.insert(topic.name.clone(), topic);
        self.view.groups.insert(group.name.clone(), group);
        Change::shown(Outcome::Done)
    }
}
