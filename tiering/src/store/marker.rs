//! The marker that says whose bucket this is: `PREFIX/v1/<region>/whimbrel.json`.
//!
//! It is read before anything is written and created with put-if-absent, so that of two fleets that begin
//! with the same bucket one is refused. It is never replaced.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Store, StoreError};
use crate::format::Keys;

/// The format that this build writes and reads.
const FORMAT: u32 = 1;
const MAX_BYTES: u64 = 64 << 10;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    pub format: u32,
    pub fleet_id: String,
    pub region: String,
    /// Drawn when the bucket was first used; a bucket that was emptied and used again has another.
    pub incarnation: Uuid,
    /// Manifest shards, fixed for the bucket's life.
    pub shards: u16,
    pub created_ms: i64,
}

#[derive(Debug, thiserror::Error)]
pub enum MarkerError {
    #[error("the bucket belongs to fleet `{found}`, this is fleet `{expected}`")]
    ForeignFleet { found: String, expected: String },
    #[error("the bucket is of format {found}, this build knows {FORMAT}")]
    Format { found: u32 },
    #[error("the bucket's marker is unreadable: {0}")]
    Unreadable(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The marker, if the bucket has one.
pub async fn read_marker(store: &dyn Store, keys: &Keys) -> Result<Option<Marker>, MarkerError> {
    match store.get(&keys.marker(), MAX_BYTES).await {
        Ok(found) => serde_json::from_slice(&found.bytes)
            .map(Some)
            .map_err(|e| MarkerError::Unreadable(e.to_string())),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// `found` if it is a marker of this fleet, region and format.
pub fn accept_marker(found: Marker, mine: &Marker) -> Result<Marker, MarkerError> {
    if found.format != FORMAT {
        return Err(MarkerError::Format {
            found: found.format,
        });
    }
    if found.fleet_id != mine.fleet_id || found.region != mine.region {
        let name = |m: &Marker| format!("{}/{}", m.fleet_id, m.region);
        return Err(MarkerError::ForeignFleet {
            found: name(&found),
            expected: name(mine),
        });
    }
    if found.shards == 0 || found.shards > 4_096 {
        return Err(MarkerError::Unreadable(format!("{} shards", found.shards)));
    }
    Ok(found)
}

/// The marker that stands, after `mine` was written where there was none.
pub async fn check_marker(
    store: &dyn Store,
    keys: &Keys,
    mine: &Marker,
) -> Result<Marker, MarkerError> {
    if let Some(found) = read_marker(store, keys).await? {
        return accept_marker(found, mine);
    }
    let text =
        serde_json::to_vec_pretty(mine).map_err(|e| MarkerError::Unreadable(e.to_string()))?;
    let written = store.put_if_absent(&keys.marker(), text.into()).await;
    // Whatever the answer was, what is there now decides.
    match (read_marker(store, keys).await?, written) {
        (Some(found), _) => accept_marker(found, mine),
        (None, Err(e)) => Err(e.into()),
        (None, Ok(_)) => Err(MarkerError::Unreadable(
            "it is not there after it was written".to_owned(),
        )),
    }
}
