//! InitProducerId: a new producer id, or for a transactional id an epoch that nobody had before.

use std::sync::Arc;

use whimbrel_wire::{
    ErrorCode,
    messages::init_producer_id::{Request, Response},
};

use super::fenced;
use crate::{broker::Broker, txn::Producer};

/// First version that knows PRODUCER_FENCED.
const FENCED: i16 = 4;

pub async fn handle(broker: &Arc<Broker>, request: Request, version: i16) -> Response {
    let given = match request.transactional_id.as_deref() {
        None => idempotent(broker).await,
        Some(id) => transactional(broker, id, &request).await,
    };
    match given {
        Ok(producer) => Response {
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            ..Response::default()
        },
        Err(error) => Response {
            error_code: fenced(error, version >= FENCED),
            producer_id: -1,
            producer_epoch: -1,
            ..Response::default()
        },
    }
}

/// A producer that lost its way gets a new id rather than a higher epoch: both begin again at sequence 0.
async fn idempotent(broker: &Broker) -> Result<Producer, ErrorCode> {
    let next = broker.producer_ids.next(&broker.controller, broker.node);
    match next.await {
        Ok(id) => Ok(Producer { id, epoch: 0 }),
        Err(error) => {
            tracing::warn!(%error, "no producer id");
            Err(ErrorCode::COORDINATOR_NOT_AVAILABLE)
        }
    }
}

async fn transactional(
    broker: &Broker,
    id: &str,
    request: &Request,
) -> Result<Producer, ErrorCode> {
    // Two-phase commit (KIP-939) is not offered.
    if request.enable_2pc || request.keep_prepared_txn {
        return Err(ErrorCode::UNSUPPORTED_VERSION);
    }
    let was = Producer {
        id: request.producer_id,
        epoch: request.producer_epoch,
    };
    let recovery = match (was.id, was.epoch) {
        (-1, -1) => None,
        (0.., 0..) => Some(was),
        _ => return Err(ErrorCode::INVALID_REQUEST),
    };
    let coordinator = broker
        .coordination
        .transactions()
        .ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
    coordinator
        .init(id, request.transaction_timeout_ms, recovery)
        .await
}
