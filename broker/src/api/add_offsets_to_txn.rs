//! AddOffsetsToTxn: a group's partition of `__consumer_offsets` takes part in a transaction.

use std::sync::Arc;

use whimbrel_fleet::naming::CONSUMER_OFFSETS;
use whimbrel_wire::{
    ErrorCode,
    messages::add_offsets_to_txn::{Request, Response},
};

use super::fenced;
use crate::{broker::Broker, group::offsets::TopicPartition, txn::Producer};

/// First version that knows PRODUCER_FENCED.
const FENCED: i16 = 2;

pub async fn handle(broker: &Arc<Broker>, request: Request, version: i16) -> Response {
    let error = add(broker, &request).await.err().unwrap_or(ErrorCode::NONE);
    Response {
        error_code: fenced(error, version >= FENCED),
        ..Response::default()
    }
}

async fn add(broker: &Broker, request: &Request) -> Result<(), ErrorCode> {
    let coordinator = broker
        .coordination
        .transactions()
        .ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
    let catalog = broker.catalog();
    let id = &request.transactional_id;
    let (group, partition) = catalog
        .view
        .coordinator_partition(&request.group_id)
        .ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
    let own = catalog.view.transaction_partition(id);
    if own.is_some_and(|(own, _)| own.name != group.name) {
        return Err(ErrorCode::POLICY_VIOLATION);
    }
    let at = TopicPartition {
        topic: CONSUMER_OFFSETS.to_owned(),
        partition,
    };
    let who = Producer {
        id: request.producer_id,
        epoch: request.producer_epoch,
    };
    coordinator.add(id, who, [at].into(), 0).await
}
