//! A plan as the controllers of an empty fleet are told it.

use whimbrel_fleet::{GroupName, LeaderEpoch, RegionEpoch, restore};

use super::{Described, Plan, plan};

impl Plan {
    /// What the fleet was, with the epochs that it begins again in.
    pub fn description(&self, described: &Described) -> restore::Description {
        let fleet = &described.base().fleet;
        // One whose group is not described has no epoch to begin in; the plan says that it is missing.
        let known = |group: &GroupName| self.groups.iter().any(|planned| planned.name == *group);
        let topics = self.topics.iter().filter(|topic| known(&topic.group));
        let topics: Vec<_> = topics.map(topic).collect();
        let groups = self.groups.iter().filter_map(|planned| {
            let known = fleet.groups.iter().find(|g| g.name == planned.name)?;
            Some(restore::Group {
                name: planned.name.clone(),
                epoch: RegionEpoch(u32::try_from(planned.region_epoch.begins).unwrap_or(u32::MAX)),
                lease_ms: known.lease_ms,
                loss_mode: known.loss_mode,
                offsets: known.offsets,
                transactions: known.transactions,
            })
        });
        let properties = &fleet.properties;
        restore::Description {
            groups: groups.collect(),
            // One that a later cut has back is not gone.
            deleted: fleet
                .deleted
                .iter()
                .filter(|id| topics.iter().all(|topic| topic.id != **id))
                .copied()
                .collect(),
            topics,
            producer_ids: self.producer_ids.begins,
            quotas: properties.quotas.clone(),
            configs: properties.configs.clone(),
            acls: properties.acls.clone(),
            credentials: properties.credentials.clone(),
        }
    }
}

fn topic(of: &plan::Topic) -> restore::Topic {
    let log = |log: &plan::Partition| restore::Partition {
        leader_epoch: LeaderEpoch(i32::try_from(log.leader_epoch.begins).unwrap_or(i32::MAX)),
        log_start: log.log_start,
        end: log.end,
    };
    restore::Topic {
        name: of.name.clone(),
        id: of.id,
        group: of.group.clone(),
        internal: of.internal,
        replication_factor: of.replication_factor,
        configs: of.configs.clone(),
        partitions: of.partitions.iter().map(log).collect(),
    }
}
