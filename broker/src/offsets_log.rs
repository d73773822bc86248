//! What the coordinators see of this broker besides their logs: names of topics, and who leads internal ones.
//!
//! Held weakly: the broker owns the coordinator, not the other way round.

use std::{sync::Weak, time::Duration};

use async_trait::async_trait;
use uuid::Uuid;
use whimbrel_fleet::{
    group_config::{HEARTBEAT_INTERVAL_MS, SESSION_TIMEOUT_MS},
    naming::{CONSUMER_OFFSETS, TRANSACTION_STATE},
};
use whimbrel_rpc::controller::NewTopic;
use whimbrel_wire::ErrorCode;

use crate::{
    broker::Broker,
    group::{Directory, Endpoint, Pace, Topics},
};

/// Until the new topic has leaders.
const CREATE_TIMEOUT: Duration = Duration::from_secs(5);
/// Kafka's `offsets.topic.num.partitions` and `transaction.state.log.num.partitions`: a failover group's block.
const STATE_PARTITIONS: i32 = 50;

#[derive(Clone, Debug)]
pub struct Seam(pub Weak<Broker>);

impl Topics for Seam {
    fn name(&self, id: Uuid) -> Option<String> {
        Some(self.0.upgrade()?.catalog().topic_by_id(id)?.name.clone())
    }

    fn id(&self, name: &str) -> Option<Uuid> {
        Some(self.0.upgrade()?.catalog().topic(name)?.id)
    }

    fn partitions(&self, name: &str) -> Option<i32> {
        i32::try_from(self.0.upgrade()?.catalog().topic(name)?.partitions.len()).ok()
    }

    fn names(&self) -> Vec<String> {
        let Some(broker) = self.0.upgrade() else {
            return Vec::new();
        };
        let catalog = broker.catalog();
        let topics = catalog.view.topics.values();
        topics
            .filter(|topic| !topic.internal)
            .map(|topic| topic.name.clone())
            .collect()
    }

    fn version(&self) -> u64 {
        self.0
            .upgrade()
            .map_or(0, |broker| broker.catalog().view.version)
    }

    fn pace(&self, group: &str) -> Pace {
        let Some(broker) = self.0.upgrade() else {
            return Pace::default();
        };
        let configs = &broker.catalog().view.configs;
        Pace {
            session_timeout_ms: configs.of_group(group, SESSION_TIMEOUT_MS),
            heartbeat_interval_ms: configs.of_group(group, HEARTBEAT_INTERVAL_MS),
        }
    }
}

#[async_trait]
impl Directory for Broker {
    async fn offsets_leader(&self, partition: i32) -> Result<Endpoint, ErrorCode> {
        leader(self, CONSUMER_OFFSETS, partition).await
    }

    async fn transactions_leader(&self, transactional_id: &str) -> Result<Endpoint, ErrorCode> {
        let partition = self
            .catalog()
            .view
            .transaction_partition(transactional_id)
            .map(|(_, partition)| partition)
            .ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
        leader(self, TRANSACTION_STATE, partition).await
    }
}

/// Who leads a partition of an internal topic, which is created if it is missing.
async fn leader(broker: &Broker, name: &str, partition: i32) -> Result<Endpoint, ErrorCode> {
    if broker.catalog().topic(name).is_none() {
        let topic = NewTopic {
            configs: [
                ("cleanup.policy", "compact"),
                ("segment.bytes", "104857600"),
            ]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
            internal: true,
            ..NewTopic::new(name, STATE_PARTITIONS)
        };
        match broker.controller.create_topic(topic).await {
            Ok(created) => broker.until_applied(created.version, CREATE_TIMEOUT).await,
            // Another broker may have been faster: the view will tell.
            Err(error) => tracing::debug!(%error, "{name} was not created"),
        }
    }
    let catalog = broker.catalog();
    let topic = catalog
        .topic(name)
        .ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
    let (node, _) = catalog
        .leader(topic, partition)
        .ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
    Ok(Endpoint {
        node_id: node.id.0,
        host: node.kafka.host.clone(),
        port: i32::from(node.kafka.port),
    })
}
