//! InitProducerId for idempotent producers. Transactional ids are refused: transactions are not offered.

use std::sync::Arc;

use whimbrel_wire::{
    ErrorCode,
    messages::init_producer_id::{Request, Response},
};

use crate::broker::Broker;

pub async fn handle(broker: &Arc<Broker>, request: Request) -> Response {
    let failed = |error_code| Response {
        error_code,
        producer_id: -1,
        producer_epoch: -1,
        ..Response::default()
    };
    match request.transactional_id.as_deref() {
        None => {}
        Some("") => return failed(ErrorCode::INVALID_REQUEST),
        Some(_) => return failed(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
    }
    // A producer that lost its way gets a new id rather than a higher epoch: both begin again at sequence 0.
    match broker
        .producer_ids
        .next(&broker.controller, broker.node)
        .await
    {
        Ok(producer_id) => Response {
            producer_id,
            producer_epoch: 0,
            ..Response::default()
        },
        Err(error) => {
            tracing::warn!(%error, "no producer id");
            failed(ErrorCode::COORDINATOR_NOT_AVAILABLE)
        }
    }
}
