//! What is written down of a move, beside what moves: the order in the old place, the arrival and the end of it in
//! the new one. JSON; written once, never replaced.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{
    format::Key,
    store::{Store, StoreError},
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

/// `move/arrival.json` of the new place, written before all else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    pub format: u32,
    pub id: Uuid,
    /// URL of the old place.
    pub from: String,
    pub incarnation: Uuid,
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
    let found = match store.get(key, MAX_BYTES).await {
        Ok(found) => found,
        Err(e) if e.is_not_found() => return Ok(None),
        Err(e) => return Err(e),
    };
    serde_json::from_slice(&found.bytes)
        .map(Some)
        .map_err(|e| StoreError::Refused {
            op: "get",
            key: key.to_string(),
            reason: format!("it cannot be read: {e}"),
        })
}

/// What is there after `mine` was written where there was nothing.
pub async fn write<T: Serialize + DeserializeOwned>(
    store: &dyn Store,
    key: &Key,
    mine: &T,
) -> Result<T, StoreError> {
    if let Some(found) = read(store, key).await? {
        return Ok(found);
    }
    let text = serde_json::to_vec_pretty(mine).map_err(|e| StoreError::Refused {
        op: "put_if_absent",
        key: key.to_string(),
        reason: e.to_string(),
    })?;
    let written = store.put_if_absent(key, text.into()).await;
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
