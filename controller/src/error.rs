//! Why a voter did not start.

use std::path::PathBuf;

use whimbrel_fleet::HostPort;

use crate::{codes, raft::OpenError};

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{}: {}", codes::BAD_BOOTSTRAP, problems.join("; "))]
    Options { problems: Vec<String> },
    #[error("{}: {message}", codes::DATA_DIR)]
    DataDir { path: PathBuf, message: String },
    #[error("{}: {message}", codes::FOREIGN_FLEET)]
    Foreign { message: String },
    #[error("{}: {message}", codes::NOT_BOOTSTRAPPED)]
    NotBootstrapped { message: String },
    #[error("{}: {message}", codes::STORAGE)]
    Storage { message: String },
    #[error("{}: {at}: {source}", codes::LISTEN)]
    Listen {
        at: HostPort,
        source: std::io::Error,
    },
    #[error("{}: {source}", codes::LISTEN)]
    Admin {
        source: whimbrel_runtime::admin::AdminError,
    },
}

impl StartError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Options { .. } => codes::BAD_BOOTSTRAP,
            Self::DataDir { .. } => codes::DATA_DIR,
            Self::Foreign { .. } => codes::FOREIGN_FLEET,
            Self::NotBootstrapped { .. } => codes::NOT_BOOTSTRAPPED,
            Self::Storage { .. } => codes::STORAGE,
            Self::Listen { .. } | Self::Admin { .. } => codes::LISTEN,
        }
    }
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> Self {
        let message = error.to_string();
        match error {
            OpenError::Io { path, .. }
            | OpenError::Database { path, .. }
            | OpenError::Locked { path } => Self::DataDir { path, message },
            OpenError::Foreign { .. } => Self::Foreign { message },
            OpenError::Empty { .. } => Self::NotBootstrapped { message },
            OpenError::Format { .. } | OpenError::Damaged { .. } => Self::Storage { message },
        }
    }
}
