//! The side that is asked.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tonic::{Request, Response, Status};
use whimbrel_fleet::GroupName;
use whimbrel_rpc::proto::peer::{
    EndsReply, EndsRequest, ExchangeReply, ExchangeRequest, HoldReply, HoldRequest, ReleaseReply,
    ReleaseRequest,
    peer_server::{Peer, PeerServer},
};
use whimbrel_wire::{ApiKey, Message};

use crate::{
    api::{add_partitions_to_txn, list_transactions, write_txn_markers},
    broker::Broker,
    cuts::part,
    peers::{MESSAGE_BYTES, from_proto},
};

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
        self.check(&request.fleet_id)?;
        let key = i16::try_from(request.api_key)
            .ok()
            .and_then(|key| ApiKey::try_from(key).ok());
        let version = i16::try_from(request.api_version).unwrap_or(-1);
        let places = from_proto(request.above);
        let key = key
            .filter(|key| key.supports(version))
            .ok_or_else(|| Status::unimplemented("no such request"))?;
        let body = match key {
            ApiKey::AddPartitionsToTxn => {
                let request = decode(version, request.body)?;
                add_partitions_to_txn::handle(&self.broker, request, version, &places)
                    .await
                    .to_bytes(version)
            }
            ApiKey::WriteTxnMarkers => {
                let request = decode(version, request.body)?;
                write_txn_markers::handle(&self.broker, request, &places)
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

    async fn hold(&self, request: Request<HoldRequest>) -> Result<Response<HoldReply>, Status> {
        let request = request.into_inner();
        self.check(&request.fleet_id)?;
        let span = Duration::from_millis(u64::from(request.for_ms));
        let held = part::hold(&self.broker, request.token, span).await;
        Ok(Response::new(HoldReply { held }))
    }

    async fn release(
        &self,
        request: Request<ReleaseRequest>,
    ) -> Result<Response<ReleaseReply>, Status> {
        let request = request.into_inner();
        self.check(&request.fleet_id)?;
        let stood = part::release(&self.broker, request.token);
        Ok(Response::new(ReleaseReply { stood }))
    }

    async fn ends(&self, request: Request<EndsRequest>) -> Result<Response<EndsReply>, Status> {
        let request = request.into_inner();
        self.check(&request.fleet_id)?;
        let ends = part::ends(
            &self.broker,
            &GroupName::new(request.group.as_str()),
            request.part(),
            request.led,
        );
        Ok(Response::new(ends))
    }
}

impl Service {
    fn check(&self, fleet_id: &str) -> Result<(), Status> {
        if fleet_id == self.broker.fleet_id {
            Ok(())
        } else {
            Err(Status::failed_precondition("a peer of another fleet"))
        }
    }
}

fn decode<M: Message>(version: i16, body: Bytes) -> Result<M, Status> {
    M::from_bytes(version, body).map_err(|error| Status::invalid_argument(error.to_string()))
}
