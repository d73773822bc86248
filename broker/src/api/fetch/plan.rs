//! What a fetch asks for, in its order, and who may answer it.

use std::sync::Arc;

use uuid::Uuid;
use whimbrel_wire::{
    ErrorCode,
    messages::fetch::{FetchPartition, Request},
};

use super::{BY_ID, read::Part};
use crate::{
    api::refusal,
    catalog::Catalog,
    partition::{Partition, Role},
    waiters::Waiter,
};

/// First version whose answer has a place for leader and epoch.
pub const EPOCHS_IN_ANSWER: i16 = 12;

/// One partition of a fetch.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub topic: String,
    pub topic_id: Uuid,
    pub partition: i32,
    pub current_leader_epoch: i32,
    pub last_fetched_epoch: i32,
    pub offset: i64,
    pub max_bytes: usize,
}

#[derive(Debug)]
pub struct Plan {
    pub wanted: Vec<Wanted>,
    pub version: i16,
    pub committed_only: bool,
    /// The client names where it stands, so it may read from the replica of that region (KIP-392).
    in_rack: bool,
}

impl Plan {
    pub fn new(request: Request, version: i16) -> Self {
        let mut wanted = Vec::new();
        for topic in request.topics {
            for partition in topic.partitions {
                wanted.push(Wanted::new(topic.topic.clone(), topic.topic_id, &partition));
            }
        }
        Self {
            wanted,
            version,
            committed_only: request.isolation_level == 1,
            in_rack: !request.rack_id.is_empty(),
        }
    }

    /// Asks to be woken by anything new in the partitions that are read here.
    pub fn park(&self, catalog: &Catalog, waiter: &Waiter) {
        for wanted in &self.wanted {
            if let Ok(partition) = self.find(catalog, wanted) {
                partition.waiters.park(waiter);
            }
        }
    }

    /// Reads what is local, in the order asked for. The first partition with data gets at least one batch,
    /// however large; the others what is left of `max_bytes`.
    pub fn read(&self, catalog: &Catalog, max_bytes: usize) -> Vec<Part> {
        let mut left = max_bytes;
        let mut first = true;
        let mut parts = Vec::with_capacity(self.wanted.len());
        for wanted in &self.wanted {
            let part = match self.find(catalog, wanted) {
                Ok(partition) => Part::read(partition, wanted, self, left, first),
                Err(error) => Part::error(wanted.partition, error),
            };
            left = left.saturating_sub(part.len());
            first &= part.len() == 0;
            parts.push(part);
        }
        parts
    }

    fn find<'a>(
        &self,
        catalog: &'a Catalog,
        wanted: &Wanted,
    ) -> Result<&'a Arc<Partition>, ErrorCode> {
        let topic = refusal::topic(
            catalog,
            &wanted.topic,
            wanted.topic_id,
            self.version >= BY_ID,
        )?;
        let partition = refusal::replica(catalog, topic, wanted.partition)?;
        let epoch = match partition.role() {
            Role::Leader(terms) => terms.leader_epoch,
            // The epoch of the leader elsewhere, which is what a client knows.
            Role::Follower { .. } if self.in_rack => catalog
                .leader(topic, wanted.partition)
                .map_or(-1, |(_, epoch)| epoch),
            _ => return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER),
        };
        refusal::fence(wanted.current_leader_epoch, epoch)?;
        Ok(partition)
    }
}

impl Wanted {
    fn new(topic: String, topic_id: Uuid, partition: &FetchPartition) -> Self {
        Self {
            topic,
            topic_id,
            partition: partition.partition,
            current_leader_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
            offset: partition.fetch_offset,
            max_bytes: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
        }
    }
}
