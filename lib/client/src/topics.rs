//! Brokers, topics and leaders.

use uuid::Uuid;
use whimbrel_wire::{ErrorCode, messages::metadata};

use crate::{client::Client, endpoint::Endpoint, error::ClientError};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    pub id: i32,
    pub endpoint: Endpoint,
    pub rack: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionMetadata {
    pub partition: i32,
    pub leader: Option<i32>,
    pub leader_epoch: i32,
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMetadata {
    pub name: String,
    /// Nil where the broker is too old to know.
    pub id: Uuid,
    pub internal: bool,
    pub partitions: Vec<PartitionMetadata>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    pub cluster_id: Option<String>,
    pub controller: Option<i32>,
    pub brokers: Vec<Broker>,
    /// Topics that exist; others that were asked for are left out.
    pub topics: Vec<TopicMetadata>,
}

impl Metadata {
    pub fn topic(&self, name: &str) -> Result<&TopicMetadata, ClientError> {
        let found = self.topics.iter().find(|t| t.name == name);
        found.ok_or_else(|| ClientError::Kafka {
            what: format!("topic {name}"),
            code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            message: None,
        })
    }
}

impl TopicMetadata {
    pub(crate) fn leader(&self, partition: i32) -> Result<i32, ClientError> {
        let found = self.partitions.iter().find(|p| p.partition == partition);
        let leader = found.and_then(|p| p.leader);
        leader.ok_or_else(|| ClientError::NoLeader {
            topic: self.name.clone(),
            partition,
        })
    }
}

impl Client {
    /// The cluster and these topics; `None` = all topics, an empty list = none. Creates nothing.
    pub async fn metadata(&self, topics: Option<&[&str]>) -> Result<Metadata, ClientError> {
        let wanted = |name: &&str| metadata::MetadataRequestTopic {
            name: Some((*name).to_owned()),
            ..metadata::MetadataRequestTopic::default()
        };
        let request = metadata::Request {
            topics: topics.map(|names| names.iter().map(wanted).collect()),
            allow_auto_topic_creation: false,
            ..metadata::Request::default()
        };
        let response = self.ask_any(&request, i16::MAX).await?;
        let metadata = read(response)?;
        self.learn(&metadata);
        Ok(metadata)
    }
}

fn read(response: metadata::Response) -> Result<Metadata, ClientError> {
    ClientError::check(|| "metadata".to_owned(), response.error_code, None)?;
    let brokers = response.brokers.into_iter().filter_map(|b| {
        Some(Broker {
            id: b.node_id,
            endpoint: Endpoint::advertised(&b.host, b.port)?,
            rack: b.rack,
        })
    });
    let mut topics = Vec::with_capacity(response.topics.len());
    for topic in response.topics {
        let name = topic.name.unwrap_or_default();
        if topic.error_code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION {
            continue;
        }
        ClientError::check(
            || format!("metadata of topic {name}"),
            topic.error_code,
            None,
        )?;
        let mut partitions: Vec<_> = topic.partitions.into_iter().map(partition).collect();
        partitions.sort_by_key(|p| p.partition);
        topics.push(TopicMetadata {
            name,
            id: topic.topic_id,
            internal: topic.is_internal,
            partitions,
        });
    }
    Ok(Metadata {
        cluster_id: response.cluster_id,
        controller: Some(response.controller_id).filter(|id| *id >= 0),
        brokers: brokers.collect(),
        topics,
    })
}

fn partition(p: metadata::MetadataResponsePartition) -> PartitionMetadata {
    PartitionMetadata {
        partition: p.partition_index,
        leader: Some(p.leader_id).filter(|id| *id >= 0),
        leader_epoch: p.leader_epoch,
        replicas: p.replica_nodes,
        isr: p.isr_nodes,
    }
}
