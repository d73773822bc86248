//! ListPartitionReassignments: from the view, which shows what joins and what is to go.

use std::sync::Arc;

use whimbrel_fleet::{Partition, Topic};
use whimbrel_wire::messages::list_partition_reassignments::{
    OngoingPartitionReassignment, OngoingTopicReassignment, Request, Response,
};

use super::metadata::replica_nodes;
use crate::{broker::Broker, catalog::Catalog};

pub fn handle(broker: &Arc<Broker>, asked: &Request) -> Response {
    let catalog = broker.catalog();
    let is_asked = |topic: &Topic, index: i32| {
        asked.topics.as_ref().is_none_or(|named| {
            let mut of_name = named.iter().filter(|n| n.name == topic.name);
            of_name.any(|n| n.partition_indexes.contains(&index))
        })
    };
    let topics = catalog.view.topics.values().map(|topic| {
        let partitions = (0_i32..)
            .zip(&topic.partitions)
            .filter(|(index, p)| under_way(p) && is_asked(topic, *index))
            .map(|(index, p)| ongoing(&catalog, topic, index, p));
        OngoingTopicReassignment {
            name: topic.name.clone(),
            partitions: partitions.collect(),
        }
    });
    Response {
        error_message: None,
        topics: topics.filter(|t| !t.partitions.is_empty()).collect(),
        ..Response::default()
    }
}

fn under_way(partition: &Partition) -> bool {
    !partition.adding.is_empty() || !partition.removing.is_empty()
}

fn ongoing(
    catalog: &Catalog,
    topic: &Topic,
    partition_index: i32,
    partition: &Partition,
) -> OngoingPartitionReassignment {
    OngoingPartitionReassignment {
        partition_index,
        replicas: replica_nodes(catalog, topic, partition),
        adding_replicas: partition.adding.iter().map(|n| n.0).collect(),
        removing_replicas: partition.removing.iter().map(|n| n.0).collect(),
    }
}
