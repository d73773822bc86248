//! `[broker.auth]` and `[broker.tls]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use std::time::Duration;
use whimbrel_runtime::unit::Span;

/// A TLS handshake takes a few round trips.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A SASL mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mechanism {
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    #[serde(rename = "PLAIN")]
    Plain,
    #[serde(rename = "OAUTHBEARER")]
    OauthBearer,
}

impl Mechanism {
    pub const fn name(self) -> &'static str {
        match self {
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::Plain => "PLAIN",
            Self::OauthBearer => "OAUTHBEARER",
        }
    }
}

/// Authentication and authorization on the Kafka listener: both are on where the table is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Auth {
    /// What clients may choose from. PLAIN is checked against SCRAM credentials; it wants TLS. OAUTHBEARER wants TLS
    /// and `[broker.auth.oauthbearer]`. None at all: clients prove who they are with the certificates that
    /// `[broker.tls]` requires.
    pub mechanisms: Vec<Mechanism>,
    /// Users to whom no entry of the access control list applies.
    pub super_users: Vec<String>,
    /// Kafka's `allow.everyone.if.no.acl.found`. Off, as in Kafka.
    pub allow_everyone_if_no_acl: bool,
    /// Clients prove nothing, and the list applies to `User:ANONYMOUS`. With this there are no mechanisms.
    pub anonymous: bool,
    /// Lets passwords over the network in the clear.
    pub plain_without_tls: bool,
    /// Kafka's `connections.max.reauth.ms`. Kafka has none; an hour bounds how long a withdrawn certificate or a
    /// changed password goes on working.
    pub max_reauth: Span,
    /// Within which a new connection has to prove who it is.
    pub authentication_time: Span,
    /// Whose tokens are believed.
    pub oauthbearer: Option<OauthBearer>,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            mechanisms: vec![Mechanism::ScramSha512, Mechanism::ScramSha256],
            super_users: Vec::new(),
            allow_everyone_if_no_acl: false,
            anonymous: false,
            plain_without_tls: false,
            max_reauth: Span::secs(3_600),
            authentication_time: Span::secs(10),
            oauthbearer: None,
        }
    }
}

impl Auth {
    /// Anybody can say to be anybody: nothing is asked, or what is shown needs no signature.
    pub fn believes_everybody(&self) -> bool {
        let unsecured = |tokens: &OauthBearer| tokens.unsecured_tokens;
        self.anonymous || self.oauthbearer.as_ref().is_some_and(unsecured)
    }
}

/// Tokens that a client may show with OAUTHBEARER: JSON web tokens, signed with RS256 or ES256.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct OauthBearer {
    /// JSON web key sets with the issuer's public keys. Read again when they have changed.
    pub jwks: Vec<PathBuf>,
    /// What `iss` has to be.
    pub issuer: Option<String>,
    /// One of these has to be in `aud`: a token for others is not for this fleet.
    pub audience: Vec<String>,
    /// The claim that names the user: Kafka's `sasl.oauthbearer.sub.claim.name`.
    pub principal_claim: String,
    /// The claim that names scopes: Kafka's `sasl.oauthbearer.scope.claim.name`.
    pub scope_claim: String,
    /// Scopes that a token must have, all of them.
    pub scope: Vec<String>,
    /// By how much the issuer's clock may differ: Kafka's `sasl.oauthbearer.clock.skew.seconds`, 30 seconds.
    pub clock_skew: Span,
    /// Lets tokens over the network in the clear, where whoever sees one can use it until it ends.
    pub without_tls: bool,
    /// Believes tokens that nobody signed (`alg` none), and no others: whoever connects is who it says to be. For
    /// tests, as Kafka's default handler is.
    pub unsecured_tokens: bool,
}

impl Default for OauthBearer {
    fn default() -> Self {
        Self {
            jwks: Vec::new(),
            issuer: None,
            audience: Vec::new(),
            principal_claim: "sub".to_owned(),
            scope_claim: "scope".to_owned(),
            scope: Vec::new(),
            clock_skew: Span::secs(30),
            without_tls: false,
            unsecured_tokens: false,
        }
    }
}

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientCertificates {
    #[default]
    None,
    Required,
}

/// TLS on the Kafka listener. Files are in PEM and read once, at start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Tls {
    /// The broker's certificate, then those that lead to a root that clients know.
    pub certificate: PathBuf,
    pub key: PathBuf,
    #[serde(default)]
    pub client_certificates: ClientCertificates,
    /// Roots of clients' certificates.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
}
