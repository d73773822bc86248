//! A broker of this region as whoever takes a cut sees it: itself, or another over the internal rpc listener.

use std::{sync::Arc, time::Duration};

use whimbrel_fleet::{GroupName, Node};
use whimbrel_rpc::proto::peer::{EndsReply, EndsRequest, HoldRequest, Part, ReleaseRequest};

use super::part;
use crate::{broker::Broker, catalog::Catalog};

#[derive(Clone, Debug)]
pub struct Peer {
    broker: Arc<Broker>,
    pub node: Node,
}

impl Peer {
    /// The live brokers of this region.
    pub fn all(broker: &Arc<Broker>, catalog: &Catalog) -> Vec<Self> {
        let nodes = catalog.view.nodes.values();
        nodes
            .filter(|node| node.region == broker.region && catalog.view.is_live(node.id))
            .map(|node| Self {
                broker: Arc::clone(broker),
                node: node.clone(),
            })
            .collect()
    }

    fn is_here(&self) -> bool {
        self.node.id == self.broker.node
    }

    /// True once the peer holds its markers and none is under way. What it answers late counts for nothing.
    pub async fn hold(&self, token: u64, span: Duration) -> Option<bool> {
        if self.is_here() {
            return Some(part::hold(&self.broker, token, span).await);
        }
        let request = HoldRequest {
            fleet_id: self.broker.fleet_id.clone(),
            token,
            for_ms: u32::try_from(span.as_millis()).unwrap_or(0),
        };
        let mut client = self.broker.peers.client(&self.node)?;
        let answer = self.broker.clock.within(span, client.hold(request)).await;
        self.heard(answer).map(|reply| reply.held)
    }

    /// True if no marker of the peer came through since it began to hold.
    pub async fn release(&self, token: u64, patience: Duration) -> bool {
        if self.is_here() {
            return part::release(&self.broker, token);
        }
        let Some(mut client) = self.broker.peers.client(&self.node) else {
            return false;
        };
        let request = ReleaseRequest {
            fleet_id: self.broker.fleet_id.clone(),
            token,
        };
        let answer = self.broker.clock.within(patience, client.release(request));
        self.heard(answer.await).is_some_and(|reply| reply.stood)
    }

    pub async fn ends(
        &self,
        group: &GroupName,
        part: Part,
        led: bool,
        patience: Duration,
    ) -> Option<EndsReply> {
        if self.is_here() {
            return Some(part::ends(&self.broker, group, part, led));
        }
        let request = EndsRequest {
            fleet_id: self.broker.fleet_id.clone(),
            group: group.to_string(),
            part: part.into(),
            led,
        };
        let mut client = self.broker.peers.client(&self.node)?;
        let answer = self.broker.clock.within(patience, client.ends(request));
        self.heard(answer.await)
    }

    fn heard<T>(&self, answer: Option<Result<tonic::Response<T>, tonic::Status>>) -> Option<T> {
        match answer {
            Some(Ok(reply)) => Some(reply.into_inner()),
            Some(Err(error)) => {
                tracing::debug!(peer = %self.node.id, %error, "a peer gave no part of a cut");
                None
            }
            None => {
                tracing::debug!(peer = %self.node.id, "a peer was late with its part of a cut");
                None
            }
        }
    }
}
