//! Why a call to the controller failed, and whether it may be made again.

use tonic::{Code, Status};
use whimbrel_fleet::HostPort;

/// Metadata key under which a voter names the leader's address.
pub const LEADER_KEY: &str = "whimbrel-leader";
/// Metadata key under which a refusal carries its operator code.
pub const CODE_KEY: &str = "whimbrel-code";

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No voter that leads was found before the deadline; nothing was done.
    #[error("{call}: no controller leader was reached in {waited_ms} ms (last: {last})")]
    Unreachable {
        call: &'static str,
        waited_ms: u64,
        last: String,
    },
    /// The request may or may not have taken effect: read again before doing anything else.
    #[error("{call}: the outcome is unknown ({last})")]
    Unknown { call: &'static str, last: String },
    /// A Kafka error, to be handed to the client that asked.
    #[error("Kafka error {error_code}: {message}")]
    Kafka { error_code: i16, message: String },
    /// Refused by a guard; nothing changed.
    #[error("{code}: {message}")]
    Refused { code: String, message: String },
    /// The plan that was applied is not the present one; nothing changed.
    #[error("{message}")]
    Aborted { message: String },
    /// The controller did not understand the request: a broken invariant on our side.
    #[error("{call}: the controller refused the request as malformed: {message}")]
    Malformed { call: &'static str, message: String },
    /// An answer that cannot be read.
    #[error("{call}: unreadable answer: {reason}")]
    BadAnswer { call: &'static str, reason: String },
}

impl ControlError {
    /// True when the same call may succeed later without anybody's doing. After [`Self::Unknown`] the
    /// state has to be read again first.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Unknown { .. })
    }

    /// The operator code, where the refusal has one.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            _ => None,
        }
    }
}

/// What one attempt at one voter came to.
pub(super) enum Attempt {
    /// This voter does not lead; nothing was done.
    NotLeader(Option<HostPort>),
    /// The voter was not reached; nothing was done.
    NotReached(String),
    /// Anything may have happened.
    Doubt(String),
    /// An answer that another voter would give too.
    Final(ControlError),
}

pub(super) fn judge(call: &'static str, status: &Status) -> Attempt {
    let text = |key: &str| {
        status
            .metadata()
            .get(key)
            .and_then(|v| v.to_str().ok())
            .map(str::to_owned)
    };
    let message = || status.message().to_owned();
    match status.code() {
        Code::FailedPrecondition => match text(CODE_KEY) {
            Some(code) => Attempt::Final(ControlError::Refused {
                code,
                message: message(),
            }),
            None => Attempt::NotLeader(text(LEADER_KEY).and_then(|at| at.parse().ok())),
        },
        Code::Aborted => Attempt::Final(ControlError::Aborted { message: message() }),
        Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => {
            Attempt::Final(ControlError::Malformed {
                call,
                message: message(),
            })
        }
        _ if never_sent(status) => Attempt::NotReached(message()),
        _ => Attempt::Doubt(format!("{}: {}", status.code(), status.message())),
    }
}

/// True when the connection could not even be opened.
fn never_sent(status: &Status) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(status);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::ConnectionRefused
        {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coded_refusal_is_final_and_an_uncoded_one_points_to_the_leader() {
        let mut status = Status::failed_precondition("lost");
        status
            .metadata_mut()
            .insert(LEADER_KEY, "10.0.0.1:7000".parse().unwrap());
        assert!(
            matches!(judge("x", &status), Attempt::NotLeader(Some(at)) if at == HostPort::new("10.0.0.1", 7000))
        );
        status
            .metadata_mut()
            .insert(CODE_KEY, "WB-403".parse().unwrap());
        assert!(
            matches!(judge("x", &status), Attempt::Final(ControlError::Refused { code, .. }) if code == "WB-403")
        );
    }

    #[test]
    fn a_cut_connection_leaves_doubt() {
        assert!(matches!(
            judge("x", &Status::unavailable("reset")),
            Attempt::Doubt(_)
        ));
    }
}
