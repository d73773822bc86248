//! Which partition of ours a request means, and where else a client should go (KIP-320, KIP-951).

use std::sync::Arc;

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

/// Where a client that was told NOT_LEADER_OR_FOLLOWER or FENCED_LEADER_EPOCH finds the leader. A leader that
/// may not act as one does not send clients to itself.
pub fn current_leader<'a>(
    catalog: &'a Catalog,
    topic: &Topic,
    partition: i32,
    error: ErrorCode,
) -> Option<(&'a Node, i32)> {
    let tells =
        error == ErrorCode::NOT_LEADER_OR_FOLLOWER || error == ErrorCode::FENCED_LEADER_EPOCH;
    let itself =
        error == ErrorCode::NOT_LEADER_OR_FOLLOWER && leader(catalog, topic, partition).is_ok();
    catalog
        .leader(topic, partition)
        .filter(|_| tells && !itself)
}
