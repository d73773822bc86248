//! The point from which a move cannot be cancelled: a document that is written once, by the first daemon that is about
//! to put a tombstone or by whoever cancels. No clock and no lock: the store takes one of the two.

use uuid::Uuid;

use super::{
    Copier, MoveError, Mover,
    documents::{self, Decision, FORMAT},
};
use crate::store::{Store, Target};

impl Mover {
    /// From here on the move goes on; an error where it was cancelled before.
    pub(super) async fn decide(&self, target: &Target, copier: &Copier) -> Result<(), MoveError> {
        if target.is_decided() {
            return Ok(());
        }
        let decision = self.decided(&*copier.from, target.id, true).await?;
        if !decision.goes {
            self.placed.forget(target.id);
            return Err(MoveError::Cancelled);
        }
        target.decide();
        Ok(())
    }

    /// What stands after this was said, by whoever was first.
    async fn decided(&self, from: &dyn Store, id: Uuid, goes: bool) -> Result<Decision, MoveError> {
        let mine = Decision {
            format: FORMAT,
            id,
            goes,
            decided_ms: self.clock.wall_ms(),
        };
        Ok(documents::write(from, &self.keys.move_decision(id), &mine).await?)
    }

    /// Ends a move of which nothing has changed its place. The copies that it has made stay in the new place.
    pub async fn cancel(&self) -> Result<Uuid, MoveError> {
        let Some(order) = documents::order(&*self.store, &self.keys).await? else {
            return Err(MoveError::Refused("no move was ordered".to_owned()));
        };
        let target = self.placed.target().filter(|target| target.id == order.id);
        // Whoever has seen a tombstone of it knows better than to call it off.
        let goes = target.is_some_and(|target| target.is_decided());
        let decision = self.decided(&*self.store, order.id, goes).await?;
        if decision.goes {
            let reason = format!(
                "shards have begun to change to {} and are served from there: let it end, and move back",
                order.to
            );
            return Err(MoveError::Refused(reason));
        }
        self.placed.forget(order.id);
        *self.trouble.lock() = None;
        self.wake.notify_one();
        Ok(order.id)
    }

    /// Another daemon was asked to cancel what this one has begun.
    pub(super) async fn forget_cancelled(&self) -> Result<(), MoveError> {
        if let Some(target) = self.placed.target().filter(|target| !target.is_decided())
            && documents::is_cancelled(&*self.store, &self.keys, target.id).await?
        {
            tracing::info!(to = target.url, "the move was cancelled");
            self.placed.forget(target.id);
        }
        Ok(())
    }
}
