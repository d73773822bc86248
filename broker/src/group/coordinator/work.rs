//! What waits to be written to one partition, in order.

use std::sync::Arc;

use tokio::sync::oneshot;
use whimbrel_wire::ErrorCode;

use super::super::records::Entry;
use super::{Clamped, Limits};

/// The answer to whoever asked for the write.
pub(super) type Reply<T> = oneshot::Sender<Result<T, ErrorCode>>;

/// One thing to write. The records of all but `Records` are found when its turn comes, because only then is everything
/// before it applied; such a thing is written alone.
#[derive(Debug)]
pub(super) enum Work {
    Records {
        entries: Vec<Entry>,
        then: Then,
    },
    /// Remove a group that has no members.
    Delete {
        group: String,
        reply: Reply<()>,
    },
    /// Set positions back after a lossy move.
    Clamp {
        limits: Arc<Limits>,
        reply: Reply<Vec<Clamped>>,
    },
    /// Remove the positions of these topics.
    Forget {
        topics: Vec<String>,
    },
    /// Remove positions and groups that have lapsed.
    Sweep,
}

impl Work {
    /// Tells whoever asked that it came to nothing.
    pub(super) fn refuse(self, error: ErrorCode) {
        match self {
            Work::Records { then, .. } => then.refuse(error),
            Work::Delete { reply, .. } => {
                let _ = reply.send(Err(error));
            }
            Work::Clamp { reply, .. } => {
                let _ = reply.send(Err(error));
            }
            Work::Forget { .. } | Work::Sweep => {}
        }
    }
}

/// What follows once the records are durable.
#[derive(Debug)]
pub(super) enum Then {
    /// A commit or deletion is answered.
    Answer(Reply<()>),
    /// The group is told.
    Group { group: String, ticket: u64 },
    /// The clamped positions are reported.
    Report {
        clamped: Vec<Clamped>,
        reply: Reply<Vec<Clamped>>,
    },
    /// Nobody waits.
    Nothing,
}

impl Then {
    pub(super) fn refuse(self, error: ErrorCode) {
        match self {
            Then::Answer(reply) => {
                let _ = reply.send(Err(error));
            }
            Then::Report { reply, .. } => {
                let _ = reply.send(Err(error));
            }
            // The group is answered by closing it.
            Then::Group { .. } | Then::Nothing => {}
        }
    }
}

/// Whether after this error it is certain that nothing was appended.
pub(super) fn nothing_appended(error: ErrorCode) -> bool {
    matches!(
        error,
        ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE | ErrorCode::INVALID_RECORD
    )
}
