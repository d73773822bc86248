//! Who a client is: SASL and certificates on the way in, the access control list afterwards.
//!
//! * [`session`] - what a connection has proven so far; [`exchange`] - the two SASL APIs.
//! * [`scram`], [`plain`] - the mechanisms, without IO. A password is known for as long as it is being checked.
//! * [`tls`], [`subject`] - certificates, ours and clients'.
//! * [`caller`] - what somebody may do.
//!
//! A broker that is not told to authenticate knows everybody as `User:ANONYMOUS` and asks nothing of the list.

mod caller;
mod exchange;
mod options;
mod plain;
pub mod scram;
mod session;
mod subject;
mod tls;

use std::{sync::Arc, time::Duration};

use tokio_rustls::TlsAcceptor;
use whimbrel_runtime::random;

pub use caller::{ANONYMOUS, Caller};
pub(crate) use exchange::{begin, begin_raw};
pub use options::{Auth as Options, ClientCertificates, Mechanism, Tls};
pub(crate) use session::{Session, Standing};
pub use tls::{TlsError, user_of};

/// What the broker checks clients with.
pub struct Authority {
    pub options: Options,
    /// Makes up salts for users that do not exist, so that they look like those that do.
    decoy: [u8; 32],
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Authority {
    fn new(options: Options) -> Self {
        Self {
            options,
            decoy: random::bytes(),
        }
    }

    /// Clients prove who they are with SASL, not with a certificate.
    pub fn asks_sasl(&self) -> bool {
        !self.options.mechanisms.is_empty()
    }
}

/// How the Kafka listener protects itself.
#[derive(Default)]
pub struct Security {
    pub authority: Option<Arc<Authority>>,
    pub tls: Option<TlsAcceptor>,
}

impl std::fmt::Debug for Security {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Security")
            .field("authority", &self.authority)
            .field("tls", &self.tls.is_some())
            .finish()
    }
}

/// Settings that do not go together.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(
        "PLAIN sends passwords as they are, and the listener has no TLS (plain-without-tls = true allows it)"
    )]
    PlainWithoutTls,
    #[error("[broker.auth] has both mechanisms and anonymous = true")]
    AnonymousWithMechanisms,
    #[error(
        "[broker.auth] names no mechanisms, and [broker.tls] does not require certificates of clients"
    )]
    NobodyCanProve,
}

impl Security {
    pub fn new(auth: Option<&Options>, tls: Option<&Tls>) -> Result<Self, SecurityError> {
        if let Some(auth) = auth {
            let has_plain = auth.mechanisms.contains(&Mechanism::Plain);
            if has_plain && tls.is_none() && !auth.plain_without_tls {
                return Err(SecurityError::PlainWithoutTls);
            }
            if auth.anonymous && !auth.mechanisms.is_empty() {
                return Err(SecurityError::AnonymousWithMechanisms);
            }
            let required = ClientCertificates::Required;
            let asks_nothing = auth.mechanisms.is_empty() && !auth.anonymous;
            if asks_nothing && tls.is_none_or(|t| t.client_certificates != required) {
                return Err(SecurityError::NobodyCanProve);
            }
        }
        Ok(Self {
            authority: auth.map(|auth| Arc::new(Authority::new(auth.clone()))),
            tls: tls.map(tls::acceptor).transpose()?,
        })
    }

    /// Longest frame of somebody who has not proven who it is.
    pub const UNPROVEN_FRAME: usize = 64 << 10;

    /// Within which a connection has to prove who it is.
    pub fn patience(&self) -> Duration {
        self.authority
            .as_ref()
            .map_or(options::PATIENCE, |a| a.options.authentication_time.0)
    }
}
