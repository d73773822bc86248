//! Whether a place is free for a move: never used, begun by this very move, begun by one that was cancelled, or left by
//! an earlier move, so that everything comes back to it.

use uuid::Uuid;

use super::{
    MoveError, Mover,
    documents::{self, Arrival, FORMAT, Order},
    switch::{Standing, standing},
};
use crate::{
    format::Unit,
    store::{Store, Version, read_marker},
};

/// What a place is to the bucket.
pub(super) enum Vacancy {
    /// This move has begun there.
    Begun(Arrival),
    Free {
        /// Of the arrival that this one takes the place of.
        before: Option<Version>,
        supersedes: Option<Uuid>,
    },
    Taken(String),
}

impl Mover {
    /// `id` is of the move that was ordered, if one was.
    pub(super) async fn vacancy(
        &self,
        to: &dyn Store,
        id: Option<Uuid>,
    ) -> Result<Vacancy, MoveError> {
        let arrival = documents::look::<Arrival>(to, &self.keys.move_arrival()).await?;
        let (arrival, before) = arrival.unzip();
        if let Some(arrival) = arrival.as_ref().filter(|arrival| Some(arrival.id) == id) {
            return Ok(Vacancy::Begun(arrival.clone()));
        }
        let Some(marker) = read_marker(to, &self.keys).await? else {
            return Ok(match arrival {
                None => Vacancy::Free {
                    before,
                    supersedes: None,
                },
                // Before its marker a move has brought nothing.
                Some(arrival) => self.cancelled(&arrival, before).await?,
            });
        };
        let here = read_marker(&*self.store, &self.keys).await?;
        if here.is_none_or(|here| here.incarnation != marker.incarnation) {
            let reason = format!("bucket {} is there", marker.incarnation);
            return Ok(Vacancy::Taken(reason));
        }
        if let Some(arrival) = &arrival
            && let free @ Vacancy::Free { .. } = self.cancelled(arrival, before.clone()).await?
        {
            return Ok(free);
        }
        match documents::order(to, &self.keys).await? {
            Some(order) if self.was_left(to).await? => Ok(Vacancy::Free {
                before,
                supersedes: Some(order.id),
            }),
            _ => Ok(Vacancy::Taken("it has what a bucket has".to_owned())),
        }
    }

    /// Whether what has begun there was cancelled here.
    async fn cancelled(
        &self,
        arrival: &Arrival,
        before: Option<Version>,
    ) -> Result<Vacancy, MoveError> {
        Ok(
            match documents::is_cancelled(&*self.store, &self.keys, arrival.id).await? {
                true => Vacancy::Free {
                    before,
                    supersedes: arrival.supersedes,
                },
                false => Vacancy::Taken(format!("move {} goes there", arrival.id)),
            },
        )
    }

    /// Whether a tombstone stands wherever something stood.
    async fn was_left(&self, to: &dyn Store) -> Result<bool, MoveError> {
        let shards = (0..self.committer.shards()).map(Unit::Shard);
        for unit in shards.chain([Unit::Meta]) {
            let Some(key) = self.keys.head_of(unit) else {
                continue;
            };
            if !matches!(standing(to, &key, unit).await?, Standing::Moved(..)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes the place ours, before anything else is written there.
    pub(super) async fn arrive_at(
        &self,
        to: &dyn Store,
        order: &Order,
    ) -> Result<Arrival, MoveError> {
        let (before, supersedes) = match self.vacancy(to, Some(order.id)).await? {
            Vacancy::Begun(arrival) => return Ok(arrival),
            Vacancy::Free { before, supersedes } => (before, supersedes),
            Vacancy::Taken(reason) => return Err(MoveError::Occupied(reason)),
        };
        let arrival = Arrival {
            format: FORMAT,
            id: order.id,
            from: self.from.clone(),
            incarnation: order.incarnation,
            supersedes,
        };
        let key = self.keys.move_arrival();
        let there = documents::replace(to, &key, &arrival, before.as_ref()).await?;
        if there.id != order.id {
            let reason = format!("another move, {}, goes there", there.id);
            return Err(MoveError::Occupied(reason));
        }
        Ok(there)
    }
}
