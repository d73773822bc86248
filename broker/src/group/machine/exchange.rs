//! What goes into a group and what comes out of it: requests, answers, and records for the log.

use bytes::Bytes;
use whimbrel_wire::ErrorCode;

use super::{Protocol, Token};

/// What the host must do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Answer a JoinGroup.
    Joined { token: Token, reply: JoinReply },
    /// Answer a SyncGroup.
    Synced { token: Token, reply: SyncReply },
    /// Append this record, then call [`super::Group::persisted`] with the ticket.
    Persist { ticket: u64, record: GroupRecord },
}

/// The answer to a JoinGroup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinReply {
    pub error: ErrorCode,
    /// -1 with an error.
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub leader: String,
    /// The leader keeps the assignment of the current generation (KIP-814, v9).
    pub skip_assignment: bool,
    pub member_id: String,
    /// For the leader only.
    pub members: Vec<JoinedMember>,
}

impl JoinReply {
    pub(crate) fn failed(error: ErrorCode, member_id: &str) -> Self {
        Self {
            error,
            generation: -1,
            member_id: member_id.to_owned(),
            ..Self::default()
        }
    }
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub metadata: Bytes,
}

/// The answer to a SyncGroup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncReply {
    pub error: ErrorCode,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub assignment: Bytes,
}

/// A JoinGroup, version differences resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinRequest {
    /// Empty for a member without an id.
    pub member_id: String,
    pub instance_id: Option<String>,
    /// A dynamic member without an id gets one and must come again with it (v4, KIP-394).
    pub require_known_member_id: bool,
    /// The client understands `skip_assignment` (v9).
    pub supports_skipping_assignment: bool,
    pub client_id: String,
    pub client_host: String,
    /// -1 where the version has none: then the session timeout.
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub protocol_type: String,
    /// In the member's order of preference.
    pub protocols: Vec<Protocol>,
}

/// A SyncGroup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncRequest {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub generation: i32,
    /// Absent before v5.
    pub protocol_type: Option<String>,
    /// Absent before v5.
    pub protocol: Option<String>,
    /// From the leader: member id and assignment.
    pub assignments: Vec<(String, Bytes)>,
}

/// Who leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leaver {
    /// May be empty with an instance id (an operator removes a static member).
    pub member_id: String,
    pub instance_id: Option<String>,
}

/// A group as it stands in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupRecord {
    pub protocol_type: String,
    pub generation: i32,
    pub protocol: Option<String>,
    pub leader: Option<String>,
    /// Wall clock.
    pub state_since_ms: i64,
    pub members: Vec<MemberRecord>,
}

/// A member as it stands in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberRecord {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// Metadata of the selected protocol.
    pub subscription: Bytes,
    pub assignment: Bytes,
}
