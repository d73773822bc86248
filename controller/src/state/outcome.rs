//! What a command came to.

use serde::{Deserialize, Serialize};
use whimbrel_fleet::{TopicId, TopicPartition};

/// Kafka's error codes that the controller hands out (Kafka protocol guide, "Error Codes").
pub mod kafka {
    pub const UNKNOWN_SERVER_ERROR: i16 = -1;
    pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    pub const INVALID_TOPIC_EXCEPTION: i16 = 17;
    pub const TOPIC_ALREADY_EXISTS: i16 = 36;
    pub const INVALID_PARTITIONS: i16 = 37;
    pub const INVALID_REPLICATION_FACTOR: i16 = 38;
    pub const INVALID_CONFIG: i16 = 40;
    pub const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
    pub const INVALID_REQUEST: i16 = 42;
    pub const PREFERRED_LEADER_NOT_AVAILABLE: i16 = 80;
    pub const ELIGIBLE_LEADERS_NOT_AVAILABLE: i16 = 83;
    pub const ELECTION_NOT_NEEDED: i16 = 84;
    pub const NO_REASSIGNMENT_IN_PROGRESS: i16 = 85;
}

/// The answer to a command and the view's version that shows its effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    pub version: u64,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Done,
    Topic {
        topic_id: TopicId,
    },
    ProducerIds {
        first: i64,
        len: i32,
    },
    /// What came of each partition: Kafka's error code and a text.
    Partitions {
        results: Vec<(TopicPartition, i16, String)>,
    },
    /// An error for the Kafka client that asked; nothing changed.
    Kafka {
        error_code: i16,
        message: String,
    },
    /// What the command was made for has changed meanwhile: look again. Nothing changed.
    Stale,
    /// Refused with an operator code; nothing changed.
    Refused {
        code: String,
        message: String,
    },
}

impl Outcome {
    pub(crate) fn kafka(error_code: i16, message: impl Into<String>) -> Self {
        Self::Kafka {
            error_code,
            message: message.into(),
        }
    }

    pub(crate) fn refused(code: &str, message: impl Into<String>) -> Self {
        Self::Refused {
            code: code.to_owned(),
            message: message.into(),
        }
    }
}
