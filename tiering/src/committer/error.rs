//! Why edits fail.

use std::sync::Arc;

use crate::{format::FormatError, root::Reject, runs::RunError, store::StoreError};

/// Why a shard cannot be owned or changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    #[error("shard {shard}: a later owner in epoch {epoch} has taken over")]
    Fenced { shard: u16, epoch: u64 },
    #[error("shard {shard}: another daemon writes in our epoch")]
    TwoOfOneIdentity { shard: u16 },
    #[error("shard {shard}: the root is gone, older than it was, or damaged")]
    WentBack { shard: u16 },
    #[error("shard {shard}: the root cannot be read: {reason}")]
    Damaged { shard: u16, reason: FormatError },
    #[error("shard {shard}: the root is of {found}, not of {expected}")]
    Foreign {
        shard: u16,
        found: String,
        expected: String,
    },
    #[error("shard {shard}: {bytes} bytes of root are more than a root may have")]
    Full { shard: u16, bytes: usize },
    #[error("shard {shard}: older entries: {reason}")]
    Part { shard: u16, reason: RunError },
    #[error(transparent)]
    Rejected(#[from] Reject),
    #[error("shard {shard}: {reason}")]
    Store { shard: u16, reason: Arc<StoreError> },
    #[error("shard {shard}: another daemon of the region has it, or none yet")]
    Elsewhere { shard: u16 },
    #[error("the daemon is stopping")]
    Stopping,
}

impl CommitError {
    /// The operator code, where somebody has to act.
    pub fn code(&self) -> Option<&'static str> {
        match self {
            Self::Fenced { .. } => Some("WB-310"),
            Self::TwoOfOneIdentity { .. } => Some("WB-311"),
            Self::WentBack { .. } | Self::Damaged { .. } | Self::Foreign { .. } => Some("WB-312"),
            Self::Full { .. } => Some("WB-313"),
            Self::Part {
                reason: RunError::Damaged { .. },
                ..
            } => Some("WB-316"),
            Self::Rejected(_) => Some("WB-314"),
            Self::Part { .. } | Self::Store { .. } | Self::Elsewhere { .. } | Self::Stopping => {
                None
            }
        }
    }

    /// The root is gone, older or not to be believed: the shard rests, and the others go on.
    pub fn is_quarantine(&self) -> bool {
        matches!(
            self,
            Self::WentBack { .. } | Self::Damaged { .. } | Self::Foreign { .. }
        )
    }

    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store { reason, .. } => reason.is_retryable(),
            Self::Elsewhere { .. } => true,
            // It concerns one edit, and waits until the part is there again.
            Self::Part { .. } => true,
            _ => false,
        }
    }
}
