//! What a daemon learns of moves before it reads a root: where to, and that it must not begin where one is still
//! arriving.

use std::sync::Arc;

use super::{Arrival, Done, MoveError, Order, documents};
use crate::{
    format::Keys,
    store::{Placed, Store},
};

/// Asks the place that the configuration names. `store` is `placed` behind deadlines.
pub(crate) async fn arrive(
    store: &Arc<dyn Store>,
    placed: &Placed,
    keys: &Keys,
) -> Result<(), MoveError> {
    let arrival = documents::read::<Arrival>(&**store, &keys.move_arrival()).await?;
    if let Some(arrival) = arrival {
        let done = documents::read::<Done>(&**store, &keys.move_done()).await?;
        if done.is_none_or(|done| done.id != arrival.id) {
            let reason = format!("a move from {} to here is not done", arrival.from);
            return Err(MoveError::Refused(reason));
        }
    }
    let Some(order) = documents::read::<Order>(&**store, &keys.move_order()).await? else {
        return Ok(());
    };
    let target = placed.aim(order.id, &order.to)?;
    tracing::warn!(
        code = "WB-340",
        to = target.url,
        "the bucket moves or has moved: the configuration is to name its new place once all is there"
    );
    Ok(())
}
