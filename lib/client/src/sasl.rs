//! Who a client is: PLAIN (RFC 4616), SCRAM (RFC 5802, RFC 7677) and OAUTHBEARER (RFC 7628).
//!
//! SCRAM proves both sides: a broker that does not know the password cannot pose as one that does. Rounds that a
//! broker asks for are bounded, since the client works for each.

mod bearer;
mod scram;

use std::fmt;

pub use bearer::Tokens;
pub(crate) use bearer::{UNDERSTOOD, message};
pub(crate) use scram::Scram;

/// A mechanism that proves a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

impl Mechanism {
    const ALL: [Self; 3] = [Self::Plain, Self::ScramSha256, Self::ScramSha512];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }
}

/// Text that nobody sees by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// How a client says who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sasl {
    Password(Credentials),
    Bearer(Tokens),
}

impl Sasl {
    pub(crate) const BEARER: &str = "OAUTHBEARER";

    /// The mechanism's name.
    pub const fn mechanism(&self) -> &'static str {
        match self {
            Self::Password(credentials) => credentials.mechanism.name(),
            Self::Bearer(_) => Self::BEARER,
        }
    }
}

/// A name, its password, and how it is proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub mechanism: Mechanism,
    pub user: String,
    pub password: Password,
}

impl Credentials {
    /// The only message of PLAIN.
    pub(crate) fn plain(&self) -> Vec<u8> {
        format!("\0{}\0{}", self.user, self.password.0).into_bytes()
    }
}
