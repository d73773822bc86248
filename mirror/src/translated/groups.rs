//! Carries consumer groups' positions over, in whichever direction each group moves.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_client::{Client, ClientError, GroupPosition};

use super::{
    direction::{Carry, MARK, Sides, Standing, carry},
    pattern::chosen,
    session::Flow,
    state::{At, Health, Partition},
};

impl Flow {
    /// Looks at all groups every interval, until shutdown. While the flow's maps are not loaded it waits.
    pub async fn carry_groups(&self) {
        let shutdown = self.tasks.shutdown();
        let interval = self.options.group_interval.0;
        while shutdown.unless(self.clock.sleep(interval)).await.is_some() {
            let running = self.shared.with(|state| state.health == Health::Running);
            if !running {
                continue;
            }
            match shutdown.unless(self.groups()).await {
                Some(Ok(groups)) => {
                    for group in groups {
                        let _ = shutdown.unless(self.group(&group)).await;
                    }
                }
                Some(Err(error)) => {
                    tracing::warn!(flow = self.options.name, %error, "groups cannot be listed; trying again");
                }
                None => return,
            }
        }
    }

    /// Groups of either side that are consumers of some kind.
    async fn groups(&self) -> Result<BTreeSet<String>, ClientError> {
        let mut groups = self.source.list_groups().await?;
        groups.extend(self.target.list_groups().await?);
        let consumers = groups.into_iter().filter(|g| {
            let kind = matches!(
                g.kind.to_ascii_lowercase().as_str(),
                "" | "classic" | "consumer"
            );
            kind && matches!(g.protocol_type.as_str(), "" | "consumer")
        });
        let names = consumers.map(|g| g.group);
        Ok(names
            .filter(|name| chosen(name, &self.options.groups, &self.options.groups_exclude))
            .collect())
    }

    async fn group(&self, group: &str) {
        let carried = self.carry_group(group).await;
        self.shared.with(|state| match &carried {
            Ok(()) => drop(state.groups.remove(group)),
            Err(error) => drop(state.groups.insert(group.to_owned(), error.to_string())),
        });
        if let Err(error) = carried {
            tracing::warn!(flow = self.options.name, group, %error, "a group's positions cannot be carried over; trying again");
        }
    }

    async fn carry_group(&self, group: &str) -> Result<(), ClientError> {
        let mark = format!("{MARK}{}", self.options.name);
        let source = standings(&self.source, group, &mark).await?;
        let target = standings(&self.target, group, &mark).await?;
        let (source_idle, target_idle) = (
            is_idle(&self.source, group).await?,
            is_idle(&self.target, group).await?,
        );
        let maps: BTreeMap<At, Partition> = self.shared.with(|state| {
            let named = |at: &At| source.contains_key(at) || target.contains_key(at);
            let healthy = state
                .partitions
                .iter()
                .filter(|(at, p)| named(at) && p.anomaly.is_none());
            healthy.map(|(at, p)| (at.clone(), p.clone())).collect()
        });
        let (mut to_source, mut to_target) = (Vec::new(), Vec::new());
        for (at, partition) in &maps {
            let decided = carry(Sides {
                source: source.get(at),
                target: target.get(at),
                source_idle,
                target_idle,
                map: &partition.map,
                scanned: partition.scanned,
            });
            let position = |offset| GroupPosition {
                topic: at.0.clone(),
                partition: at.1,
                offset,
                leader_epoch: -1,
                metadata: Some(mark.clone()),
            };
            match decided {
                Some(Carry::ToSource(offset)) => to_source.push(position(offset)),
                Some(Carry::ToTarget(offset)) => to_target.push(position(offset)),
                None => {}
            }
        }
        // A member that joined in between makes the broker refuse, and its commits count from then on.
        self.source.set_group_positions(group, &to_source).await?;
        self.target.set_group_positions(group, &to_target).await
    }
}

async fn standings(
    side: &Client,
    group: &str,
    mark: &str,
) -> Result<BTreeMap<At, Standing>, ClientError> {
    let positions = side.group_positions(group).await?;
    let standing = |p: GroupPosition| {
        let marked = p.metadata.as_deref() == Some(mark);
        (
            (p.topic, p.partition),
            Standing {
                offset: p.offset,
                marked,
            },
        )
    };
    Ok(positions.into_iter().map(standing).collect())
}

async fn is_idle(side: &Client, group: &str) -> Result<bool, ClientError> {
    side.describe_group(group)
        .await
        .map(|described| described.is_idle())
}
