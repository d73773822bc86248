//! What waits to be written to one partition, in order.

use tokio::sync::oneshot;
use whimbrel_wire::ErrorCode;

use super::super::{
    consumer::{Refusal, Reply as HeartbeatReply},
    machine::{JoinReply, SyncReply, store_error},
    offsets::TopicPartition,
    records::Entry,
};
use crate::txn::{Marker, Producer};

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
    /// Positions that a transaction's end decides about.
    InTransaction {
        producer: Producer,
        entries: Vec<Entry>,
        reply: Reply<()>,
    },
    /// End a transaction.
    Marker {
        marker: Marker,
        reply: Reply<()>,
    },
    /// Remove a group that has no members.
    Delete {
        group: String,
        reply: Reply<()>,
    },
    /// Remove positions of a group, after everything committed before.
    OffsetDelete {
        group: String,
        places: Vec<TopicPartition>,
        reply: Reply<()>,
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
            Work::Delete { reply, .. }
            | Work::OffsetDelete { reply, .. }
            | Work::InTransaction { reply, .. }
            | Work::Marker { reply, .. } => {
                let _ = reply.send(Err(error));
            }
            Work::Forget { .. } | Work::Sweep => {}
        }
    }
}

/// What kind of batch records go into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Plain,
    /// Part of a producer's transaction.
    Transaction(Producer),
    /// A marker, and no records.
    Marker(Marker),
}

/// What follows once the records are durable.
#[derive(Debug)]
pub(super) enum Then {
    /// A commit or deletion is answered.
    Answer(Reply<()>),
    /// The group is told.
    Group { group: String, ticket: u64 },
    /// A heartbeat is answered.
    Heartbeat {
        answer: HeartbeatReply,
        reply: oneshot::Sender<Result<HeartbeatReply, Refusal>>,
    },
    /// A classic member of a group of the other protocol is answered.
    Joined {
        answer: JoinReply,
        reply: oneshot::Sender<JoinReply>,
    },
    /// The same.
    Synced {
        answer: SyncReply,
        reply: oneshot::Sender<SyncReply>,
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
            Then::Heartbeat { reply, .. } => {
                let _ = reply.send(Err(store_error(error).into()));
            }
            Then::Joined { answer, reply } => {
                let _ = reply.send(JoinReply::failed(store_error(error), &answer.member_id));
            }
            Then::Synced { reply, .. } => {
                let _ = reply.send(SyncReply {
                    error: store_error(error),
                    ..SyncReply::default()
                });
            }
            // The group is answered by closing it.
            Then::Group { .. } | Then::Nothing => {}
        }
    }
}
