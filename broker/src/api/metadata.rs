//! Metadata: the brokers of all regions, topics, leaders with their epochs.

use std::{sync::Arc, time::Duration};

use whimbrel_fleet::{
    NodeId, Partition, Topic,
    naming::{is_reserved_topic, is_valid_topic},
};
use whimbrel_rpc::controller::NewTopic;
use whimbrel_wire::{
    ErrorCode,
    messages::metadata::{
        MetadataRequestTopic, MetadataResponseBroker, MetadataResponsePartition,
        MetadataResponseTopic, Request, Response,
    },
};

use super::{create_topics::default_partitions, once};
use crate::{broker::Broker, catalog::Catalog};

/// Version 0 has no null: there an empty list means all topics.
const FIRST_VERSION_WITH_NULL: i16 = 1;
/// How long an answer waits for a topic it created to appear here.
const CREATE_WAIT: Duration = Duration::from_secs(3);
/// Most topics one request creates by asking for them.
const MOST_CREATED: usize = 100;

pub async fn handle(broker: &Arc<Broker>, mut request: Request, version: i16) -> Response {
    if let Some(topics) = &mut request.topics {
        let marked = once::firsts(topics.iter().map(|t| (t.name.as_deref(), t.topic_id)));
        once::keep(topics, &marked);
    }
    let asked = request
        .topics
        .filter(|topics| version >= FIRST_VERSION_WITH_NULL || !topics.is_empty());
    if let Some(topics) = asked
        .as_ref()
        .filter(|_| request.allow_auto_topic_creation && broker.options.auto_create_topics)
    {
        create_missing(broker, topics).await;
    }
    let catalog = broker.catalog();
    let topics = match asked {
        None => catalog
            .view
            .topics
            .values()
            .map(|t| described(&catalog, t))
            .collect(),
        Some(topics) => topics.into_iter().map(|t| one(&catalog, t)).collect(),
    };
    let brokers = catalog
        .view
        .listed_brokers()
        .map(|node| MetadataResponseBroker {
            node_id: node.id.0,
            host: node.kafka.host.clone(),
            port: i32::from(node.kafka.port),
            rack: Some(node.rack().to_owned()),
        });
    Response {
        brokers: brokers.collect(),
        cluster_id: Some(broker.fleet_id.clone()),
        // Every broker takes admin requests to the controller.
        controller_id: broker.node.0,
        topics,
        ..Response::default()
    }
}

async fn create_missing(broker: &Broker, asked: &[MetadataRequestTopic]) {
    let catalog = broker.catalog();
    let missing = asked.iter().filter_map(|t| t.name.as_deref());
    let missing: Vec<_> = missing
        .filter(|name| {
            is_valid_topic(name) && !is_reserved_topic(name) && catalog.topic(name).is_none()
        })
        .take(MOST_CREATED)
        .collect();
    let mut newest = 0;
    for name in missing {
        let new = NewTopic {
            replication_factor: catalog.view.default_copies(),
            ..NewTopic::new(name, default_partitions(broker, &catalog.view))
        };
        match broker.controller.create_topic(new).await {
            Ok(created) => newest = newest.max(created.version),
            Err(error) => tracing::debug!(topic = name, %error, "topic not created on demand"),
        }
    }
    if newest > 0 {
        broker.until_applied(newest, CREATE_WAIT).await;
    }
}

fn one(catalog: &Catalog, asked: MetadataRequestTopic) -> MetadataResponseTopic {
    let (found, error_code) = match &asked.name {
        Some(name) if !is_valid_topic(name) => (None, ErrorCode::INVALID_TOPIC_EXCEPTION),
        Some(name) => (catalog.topic(name), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        None => (
            catalog.topic_by_id(asked.topic_id),
            ErrorCode::UNKNOWN_TOPIC_ID,
        ),
    };
    match found {
        Some(topic) => described(catalog, topic),
        None => MetadataResponseTopic {
            error_code,
            name: asked.name,
            topic_id: asked.topic_id,
            ..MetadataResponseTopic::default()
        },
    }
}

/// Where clients see a partition's copies: all replicas at home, and each other region's head.
pub(super) fn replica_nodes(catalog: &Catalog, topic: &Topic, partition: &Partition) -> Vec<i32> {
    let home = catalog.view.group_of(topic).map(|g| &g.home);
    let mut replica_nodes = Vec::new();
    for (region, nodes) in &partition.replicas {
        let most = if Some(region) == home { nodes.len() } else { 1 };
        replica_nodes.extend(nodes.iter().take(most).map(|n| n.0));
    }
    replica_nodes
}

/// The ack set, and the other regions' heads that keep up. What is waited for and counted is the ack set alone.
fn isr_nodes(catalog: &Catalog, topic: &Topic, partition: &Partition) -> Vec<i32> {
    let shown = catalog.view.group_of(topic).into_iter().flat_map(|group| {
        let heads = partition.other_heads(&group.home);
        heads.filter(|n| {
            partition.keeping_up.contains(n)
                && !partition.isr.contains(n)
                && catalog.view.is_live(*n)
        })
    });
    partition
        .isr
        .iter()
        .copied()
        .chain(shown)
        .map(|n| n.0)
        .collect()
}

/// Where a partition stands, as clients are told whichever API they ask.
pub(super) struct Standing {
    pub error_code: ErrorCode,
    pub leader_id: i32,
    pub leader_epoch: i32,
    pub replica_nodes: Vec<i32>,
    pub isr_nodes: Vec<i32>,
    pub offline_replicas: Vec<i32>,
}

pub(super) fn standing(
    catalog: &Catalog,
    topic: &Topic,
    index: i32,
    partition: &Partition,
) -> Standing {
    let leader = catalog.leader(topic, index);
    let replica_nodes = replica_nodes(catalog, topic, partition);
    let offline = |id: &&i32| !catalog.view.is_live(NodeId(**id));
    Standing {
        error_code: if leader.is_some() {
            ErrorCode::NONE
        } else {
            ErrorCode::LEADER_NOT_AVAILABLE
        },
        leader_id: leader.map_or(-1, |(node, _)| node.id.0),
        leader_epoch: partition.leader_epoch.0,
        isr_nodes: isr_nodes(catalog, topic, partition),
        offline_replicas: replica_nodes.iter().filter(offline).copied().collect(),
        replica_nodes,
    }
}

fn described(catalog: &Catalog, topic: &Topic) -> MetadataResponseTopic {
    let partitions = (0_i32..)
        .zip(&topic.partitions)
        .map(|(partition_index, partition)| {
            let standing = standing(catalog, topic, partition_index, partition);
            MetadataResponsePartition {
                error_code: standing.error_code,
                partition_index,
                leader_id: standing.leader_id,
                leader_epoch: standing.leader_epoch,
                replica_nodes: standing.replica_nodes,
                isr_nodes: standing.isr_nodes,
                offline_replicas: standing.offline_replicas,
            }
        });
    MetadataResponseTopic {
        name: Some(topic.name.clone()),
        topic_id: topic.id,
        is_internal: topic.internal,
        partitions: partitions.collect(),
        ..MetadataResponseTopic::default()
    }
}
