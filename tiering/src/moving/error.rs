//! Why a move waits or cannot be.

use crate::{
    format::{FormatError, Key},
    meta::MetaError,
    ops::Cause,
    runs::RunError,
    store::{LocationError, MarkerError, ProbeError, StoreError},
    transfer::TransferError,
};

#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Location(#[from] LocationError),
    #[error(transparent)]
    Marker(#[from] MarkerError),
    #[error("the new place: {0}")]
    Probe(#[from] ProbeError),
    #[error(transparent)]
    Transfer(#[from] TransferError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Format(#[from] FormatError),
    #[error(transparent)]
    Meta(#[from] MetaError),
    #[error("{key} is missing or damaged: {reason}")]
    Damaged { key: Key, reason: String },
    #[error("the new place is somebody's: {0}")]
    Occupied(String),
    #[error("{0}")]
    Scratch(String),
    /// Somebody else wrote the root meanwhile: it is moved by whoever owns it.
    #[error("{key} has another owner now")]
    Overtaken { key: Key },
    #[error(
        "the bucket went to {at}, and from there an order to move to {to} stands: name the place where it is now"
    )]
    MovedOn { at: String, to: String },
    #[error("the move was cancelled")]
    Cancelled,
    #[error("{0}")]
    Refused(String),
}

impl Cause for MoveError {
    fn cause(&self) -> String {
        match self {
            Self::Store(error) => error.cause(),
            other => other.to_string(),
        }
    }
}

impl MoveError {
    /// The operator code, where somebody has to act.
    pub fn code(&self) -> Option<&'static str> {
        match self {
            Self::Damaged { .. } | Self::Run(RunError::Damaged { .. }) => Some("WB-316"),
            Self::Occupied(_) | Self::Probe(_) | Self::Location(_) | Self::Marker(_) => {
                Some("WB-342")
            }
            Self::MovedOn { .. } => Some("WB-343"),
            _ => None,
        }
    }
}
