//! Why a session of a flow ended.

use whimbrel_client::ClientError;
use whimbrel_wire::RecordError;

use crate::{codes, offset_map::NotRising};

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub enum FlowError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{code}: {0}", code = codes::TRANSLATED_TARGET)]
    Producer(#[source] ClientError),
    #[error("{code}: {topic} at offset {offset}: {reason}", code = codes::TRANSLATED_MAP)]
    Map {
        topic: String,
        offset: i64,
        reason: String,
    },
    #[error("{code}: {0}", code = codes::TRANSLATED_MAP)]
    NotRising(#[from] NotRising),
    #[error("unreadable records in the offset map: {0}")]
    Records(#[from] RecordError),
}

impl FlowError {
    /// Another mirror runs this flow: it would only be taken over in turns.
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Producer(error) if error.is_fenced())
    }
}
