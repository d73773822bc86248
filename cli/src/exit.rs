//! Exit codes are part of the interface: scripts decide by them.

use std::{io::Write, process::ExitCode};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Ok = 0,
    /// It was tried and failed.
    Failed = 1,
    /// The command line cannot be meant.
    Usage = 2,
    /// Looked, and found something unhealthy or unequal.
    Unhealthy = 10,
    /// A guard refused; nothing was changed.
    Refused = 11,
    /// Some of it was done.
    Partial = 12,
    /// A wait ran out.
    TimedOut = 13,
    /// The target cannot be reached.
    Unreachable = 20,
    /// The configuration is wrong; nothing was started.
    BadConfig = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error that knows its exit code and, where an operator can act, its `WB-` code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub exit: Exit,
    pub code: Option<&'static str>,
    pub message: String,
}

impl Refusal {
    pub fn error(exit: Exit, message: impl Into<String>) -> anyhow::Error {
        Self {
            exit,
            code: None,
            message: message.into(),
        }
        .into()
    }

    pub fn coded(exit: Exit, code: &'static str, message: impl Into<String>) -> anyhow::Error {
        Self {
            exit,
            code: Some(code),
            message: message.into(),
        }
        .into()
    }
}

/// Says on stderr what went wrong and how to learn more.
pub fn report(error: &anyhow::Error) -> Exit {
    let mut stderr = std::io::stderr().lock();
    let refusal = error.downcast_ref::<Refusal>();
    let code = refusal.and_then(|r| r.code);
    let mut text = match code {
        Some(code) => format!("error[{code}]: {error:#}\n"),
        None => format!("error: {error:#}\n"),
    };
    if let Some(code) = code {
        text.push_str(&format!("  more: whimbrel explain {code}\n"));
    }
    // Nothing is left to tell it to if stderr is closed.
    let _closed = stderr.write_all(text.as_bytes());
    refusal.map_or_else(|| from_source(error), |r| r.exit)
}

fn from_source(error: &anyhow::Error) -> Exit {
    use whimbrel_dev::{FleetError, admin::AdminError};
    use whimbrel_rpc::controller::ControlError;
    for cause in error.chain() {
        if let Some(AdminError::Unreachable { .. } | AdminError::Late { .. }) = cause.downcast_ref()
        {
            return Exit::Unreachable;
        }
        if let Some(FleetError::NoController(..) | FleetError::NotFound(_) | FleetError::Admin(_)) =
            cause.downcast_ref()
        {
            return Exit::Unreachable;
        }
        if let Some(ControlError::Unreachable { .. }) = cause.downcast_ref() {
            return Exit::Unreachable;
        }
    }
    Exit::Failed
}
