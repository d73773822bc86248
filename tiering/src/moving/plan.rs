//! What a move would do, and the order to do it.

use serde::Serialize;
use uuid::Uuid;
use whimbrel_runtime::random;

use super::{
    MoveError, Mover,
    documents::{self, Arrival, FORMAT, Order},
};
use crate::{
    format::fnv,
    store::{Location, Store, read_marker},
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    pub region: String,
    pub from: String,
    pub to: String,
    pub shards: u16,
    pub objects: u64,
    pub bytes: u64,
    /// Why it cannot be.
    pub refused: Vec<String>,
    /// It was ordered, now or before.
    pub ordered: Option<Uuid>,
    /// Of what would be done, not of the numbers, which change.
    pub hash: String,
}

impl Mover {
    pub async fn plan(&self, to: &str) -> Result<Plan, MoveError> {
        // Under another scheme than a store in a test it has to be a location.
        let store = match Location::parse(to) {
            Ok(_) => self.placed.open(to)?,
            Err(error) => return Err(error.into()),
        };
        self.plan_into(to, &*store).await
    }

    async fn plan_into(&self, to: &str, store: &dyn Store) -> Result<Plan, MoveError> {
        let from = &*self.store;
        let ordered = documents::read::<Order>(from, &self.keys.move_order()).await?;
        let mut refused = Vec::new();
        if let Some(order) = ordered.as_ref().filter(|order| order.to != to) {
            refused.push(format!(
                "a move to {} was ordered; finish it, name {} in the configuration of every daemon of the region and start them again",
                order.to, order.to
            ));
        }
        let arrival = documents::read::<Arrival>(store, &self.keys.move_arrival()).await?;
        let is_ours = match (&arrival, &ordered) {
            (Some(arrival), Some(order)) => arrival.id == order.id,
            _ => false,
        };
        let marker = read_marker(store, &self.keys).await?;
        if !is_ours && (arrival.is_some() || marker.is_some()) {
            refused.push(format!(
                "{to} is used by region {} of some fleet already: a move needs a place of its own",
                self.region
            ));
        }
        let here = read_marker(from, &self.keys).await?;
        let incarnation = here.map(|marker| marker.incarnation).unwrap_or_default();
        let roots = self.committer.roots();
        let partitions = || roots.iter().flat_map(|root| root.partitions.values());
        let (objects, bytes) = (
            partitions()
                .map(|p| p.objects())
                .fold(0, u64::saturating_add),
            partitions().map(|p| p.bytes()).fold(0, u64::saturating_add),
        );
        let what = [
            self.fleet_id.as_bytes(),
            self.region.as_bytes(),
            incarnation.as_bytes(),
            self.from.as_bytes(),
            to.as_bytes(),
        ];
        Ok(Plan {
            region: self.region.clone(),
            from: self.from.clone(),
            to: to.to_owned(),
            shards: self.committer.shards(),
            objects,
            bytes,
            refused,
            ordered: ordered.filter(|order| order.to == to).map(|order| order.id),
            hash: format!("{:016x}", fnv(&what)),
        })
    }

    /// Orders what was planned; every daemon of the region will find it.
    pub async fn order(&self, to: &str, hash: &str, rate: u64) -> Result<Plan, MoveError> {
        let plan = self.plan(to).await?;
        if plan.hash != hash {
            return Err(MoveError::Refused(format!("the plan is {} now", plan.hash)));
        }
        if let Some(why) = plan.refused.first() {
            return Err(MoveError::Refused(why.clone()));
        }
        let id = self.order_at(to, rate).await?;
        Ok(Plan {
            ordered: Some(id),
            ..plan
        })
    }

    /// Writes the order, unless it stands.
    pub async fn order_at(&self, to: &str, rate: u64) -> Result<Uuid, MoveError> {
        let from = &*self.store;
        let marker = read_marker(from, &self.keys).await?;
        let order = Order {
            format: FORMAT,
            id: random::uuid(),
            to: to.to_owned(),
            incarnation: marker.map(|m| m.incarnation).unwrap_or_default(),
            rate,
            ordered_ms: self.clock.wall_ms(),
        };
        let there = documents::write(from, &self.keys.move_order(), &order).await?;
        if there.to != to {
            let reason = format!("a move to {} was ordered", there.to);
            return Err(MoveError::Refused(reason));
        }
        self.wake.notify_one();
        Ok(there.id)
    }
}
