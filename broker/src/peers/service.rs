//! The side that is asked.

use std::sync::Arc;

use bytes::Bytes;
use tonic::{Request, Response, Status};
use whimbrel_rpc::proto::peer::{
    ExchangeReply, ExchangeRequest,
    peer_server::{Peer, PeerServer},
};
use whimbrel_wire::{ApiKey, Message};

use crate::{
    api::{add_partitions_to_txn, list_transactions, write_txn_markers},
    broker::Broker,
};

/// A request with a marker for each of many thousand partitions fits.
const MESSAGE_BYTES: usize = 4 << 20;

pub fn service(broker: &Arc<Broker>) -> PeerServer<impl Peer + use<>> {
    let service = Service {
        broker: Arc::clone(broker),
    };
    PeerServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES)
        .max_encoding_message_size(MESSAGE_BYTES)
}

struct Service {
    broker: Arc<Broker>,
}

#[tonic::async_trait]
impl Peer for Service {
    async fn exchange(
        &self,
        request: Request<ExchangeRequest>,
    ) -> Result<Response<ExchangeReply>, Status> {
        let request = request.into_inner();
        if request.fleet_id != self.broker.fleet_id {
            return Err(Status::failed_precondition("a peer of another fleet"));
        }
        let key = i16::try_from(request.api_key)
            .ok()
            .and_then(|key| ApiKey::try_from(key).ok());
        let version = i16::try_from(request.api_version).unwrap_or(-1);
        let key = key
            .filter(|key| key.supports(version))
            .ok_or_else(|| Status::unimplemented("no such request"))?;
        let body = match key {
            ApiKey::AddPartitionsToTxn => {
                let request = decode(version, request.body)?;
                add_partitions_to_txn::handle(&self.broker, request, version)
                    .await
                    .to_bytes(version)
            }
            ApiKey::WriteTxnMarkers => {
                let request = decode(version, request.body)?;
                write_txn_markers::handle(&self.broker, request)
                    .await
                    .to_bytes(version)
            }
            ApiKey::ListTransactions => {
                let request = decode(version, request.body)?;
                let coordinator = self.broker.coordination.transactions();
                let coordinator = coordinator.ok_or_else(|| Status::unavailable("starting"))?;
                let now_ms = self.broker.clock.wall_ms();
                list_transactions::handle(coordinator, request, now_ms).to_bytes(version)
            }
            _ => return Err(Status::unimplemented(key.name())),
        };
        Ok(Response::new(ExchangeReply { body }))
    }
}

fn decode<M: Message>(version: i16, body: Bytes) -> Result<M, Status> {
    M::from_bytes(version, body).map_err(|error| Status::invalid_argument(error.to_string()))
}
