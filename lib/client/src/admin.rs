//! Topics: create, grow, look up settings, delete records.
//!
//! Brokers forward these to their controller, so any broker will do. A repeated creation that finds the
//! topic there is a success, because the first try may have worked without our hearing of it.

use std::collections::BTreeMap;

use whimbrel_wire::{
    ErrorCode,
    messages::{create_partitions, create_topics, delete_records, delete_topics, describe_configs},
};

use crate::{client::Client, error::ClientError};

const TIMEOUT_MS: i32 = 15_000;
/// Resource type `topic` of DescribeConfigs.
const TOPIC: i8 = 2;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    pub name: String,
    pub partitions: i32,
    /// -1 = the cluster's default.
    pub replication_factor: i16,
    pub configs: BTreeMap<String, String>,
}

impl NewTopic {
    pub fn new(name: impl Into<String>, partitions: i32) -> Self {
        Self {
            name: name.into(),
            partitions,
            replication_factor: -1,
            configs: BTreeMap::new(),
        }
    }

    #[must_use]
    pub fn config(mut self, name: &str, value: &str) -> Self {
        self.configs.insert(name.to_owned(), value.to_owned());
        self
    }
}

/// A setting of a topic and whether it was set on the topic itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    pub name: String,
    pub value: Option<String>,
    pub own: bool,
}

impl Client {
    /// Creates a topic; one that is there already is left as it is.
    pub async fn create_topic(&self, topic: &NewTopic) -> Result<(), ClientError> {
        let config = |(name, value): (&String, &String)| create_topics::CreatableTopicConfig {
            name: name.clone(),
            value: Some(value.clone()),
        };
        let request = create_topics::Request {
            topics: vec![create_topics::CreatableTopic {
                name: topic.name.clone(),
                num_partitions: topic.partitions,
                replication_factor: topic.replication_factor,
                configs: topic.configs.iter().map(config).collect(),
                ..create_topics::CreatableTopic::default()
            }],
            timeout_ms: TIMEOUT_MS,
            ..create_topics::Request::default()
        };
        let response = self.ask_any(&request, i16::MAX).await?;
        for result in response.topics {
            if result.error_code != ErrorCode::TOPIC_ALREADY_EXISTS {
                let what = || format!("create topic {}", topic.name);
                ClientError::check(what, result.error_code, result.error_message.clone())?;
            }
        }
        Ok(())
    }

    /// Raises a topic's partition count to `total`.
    pub async fn create_partitions(&self, topic: &str, total: i32) -> Result<(), ClientError> {
        let request = create_partitions::Request {
            topics: vec![create_partitions::CreatePartitionsTopic {
                name: topic.to_owned(),
                count: total,
                assignments: None,
            }],
            timeout_ms: TIMEOUT_MS,
            ..create_partitions::Request::default()
        };
        let response = self.ask_any(&request, i16::MAX).await?;
        for result in response.results {
            let what = || format!("create partitions of {topic}");
            ClientError::check(what, result.error_code, result.error_message.clone())?;
        }
        Ok(())
    }

    pub async fn delete_topic(&self, topic: &str) -> Result<(), ClientError> {
        let request = delete_topics::Request {
            topics: vec![delete_topics::DeleteTopicState {
                name: Some(topic.to_owned()),
                ..delete_topics::DeleteTopicState::default()
            }],
            topic_names: vec![topic.to_owned()],
            timeout_ms: TIMEOUT_MS,
        };
        let response = self.ask_any(&request, i16::MAX).await?;
        for result in response.responses {
            let what = || format!("delete topic {topic}");
            ClientError::check(what, result.error_code, result.error_message.clone())?;
        }
        Ok(())
    }

    pub async fn topic_configs(&self, topic: &str) -> Result<Vec<TopicConfig>, ClientError> {
        let request = describe_configs::Request {
            resources: vec![describe_configs::DescribeConfigsResource {
                resource_type: TOPIC,
                resource_name: topic.to_owned(),
                configuration_keys: None,
            }],
            ..describe_configs::Request::default()
        };
        let response = self.ask_any(&request, i16::MAX).await?;
        let mut configs = Vec::new();
        for result in response.results {
            let what = || format!("settings of topic {topic}");
            ClientError::check(what, result.error_code, result.error_message.clone())?;
            configs.extend(result.configs.into_iter().map(|c| TopicConfig {
                // Source 1 is the topic itself.
                own: c.config_source == 1,
                name: c.name,
                value: c.value,
            }));
        }
        Ok(configs)
    }

    /// Moves the log start up to `offset`; -1 = the high watermark. Answers what it is now.
    pub async fn delete_records(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<i64, ClientError> {
        let request = delete_records::Request {
            topics: vec![delete_records::DeleteRecordsTopic {
                name: topic.to_owned(),
                partitions: vec![delete_records::DeleteRecordsPartition {
                    partition_index: partition,
                    offset,
                }],
            }],
            timeout_ms: TIMEOUT_MS,
        };
        let (request, timeout) = (&request, self.request_timeout());
        self.keep_trying(|| async move {
            let leader = self.leader(topic, partition).await?;
            let response = leader.call(request, timeout).await?;
            let what = || format!("delete records of {topic}-{partition}");
            let mut partitions = response.topics.into_iter().flat_map(|t| t.partitions);
            let found = partitions.find(|p| p.partition_index == partition);
            let found = found.ok_or_else(|| ClientError::Missing { what: what() })?;
            if found.error_code.is_retryable() {
                self.forget_leader(topic, partition);
            }
            ClientError::check(what, found.error_code, None)?;
            Ok(found.low_watermark)
        })
        .await
    }
}
