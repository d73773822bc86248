//! Who a client is: SASL and certificates on the way in, the access control list afterwards.
//!
//! * [`session`] - what a connection has proven so far; [`exchange`] - the two SASL APIs.
//! * [`scram`], [`plain`] - the mechanisms, without IO. A password is known for as long as it is being checked.
//! * [`oauthbearer`] - tokens that others have signed, and the files with their keys.
//! * [`rules`] - which settings go together.
//! * [`tls`], [`subject`] - certificates, ours and clients'.
//! * [`caller`] - what somebody may do.
//!
//! A broker that is not told to authenticate knows everybody as `User:ANONYMOUS` and asks nothing of the list.

mod caller;
mod exchange;
mod oauthbearer;
mod options;
mod plain;
mod rules;
pub mod scram;
mod session;
mod subject;
mod tls;

use std::{sync::Arc, time::Duration};

use tokio_rustls::TlsAcceptor;
use whimbrel_runtime::random;

pub use caller::{ANONYMOUS, Caller};
pub(crate) use exchange::{begin, begin_raw};
pub use oauthbearer::JwksError;
pub use options::{Auth as Options, ClientCertificates, Mechanism, OauthBearer, Tls};
pub use rules::SecurityError;
pub(crate) use session::{Session, Standing};
pub use tls::{TlsError, user_of};

/// What the broker checks clients with.
pub struct Authority {
    pub options: Options,
    /// For OAUTHBEARER.
    tokens: Option<Arc<oauthbearer::Tokens>>,
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
            tokens: None,
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

impl Security {
    /// Reads the files that the settings name.
    pub fn new(auth: Option<&Options>, tls: Option<&Tls>) -> Result<Self, SecurityError> {
        rules::check(auth, tls)?;
        Ok(Self {
            authority: auth.map(authority).transpose()?.map(Arc::new),
            tls: tls.map(tls::acceptor).transpose()?,
        })
    }

    /// What is wrong with the settings by themselves, whatever is in the files.
    pub fn check(auth: Option<&Options>, tls: Option<&Tls>) -> Result<(), SecurityError> {
        rules::check(auth, tls)
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

fn authority(options: &Options) -> Result<Authority, SecurityError> {
    let mut authority = Authority::new(options.clone());
    if let Some(rules) = &options.oauthbearer {
        if rules.unsecured_tokens {
            tracing::warn!(
                code = "WB-122",
                "tokens that nobody signed are believed: whoever connects is who it says to be"
            );
        }
        let tokens = oauthbearer::Tokens::open(rules.clone())?;
        authority.tokens = Some(Arc::new(tokens));
    }
    Ok(authority)
}
