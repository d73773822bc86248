//! Which partition of ours a request means, and where else a client should go (KIP-320, KIP-951).

use std::{collections::BTreeMap, sync::Arc};

use uuid::Uuid;
use whimbrel_fleet::{Node, Topic, TopicPartition};
use whimbrel_wire::ErrorCode;

use crate::{catalog::Catalog, partition::Partition};

/// A topic by the name or id of a request.
pub fn topic<'a>(
    catalog: &'a Catalog,
    name: &str,
    id: Uuid,
    by_id: bool,
) -> Result<&'a Topic, ErrorCode> {
    if by_id {
        catalog.topic_by_id(id).ok_or(ErrorCode::UNKNOWN_TOPIC_ID)
    } else {
        catalog
            .topic(name)
            .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    }
}

/// A topic's name that is to stand beside each of its partitions: one that is too long for any topic loses its end, and
/// is as unknown as before.
pub fn short(mut name: String) -> String {
    name.truncate(name.floor_char_boundary(MOST_OF_A_TOPIC + 1));
    name
}

/// Longest name of a topic.
const MOST_OF_A_TOPIC: usize = 249;

/// The local replica of a partition that the topic has.
pub fn replica<'a>(
    catalog: &'a Catalog,
    topic: &Topic,
    partition: i32,
) -> Result<&'a Arc<Partition>, ErrorCode> {
    let exists = usize::try_from(partition).is_ok_and(|index| index < topic.partitions.len());
    if !exists {
        return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
    catalog
        .local(TopicPartition::new(topic.id, partition))
        .ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)
}

/// The replica that leads here, and its leader epoch.
pub fn leader<'a>(
    catalog: &'a Catalog,
    topic: &Topic,
    partition: i32,
) -> Result<(&'a Arc<Partition>, i32), ErrorCode> {
    let replica = replica(catalog, topic, partition)?;
    let terms = replica.leads().ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
    Ok((replica, terms.leader_epoch))
}

/// The epoch a client believes in, against ours; -1 is no belief.
pub fn fence(client_epoch: i32, epoch: i32) -> Result<(), ErrorCode> {
    match client_epoch {
        ..0 => Ok(()),
        older if older < epoch => Err(ErrorCode::FENCED_LEADER_EPOCH),
        newer if newer > epoch => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
        _ => Ok(()),
    }
}

/// Leaders that an answer sends its client to (KIP-951). Each API has the same fields in messages of its own.
#[derive(Debug)]
pub struct Elsewhere<'a> {
    catalog: &'a Catalog,
    named: BTreeMap<i32, &'a Node>,
}

/// Where a leader is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub node_id: i32,
    pub host: String,
    pub port: i32,
    pub rack: Option<String>,
}

impl<'a> Elsewhere<'a> {
    pub fn new(catalog: &'a Catalog) -> Self {
        Self {
            catalog,
            named: BTreeMap::new(),
        }
    }

    /// Id and epoch of the leader, for a client that was told NOT_LEADER_OR_FOLLOWER or FENCED_LEADER_EPOCH. A leader
    /// that may not act as one does not send clients to itself.
    pub fn leader(
        &mut self,
        topic: &Topic,
        partition: i32,
        error: ErrorCode,
    ) -> Option<(i32, i32)> {
        let lost = error == ErrorCode::NOT_LEADER_OR_FOLLOWER;
        if !lost && error != ErrorCode::FENCED_LEADER_EPOCH {
            return None;
        }
        if lost && leader(self.catalog, topic, partition).is_ok() {
            return None;
        }
        let (node, epoch) = self.catalog.leader(topic, partition)?;
        self.named.insert(node.id.0, node);
        Some((node.id.0, epoch))
    }

    /// Each leader named so far, once.
    pub fn addresses(&self) -> impl Iterator<Item = Address> + use<'_> {
        self.named.values().map(|node| Address {
            node_id: node.id.0,
            host: node.kafka.host.clone(),
            port: i32::from(node.kafka.port),
            rack: Some(node.rack().to_owned()),
        })
    }
}
