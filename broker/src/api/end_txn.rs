//! EndTxn: commits or aborts. Answered when the decision is durable; the markers follow by themselves.

use std::sync::Arc;

use whimbrel_wire::{
    ErrorCode,
    messages::end_txn::{Request, Response},
};

use super::fenced;
use crate::{broker::Broker, txn::Producer};

/// First version that knows PRODUCER_FENCED.
const FENCED: i16 = 2;
/// First version of clients that get a new epoch with every transaction (KIP-890).
const BUMPS: i16 = 5;

pub async fn handle(broker: &Arc<Broker>, request: Request, version: i16) -> Response {
    let who = Producer {
        id: request.producer_id,
        epoch: request.producer_epoch,
    };
    let ended = match broker.coordination.transactions() {
        None => Err(ErrorCode::COORDINATOR_NOT_AVAILABLE),
        Some(coordinator) => {
            let (id, commit) = (&request.transactional_id, request.committed);
            coordinator.end(id, who, commit, version >= BUMPS).await
        }
    };
    match ended {
        Ok(next) => Response {
            producer_id: next.id,
            producer_epoch: next.epoch,
            ..Response::default()
        },
        Err(error) => Response {
            error_code: fenced(error, version >= FENCED),
            ..Response::default()
        },
    }
}
