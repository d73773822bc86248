//! What goes into a group and what comes out of it: heartbeats, answers, and changes for the log.

use std::{collections::BTreeSet, fmt, sync::Arc};

use whimbrel_wire::ErrorCode;

use super::{Assignment, MemberState};
use crate::group::machine::Protocol;

/// Whether a topic may be told.
type Sees = dyn Fn(&str) -> bool + Send + Sync;

/// Which topics may be told to who asks; by default all.
#[derive(Clone, Default)]
pub struct Sight(Option<Arc<Sees>>);

impl Sight {
    /// Only those for which `sees` is true.
    pub fn only(sees: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(sees)))
    }

    /// Whether the topic of this name may be told.
    #[must_use]
    pub fn sees(&self, topic: &str) -> bool {
        self.0.as_ref().is_none_or(|sees| sees(topic))
    }
}

impl fmt::Debug for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "some" } else { "all" })
    }
}

/// A ConsumerGroupHeartbeat. What is none did not change since the last one.
#[derive(Clone, Debug, Default)]
pub struct Heartbeat {
    /// Never empty: who has none gets one before.
    pub member_id: String,
    /// 0 joins, -1 leaves, -2 leaves for a while (static members).
    pub epoch: i32,
    pub instance_id: Option<String>,
    pub rack_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: Option<i32>,
    pub topics: Option<Vec<String>>,
    /// Empty: none any more.
    pub regex: Option<String>,
    pub assignor: Option<String>,
    /// What the member holds.
    pub owned: Option<Assignment>,
    /// For one that joins by the classic protocol.
    pub classic: Option<Classic>,
    /// What its expression can stand for.
    pub sight: Sight,
}

/// What only a member of the classic protocol says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classic {
    pub session_timeout_ms: i32,
    /// In the member's order of preference.
    pub protocols: Vec<Protocol>,
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub member_id: String,
    pub epoch: i32,
    pub heartbeat_interval_ms: i32,
    /// Where it is news to the member.
    pub assignment: Option<Assignment>,
}

/// Why a heartbeat is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: ErrorCode,
    /// For people.
    pub message: Option<String>,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: Some(message.into()),
        }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self {
            code,
            message: None,
        }
    }
}

/// One thing to be written; none removes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Epoch(Option<Epoch>),
    /// Who a member is.
    Member(String, Option<Profile>),
    TargetEpoch(Option<i32>),
    /// What a member is to have.
    Target(String, Option<Assignment>),
    /// What a member has.
    Current(String, Option<Current>),
    /// What a regular expression stands for.
    Regex(String, Option<Regex>),
}

/// The group's epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Epoch {
    pub epoch: i32,
    /// Of the topics it was made for.
    pub metadata_hash: i64,
}

/// Who a member is and what it wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    pub instance_id: Option<String>,
    pub rack_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub topics: BTreeSet<String>,
    pub regex: Option<String>,
    pub rebalance_timeout_ms: i32,
    pub assignor: Option<String>,
    /// Of a member that speaks the classic protocol.
    pub classic: Option<Classic>,
}

/// What a member has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Current {
    pub epoch: i32,
    pub previous_epoch: i32,
    pub state: MemberState,
    pub assigned: Assignment,
    pub revoking: Assignment,
}

/// What a regular expression stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Regex {
    pub topics: BTreeSet<String>,
    /// Of the topics it was looked up in.
    pub version: i64,
    /// When, ms since 1970.
    pub resolved_ms: i64,
}
