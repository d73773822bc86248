//! What a daemon learns of moves before it reads a root: where to, and that it must not begin where one is still
//! arriving.

use std::sync::Arc;

use uuid::Uuid;

use super::{Arrival, Done, MoveError, documents};
use crate::{
    format::Keys,
    store::{Placed, Store, StoreError},
};

/// Asks the place that the configuration names, and the one that it was left for. `store` is `placed` behind deadlines,
/// which `limit` gives to others.
pub(crate) async fn arrive(
    store: &Arc<dyn Store>,
    placed: &Placed,
    keys: &Keys,
    limit: impl Fn(Arc<dyn Store>) -> Arc<dyn Store>,
) -> Result<(), MoveError> {
    let arrival = documents::read::<Arrival>(&**store, &keys.move_arrival()).await?;
    if let Some(arrival) = arrival {
        let done = documents::read::<Done>(&**store, &keys.move_done()).await?;
        if done.is_none_or(|done| done.id != arrival.id) {
            let reason = format!("a move from {} to here is not done", arrival.from);
            return Err(MoveError::Refused(reason));
        }
    }
    let Some(order) = documents::order(&**store, keys).await? else {
        return Ok(());
    };
    let target = placed.aim(order.id, &order.to)?;
    let next = limit(Arc::clone(&target.store));
    match gone_on(&*next, keys, order.id).await {
        Ok(Some(to)) => return Err(MoveError::MovedOn { at: order.to, to }),
        Ok(None) => {}
        // What has not moved yet is served without it.
        Err(error) => tracing::warn!(%error, to = target.url, "the new place does not answer now"),
    }
    tracing::warn!(
        code = "WB-340",
        to = target.url,
        "the bucket moves or has moved: the configuration is to name its new place once all is there"
    );
    Ok(())
}

/// Where the place that a move went to was left for, or is being left for.
async fn gone_on(next: &dyn Store, keys: &Keys, id: Uuid) -> Result<Option<String>, StoreError> {
    let done = documents::read::<Done>(next, &keys.move_done()).await?;
    if done.is_none_or(|done| done.id != id) {
        return Ok(None);
    }
    let order = documents::order(next, keys).await?;
    Ok(order.map(|order| order.to))
}
