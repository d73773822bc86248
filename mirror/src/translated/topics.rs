//! Which topics a flow copies, and their counterparts at the target.

use uuid::Uuid;
use whimbrel_client::{Client, Metadata, NewTopic, TopicMetadata};

use super::{
    error::FlowError,
    options::{FlowOptions, MAP_PREFIX},
    pattern::chosen,
};

/// Settings that decide what a topic keeps and takes; carried over when the counterpart is created.
const CARRIED: [&str; 5] = [
    "cleanup.policy",
    "retention.ms",
    "retention.bytes",
    "max.message.bytes",
    "compression.type",
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub name: String,
    pub id: Uuid,
    pub partitions: Vec<i32>,
}

/// Topics at the source, each with a counterpart of at least as many partitions at the target.
pub async fn discover(
    options: &FlowOptions,
    source: &Client,
    target: &Client,
) -> Result<Vec<Topic>, FlowError> {
    let there = source.metadata(None).await?;
    let here = target.metadata(None).await?;
    let mut topics = Vec::new();
    for topic in there.topics {
        let ours =
            topic.internal || topic.name.starts_with("__") || topic.name.starts_with(MAP_PREFIX);
        if ours || !chosen(&topic.name, &options.topics, &options.topics_exclude) {
            continue;
        }
        counterpart(options, source, target, &here, &topic).await?;
        topics.push(Topic {
            id: topic.id,
            partitions: topic.partitions.iter().map(|p| p.partition).collect(),
            name: topic.name,
        });
    }
    Ok(topics)
}

async fn counterpart(
    options: &FlowOptions,
    source: &Client,
    target: &Client,
    here: &Metadata,
    topic: &TopicMetadata,
) -> Result<(), FlowError> {
    let wanted = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    match here.topic(&topic.name) {
        Ok(present) if present.partitions.len() >= topic.partitions.len() => {}
        Ok(_) => target.create_partitions(&topic.name, wanted).await?,
        Err(_) => {
            let mut new = NewTopic::new(topic.name.clone(), wanted);
            new.replication_factor = options.replication_factor;
            for config in source.topic_configs(&topic.name).await? {
                if let Some(value) = config
                    .value
                    .filter(|_| config.own && CARRIED.contains(&config.name.as_str()))
                {
                    new.configs.insert(config.name, value);
                }
            }
            target.create_topic(&new).await?;
        }
    }
    Ok(())
}
