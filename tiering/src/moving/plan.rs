//! What a move would do, and the order to do it.

use serde::Serialize;
use uuid::Uuid;
use whimbrel_runtime::random;

use super::{
    MoveError, Mover,
    documents::{self, FORMAT, Order},
    place::Vacancy,
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
    /// The bucket was there before: what is still there and sound is not copied again.
    pub comes_back: bool,
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
        let ordered = documents::order(from, &self.keys).await?;
        let mut refused = Vec::new();
        if let Some(order) = ordered.as_ref().filter(|order| order.to != to) {
            refused.push(format!(
                "a move to {} was ordered: cancel it, or let it end, name {} in the configuration of every daemon of the region and start them again",
                order.to, order.to
            ));
        }
        let ours = ordered.as_ref().filter(|order| order.to == to);
        let mut comes_back = false;
        match self.vacancy(store, ours.map(|order| order.id)).await? {
            Vacancy::Begun(arrival) => comes_back = arrival.supersedes.is_some(),
            Vacancy::Free { supersedes, .. } => comes_back = supersedes.is_some(),
            Vacancy::Taken(why) => refused.push(format!(
                "{to} is used ({why}): a move needs a place of its own, or one that was left by a move"
            )),
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
            comes_back,
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
        let key = self.keys.move_order();
        let there = match documents::order_and_version(from, &self.keys).await? {
            (Some(there), _) => there,
            // Over one that was cancelled, or after which everything came back.
            (None, before) => {
                let there = documents::replace(from, &key, &order, before.as_ref()).await?;
                if there.id != order.id && documents::order(from, &self.keys).await?.is_none() {
                    let reason = "the order was not written; try again".to_owned();
                    return Err(MoveError::Refused(reason));
                }
                there
            }
        };
        if there.to != to {
            let reason = format!("a move to {} was ordered", there.to);
            return Err(MoveError::Refused(reason));
        }
        self.wake.notify_one();
        Ok(there.id)
    }
}
