//! What is written down of a move, beside what moves: the order and the decision in the old place, the arrival and
//! the end of it in the new one. JSON; replaced, by compare-and-swap, only once the move that they tell of was cancelled
//! or the place was left and everything comes back to it.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{
    format::{Key, Keys},
    store::{Store, StoreError, Version},
};

const MAX_BYTES: u64 = 64 << 10;
pub const FORMAT: u32 = 1;

/// `move/order.json` of the old place. Whoever finds it carries it out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub format: u32,
    pub id: Uuid,
    /// URL of the new place.
    pub to: String,
    /// Of the bucket, as its marker says.
    pub incarnation: Uuid,
    /// Bytes a second that each daemon copies; 0 is no limit.
    pub rate: u64,
    pub ordered_ms: i64,
}

/// `move/decision-<id>.json` of the old place. Before it is there the move can be cancelled, after it no more; the
/// first tombstone waits for it. The first to write it decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    pub format: u32,
    pub id: Uuid,
    pub goes: bool,
    pub decided_ms: i64,
}

/// `move/arrival.json` of the new place, written before all else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    pub format: u32,
    pub id: Uuid,
    /// URL of the old place.
    pub from: String,
    pub incarnation: Uuid,
    /// The order by which this place was left before, which is none any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supersedes: Option<Uuid>,
}

/// `move/done.json` of the new place: everything is there, and daemons may be told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    pub format: u32,
    pub id: Uuid,
    pub done_ms: i64,
}

/// The document, if it is there; one that cannot be read is an error.
pub async fn read<T: DeserializeOwned>(
    store: &dyn Store,
    key: &Key,
) -> Result<Option<T>, StoreError> {
    Ok(look(store, key).await?.map(|(document, _)| document))
}

/// The order that stands in a place: not one that was cancelled, nor one after which everything came back.
pub async fn order(store: &dyn Store, keys: &Keys) -> Result<Option<Order>, StoreError> {
    Ok(order_and_version(store, keys).await?.0)
}

/// The same, with the version of whatever order is there.
pub async fn order_and_version(
    store: &dyn Store,
    keys: &Keys,
) -> Result<(Option<Order>, Option<Version>), StoreError> {
    let Some((order, version)) = look::<Order>(store, &keys.move_order()).await? else {
        return Ok((None, None));
    };
    let is_void = is_cancelled(store, keys, order.id).await?
        || read::<Arrival>(store, &keys.move_arrival())
            .await?
            .is_some_and(|arrival| arrival.supersedes == Some(order.id));
    Ok((Some(order).filter(|_| !is_void), Some(version)))
}

/// Whether a move that was ordered in this place was cancelled.
pub async fn is_cancelled(store: &dyn Store, keys: &Keys, id: Uuid) -> Result<bool, StoreError> {
    let decision = read::<Decision>(store, &keys.move_decision(id)).await?;
    Ok(decision.is_some_and(|decision| !decision.goes))
}

/// The same as [`read`], with what a [`replace`] goes by.
pub async fn look<T: DeserializeOwned>(
    store: &dyn Store,
    key: &Key,
) -> Result<Option<(T, Version)>, StoreError> {
    let found = match store.get(key, MAX_BYTES).await {
        Ok(found) => found,
        Err(e) if e.is_not_found() => return Ok(None),
        Err(e) => return Err(e),
    };
    let document = serde_json::from_slice(&found.bytes).map_err(|e| StoreError::Refused {
        op: "get",
        key: key.to_string(),
        reason: format!("it cannot be read: {e}"),
    })?;
    Ok(Some((document, found.version)))
}

/// What is there after `mine` was written where there was nothing.
pub async fn write<T: Serialize + DeserializeOwned>(
    store: &dyn Store,
    key: &Key,
    mine: &T,
) -> Result<T, StoreError> {
    match read(store, key).await? {
        Some(found) => Ok(found),
        None => replace(store, key, mine, None).await,
    }
}

/// What is there after `mine` was written over what `before` is the version of, or where there was nothing.
pub async fn replace<T: Serialize + DeserializeOwned>(
    store: &dyn Store,
    key: &Key,
    mine: &T,
    before: Option<&Version>,
) -> Result<T, StoreError> {
    let text = serde_json::to_vec_pretty(mine).map_err(|e| StoreError::Refused {
        op: "put_if_absent",
        key: key.to_string(),
        reason: e.to_string(),
    })?;
    let written = match before {
        Some(before) => store.swap(key, text.into(), before).await,
        None => store.put_if_absent(key, text.into()).await,
    };
    // Whatever the answer was: what is there decides.
    match (read(store, key).await?, written) {
        (Some(found), _) => Ok(found),
        (None, Err(e)) => Err(e),
        (None, Ok(_)) => Err(StoreError::NotFound {
            op: "get",
            key: key.clone(),
        }),
    }
}
