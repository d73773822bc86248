//! Why there is no plan.

use crate::{
    meta::MetaError,
    store::{MarkerError, StoreError, utc},
};

#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("nothing of a region `{region}` is in {bucket}: it has no marker")]
    NoRegion { region: String, bucket: String },
    #[error(transparent)]
    Marker(MarkerError),
    #[error("nothing in the bucket describes the fleet: there is no head below meta/")]
    NoHead,
    #[error("the description of the fleet cannot be believed: {0}")]
    Head(MetaError),
    #[error("no description of the fleet can be read: {0}")]
    NoDocument(String),
    #[error("the oldest description of the fleet is of {}, which is after {}", utc(*.oldest_ms), utc(*.asked_ms))]
    TooEarly { asked_ms: i64, oldest_ms: i64 },
    #[error("root {shard}: {reason}")]
    Root { shard: u16, reason: String },
    #[error("group `{group}`: {reason}")]
    NoCut { group: String, reason: String },
    #[error("{what}: no epoch is left above {found}")]
    NoEpoch { what: String, found: i64 },
    #[error(transparent)]
    Store(StoreError),
}

impl Refused {
    /// The operator code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Store(_) | Self::Marker(MarkerError::Store(_)) | Self::NoRegion { .. } => {
                "WB-301"
            }
            Self::Marker(_) => "WB-303",
            Self::NoHead => "WB-330",
            Self::Head(_) | Self::NoDocument(_) => "WB-331",
            Self::TooEarly { .. } => "WB-332",
            Self::NoCut { .. } => "WB-333",
            Self::Root { .. } | Self::NoEpoch { .. } => "WB-334",
        }
    }

    /// The store gave no answer: the same may be planned later.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Store(error) | Self::Marker(MarkerError::Store(error)) => error.is_retryable(),
            _ => false,
        }
    }
}

impl From<MetaError> for Refused {
    fn from(error: MetaError) -> Self {
        match error {
            MetaError::Store(error) => Self::Store(error),
            other => Self::Head(other),
        }
    }
}

impl From<MarkerError> for Refused {
    fn from(error: MarkerError) -> Self {
        Self::Marker(error)
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Refused {
    pub(super) fn root(shard: u16, reason: impl ToString) -> Self {
        let reason = reason.to_string();
        Self::Root { shard, reason }
    }
}
