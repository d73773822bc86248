//! What can go wrong between a client and a cluster.

use std::io;

use whimbrel_wire::{ApiKey, BatchError, BuildError, DecodeError, ErrorCode, FrameError};

use crate::endpoint::Endpoint;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{endpoint}: cannot connect: {source}")]
    Connect {
        endpoint: Endpoint,
        source: io::Error,
    },
    #[error("{endpoint}: the connection was lost{}", .source.as_ref().map(|e| format!(": {e}")).unwrap_or_default())]
    Lost {
        endpoint: Endpoint,
        source: Option<io::Error>,
    },
    /// The answer did not come in time. Whether the request took effect is not known.
    #[error("{endpoint}: no answer to {what} in time")]
    TimedOut { endpoint: Endpoint, what: String },
    #[error("{endpoint}: speaks no version of {api:?} that is spoken here")]
    Unsupported { endpoint: Endpoint, api: ApiKey },
    #[error("{endpoint}: {source}")]
    Frame {
        endpoint: Endpoint,
        source: FrameError,
    },
    #[error("{endpoint}: unreadable answer to {api:?}: {source}")]
    Decode {
        endpoint: Endpoint,
        api: ApiKey,
        source: DecodeError,
    },
    #[error("{endpoint}: answer {got} to request {expected}")]
    OutOfStep {
        endpoint: Endpoint,
        expected: i32,
        got: i32,
    },
    /// The name or its password is wrong, or one of both sides does not offer what the other wants.
    #[error("{endpoint}: not let in: {reason}")]
    NotLetIn { endpoint: Endpoint, reason: String },
    /// The broker's own word.
    #[error("{what}: {code}{}", .message.as_ref().map(|m| format!(": {m}")).unwrap_or_default())]
    Kafka {
        what: String,
        code: ErrorCode,
        message: Option<String>,
    },
    #[error("the answer to {what} does not name it")]
    Missing { what: String },
    #[error("{topic}-{partition} has no leader at the moment")]
    NoLeader { topic: String, partition: i32 },
    #[error("none of the {tried} known brokers can be reached; last: {last}")]
    NoBroker {
        tried: usize,
        last: Box<ClientError>,
    },
    #[error("no bootstrap endpoint is given")]
    NoBootstrap,
    #[error("{topic}-{partition}: unsound batch: {source}")]
    Batch {
        topic: String,
        partition: i32,
        source: BatchError,
    },
    /// Batches that are no continuation of what was asked for, or not of one another.
    #[error("{topic}-{partition}: offsets {found}.. where {expected} comes next")]
    Disordered {
        topic: String,
        partition: i32,
        expected: i64,
        found: i64,
    },
    #[error("{topic}-{partition}: no batch of it: {source}")]
    Unbuilt {
        topic: String,
        partition: i32,
        source: BuildError,
    },
}

impl ClientError {
    /// Whether the same call may work later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Lost { .. }
            | Self::TimedOut { .. }
            | Self::NoLeader { .. }
            | Self::OutOfStep { .. } => true,
            Self::NoBroker { last, .. } => last.is_retryable(),
            Self::Kafka { code, .. } => code.is_retryable(),
            Self::Unsupported { .. }
            | Self::NotLetIn { .. }
            | Self::Frame { .. }
            | Self::Decode { .. }
            | Self::Missing { .. }
            | Self::NoBootstrap
            | Self::Unbuilt { .. }
            | Self::Disordered { .. }
            | Self::Batch { .. } => false,
        }
    }

    /// Whether the answer came, and cannot be what the partition holds.
    pub fn is_unsound(&self) -> bool {
        matches!(self, Self::Batch { .. } | Self::Disordered { .. })
    }

    /// The broker's error code, if it answered with one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Kafka { code, .. } => Some(*code),
            _ => None,
        }
    }

    pub(crate) fn check(
        what: impl FnOnce() -> String,
        code: ErrorCode,
        message: Option<String>,
    ) -> Result<(), Self> {
        if code.is_none() {
            return Ok(());
        }
        Err(Self::Kafka {
            what: what(),
            code,
            message,
        })
    }
}
