//! Which copies are compared with which.

use whimbrel_client::Endpoint;
use whimbrel_fleet::{HostPort, RegionName, View};

/// Two brokers that should hold the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub topic: String,
    pub partition: i32,
    pub source: RegionName,
    pub source_broker: Endpoint,
    pub target: RegionName,
    pub target_broker: Endpoint,
}

fn endpoint(at: &HostPort) -> Endpoint {
    Endpoint::new(at.host.clone(), at.port)
}

/// Home's leader against the head in `region`; where `region` is home, against the heads elsewhere.
/// Without a topic: all but the internal ones.
pub fn pairs(view: &View, region: &RegionName, topic: Option<&str>) -> Vec<Pair> {
    let chosen = view
        .topics
        .values()
        .filter(|t| topic.map_or(!t.internal, |name| t.name == name));
    let mut pairs = Vec::new();
    for topic in chosen {
        let Some(group) = view.group_of(topic) else {
            continue;
        };
        for (index, partition) in topic.partitions.iter().enumerate() {
            let leader = partition.leader.and_then(|node| view.nodes.get(&node));
            let (Some(leader), Ok(index)) = (leader, i32::try_from(index)) else {
                continue;
            };
            let others = partition.replicas.keys().filter(|r| **r != group.home);
            for target in others.filter(|r| group.home == *region || *r == region) {
                let head = partition
                    .head(target)
                    .and_then(|node| view.nodes.get(&node));
                let Some(head) = head else {
                    continue;
                };
                pairs.push(Pair {
                    topic: topic.name.clone(),
                    partition: index,
                    source: group.home.clone(),
                    source_broker: endpoint(&leader.kafka),
                    target: target.clone(),
                    target_broker: endpoint(&head.kafka),
                });
            }
        }
    }
    pairs
}
