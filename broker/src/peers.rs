//! Talks to the other brokers of this region, in Kafka's messages over the internal rpc listener.
//!
//! Only what brokers have to tell each other goes this way: markers of transactions, whether a partition is part of
//! one, and their parts of a cut. Clients cannot reach the listener, and it takes nothing else.

mod service;

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tonic::transport::{Channel, Endpoint};
use whimbrel_fleet::{HostPort, Node, NodeId};
use whimbrel_rpc::proto::peer::{self, ExchangeRequest, peer_client::PeerClient};
use whimbrel_wire::{ErrorCode, Message, Request};

pub use service::service;

use crate::{broker::Broker, group::offsets::TopicPartition, txn::Places};

/// Until a peer has to have answered; Kafka's `request.timeout.ms` of brokers.
const TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(2);

/// A request with a marker for each of many thousand partitions fits, and so do the ends of as many logs.
pub(crate) const MESSAGE_BYTES: usize = 16 << 20;

/// Connections to the peers that were talked to, made when they are needed.
#[derive(Debug, Default)]
pub struct Peers {
    clients: Mutex<HashMap<NodeId, (HostPort, PeerClient<Channel>)>>,
}

impl Peers {
    pub(crate) fn client(&self, node: &Node) -> Option<PeerClient<Channel>> {
        let mut clients = self.clients.lock();
        if let Some((at, client)) = clients.get(&node.id)
            && *at == node.rpc
        {
            return Some(client.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{}", node.rpc)).ok()?;
        let channel = endpoint.connect_timeout(CONNECT).tcp_nodelay(true);
        let client =
            PeerClient::new(channel.connect_lazy()).max_decoding_message_size(MESSAGE_BYTES);
        clients.insert(node.id, (node.rpc.clone(), client.clone()));
        Some(client)
    }
}

/// Asks a peer and waits for its answer.
///
/// # Errors
/// NETWORK_EXCEPTION or REQUEST_TIMED_OUT: whether it did what it was asked is unknown.
pub async fn ask<R: Request>(
    broker: &Arc<Broker>,
    node: &Node,
    version: i16,
    request: &R,
) -> Result<R::Response, ErrorCode> {
    ask_about(broker, node, version, request, &Places::new()).await
}

/// As [`ask`], with where the transaction that it is about lies.
///
/// # Errors
/// As [`ask`].
pub async fn ask_about<R: Request>(
    broker: &Arc<Broker>,
    node: &Node,
    version: i16,
    request: &R,
    places: &Places,
) -> Result<R::Response, ErrorCode> {
    let mut client = broker
        .peers
        .client(node)
        .ok_or(ErrorCode::NETWORK_EXCEPTION)?;
    let request = ExchangeRequest {
        fleet_id: broker.fleet_id.clone(),
        api_key: i32::from(R::KEY as i16),
        api_version: i32::from(version),
        body: request.to_bytes(version),
        above: places.iter().filter_map(to_proto).collect(),
    };
    let failed = |what: &dyn std::fmt::Display| {
        tracing::debug!(peer = %node.id, api = R::KEY.name(), error = %what, "a peer was not reached");
        ErrorCode::NETWORK_EXCEPTION
    };
    let reply = broker.clock.within(TIMEOUT, client.exchange(request)).await;
    let reply = reply
        .ok_or(ErrorCode::REQUEST_TIMED_OUT)?
        .map_err(|error| failed(&error))?;
    R::Response::from_bytes(version, reply.into_inner().body).map_err(|error| failed(&error))
}

/// Nothing is said where nothing is known.
fn to_proto((at, offset): (&TopicPartition, &i64)) -> Option<peer::Above> {
    (*offset > 0).then(|| peer::Above {
        topic: at.topic.clone(),
        partition: at.partition,
        offset: *offset,
    })
}

fn from_proto(above: Vec<peer::Above>) -> Places {
    let place = |above: peer::Above| {
        let at = TopicPartition {
            topic: above.topic,
            partition: above.partition,
        };
        (at, above.offset)
    };
    above.into_iter().map(place).collect()
}
