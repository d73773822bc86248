//! Asks the voters for the ceilings they granted.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use tonic::transport::Channel;
use whimbrel_fleet::{Ceiling, GroupName, NodeId, Position, RegionEpoch};
use whimbrel_rpc::{
    address::uuid_from,
    proto::controller::{CeilingsRequest, ceilings_reply, voter_client::VoterClient},
};
use whimbrel_runtime::Clock;

use crate::ceilings::{Ceilings, Held, reserved};

/// How long a voter that does not answer is waited for when the others are not enough.
const PATIENCE: Duration = Duration::from_secs(1);

/// What each voter that answered holds.
pub(crate) type Answers = BTreeMap<u64, Vec<Held>>;

#[derive(Clone)]
pub(crate) struct Collector {
    pub(crate) fleet_id: Arc<str>,
    pub(crate) voter: u64,
    pub(crate) own: Arc<Ceilings>,
    pub(crate) others: Arc<BTreeMap<u64, VoterClient<Channel>>>,
    pub(crate) clock: Clock,
}

impl Collector {
    /// Asks all voters; returns as soon as the answers name a ceiling for every one of `nodes`, and at
    /// the latest when the patience is over.
    pub(crate) async fn collect(
        &self,
        group: &GroupName,
        nodes: &[NodeId],
        voters: &[u64],
    ) -> Answers {
        let mut answers = BTreeMap::new();
        if voters.contains(&self.voter) {
            answers.insert(self.voter, self.own.of(group));
        }
        let mut asked: FuturesUnordered<_> = self
            .others
            .iter()
            .filter(|(id, _)| voters.contains(id))
            .map(|(id, stub)| self.ask(*id, stub.clone(), group))
            .collect();
        let gather = async {
            while !nodes
                .iter()
                .all(|n| reserved(&answers, *n, voters.len(), 0).is_some())
            {
                match asked.next().await {
                    Some((id, Some(held))) => drop(answers.insert(id, held)),
                    Some((_, None)) => {}
                    None => break,
                }
            }
        };
        self.clock.within(PATIENCE, gather).await;
        answers
    }

    async fn ask(
        &self,
        id: u64,
        mut stub: VoterClient<Channel>,
        group: &GroupName,
    ) -> (u64, Option<Vec<Held>>) {
        let now_ns = self.clock.boot_ns();
        let request = CeilingsRequest {
            fleet_id: self.fleet_id.to_string(),
            group: group.to_string(),
        };
        let Ok(reply) = stub.ceilings(request).await else {
            return (id, None);
        };
        let held = reply
            .into_inner()
            .held
            .iter()
            .map(|h| from_wire(h, now_ns))
            .collect();
        (id, held)
    }
}

fn from_wire(held: &ceilings_reply::Held, now_ns: u64) -> Option<Held> {
    Some(Held {
        node: NodeId(held.node),
        incarnation: uuid_from(&held.incarnation).ok()?,
        epoch: RegionEpoch(held.epoch),
        ceiling: Ceiling {
            position: Position {
                records: held.records,
                bytes: held.bytes,
            },
            sequence: held.sequence,
        },
        view_version: held.view_version,
        at_ns: now_ns.saturating_sub(held.age_ms.saturating_mul(1_000_000)),
    })
}
