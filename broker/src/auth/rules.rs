//! Which settings of `[broker.auth]` and `[broker.tls]` go together.

use std::time::Duration;

use super::{ClientCertificates, JwksError, Mechanism, OauthBearer, Options, Tls, TlsError};

/// More than clocks differ by; a token would go on for so long after its end.
const WIDEST_SKEW: Duration = Duration::from_secs(600);

/// Settings that do not go together, or files that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("[broker.auth.oauthbearer] jwks: {0}")]
    Jwks(#[from] JwksError),
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
    #[error(
        "OAUTHBEARER is among the mechanisms, and [broker.auth.oauthbearer] does not say whose tokens are believed"
    )]
    NoTokens,
    #[error("[broker.auth.oauthbearer] is there, and OAUTHBEARER is not among the mechanisms")]
    TokensForNothing,
    #[error(
        "OAUTHBEARER sends tokens that whoever sees them can use, and the listener has no TLS (without-tls = true allows it)"
    )]
    TokensWithoutTls,
    #[error("[broker.auth.oauthbearer] has no jwks: without keys no token can be checked")]
    NoKeys,
    #[error(
        "[broker.auth.oauthbearer] has no issuer: any token that its keys have signed would do"
    )]
    NoIssuer,
    #[error("[broker.auth.oauthbearer] has no audience: tokens made for other services would do")]
    NoAudience,
    #[error(
        "[broker.auth.oauthbearer] has both jwks and unsecured-tokens = true, which asks for no signature"
    )]
    KeysForNothing,
    #[error("[broker.auth.oauthbearer] clock-skew is more than ten minutes")]
    Skew,
    #[error("[broker.auth.oauthbearer] {0} is empty")]
    Empty(&'static str),
}

impl SecurityError {
    /// The setting it is about, and what to do.
    pub fn place_and_fix(&self) -> Option<(&'static str, &'static str)> {
        let tokens = "broker.auth.oauthbearer";
        let mechanisms = "broker.auth.mechanisms";
        Some(match self {
            Self::Tls(_) | Self::Jwks(_) => return None,
            Self::PlainWithoutTls => (mechanisms, "add [broker.tls], or prefer SCRAM-SHA-512"),
            Self::AnonymousWithMechanisms => (
                "broker.auth.anonymous",
                "leave it out, or set mechanisms = []",
            ),
            Self::NobodyCanProve => (
                mechanisms,
                "name a mechanism, or set client-certificates = \"required\" in [broker.tls]",
            ),
            Self::NoTokens => (
                mechanisms,
                "add [broker.auth.oauthbearer] with jwks, issuer and audience",
            ),
            Self::TokensForNothing => (mechanisms, "add \"OAUTHBEARER\""),
            Self::TokensWithoutTls => (mechanisms, "add [broker.tls]"),
            Self::NoKeys => (
                tokens,
                "set jwks to files with the issuer's public keys (its jwks_uri)",
            ),
            Self::NoIssuer => (tokens, "set issuer to what `iss` of its tokens is"),
            Self::NoAudience => (
                tokens,
                "set audience to what `aud` of tokens for this fleet is",
            ),
            Self::KeysForNothing => (
                "broker.auth.oauthbearer.unsecured-tokens",
                "leave it out: it is for tests",
            ),
            Self::Skew => (
                "broker.auth.oauthbearer.clock-skew",
                "set at most 10m; 30s is usual",
            ),
            Self::Empty(_) => (tokens, "leave it out, or give it a name"),
        })
    }
}

pub fn check(auth: Option<&Options>, tls: Option<&Tls>) -> Result<(), SecurityError> {
    let Some(auth) = auth else { return Ok(()) };
    let has = |mechanism| auth.mechanisms.contains(&mechanism);
    if has(Mechanism::Plain) && tls.is_none() && !auth.plain_without_tls {
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
    match (&auth.oauthbearer, has(Mechanism::OauthBearer)) {
        (None, false) => Ok(()),
        (None, true) => Err(SecurityError::NoTokens),
        (Some(_), false) => Err(SecurityError::TokensForNothing),
        (Some(tokens), true) => of_tokens(tokens, tls.is_some()),
    }
}

/// Fails closed: what is not said is not taken for "any".
fn of_tokens(tokens: &OauthBearer, has_tls: bool) -> Result<(), SecurityError> {
    if tokens.clock_skew.0 > WIDEST_SKEW {
        return Err(SecurityError::Skew);
    }
    let claims = [
        ("principal-claim", &tokens.principal_claim),
        ("scope-claim", &tokens.scope_claim),
    ];
    if let Some((name, _)) = claims.into_iter().find(|(_, claim)| claim.is_empty()) {
        return Err(SecurityError::Empty(name));
    }
    if tokens.unsecured_tokens {
        return match tokens.jwks.is_empty() {
            true => Ok(()),
            false => Err(SecurityError::KeysForNothing),
        };
    }
    if tokens.jwks.is_empty() {
        return Err(SecurityError::NoKeys);
    }
    if tokens.issuer.is_none() {
        return Err(SecurityError::NoIssuer);
    }
    if tokens.audience.is_empty() {
        return Err(SecurityError::NoAudience);
    }
    match has_tls || tokens.without_tls {
        true => Ok(()),
        false => Err(SecurityError::TokensWithoutTls),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> OauthBearer {
        OauthBearer {
            jwks: vec!["keys.json".into()],
            issuer: Some("https://issuer".into()),
            audience: vec!["kafka".into()],
            without_tls: true,
            ..OauthBearer::default()
        }
    }

    fn said(tokens: Option<OauthBearer>, mechanism: Mechanism) -> Option<String> {
        let auth = Options {
            mechanisms: vec![mechanism],
            oauthbearer: tokens,
            ..Options::default()
        };
        let error = check(Some(&auth), None).err()?;
        assert!(error.place_and_fix().is_some());
        Some(error.to_string())
    }

    #[test]
    fn what_tokens_need_is_asked_for_and_nothing_taken_for_any() {
        let by = Mechanism::OauthBearer;
        assert_eq!(said(Some(tokens()), by), None);
        let wrong: [(OauthBearer, &str); 7] = [
            (
                OauthBearer {
                    jwks: vec![],
                    ..tokens()
                },
                "no jwks",
            ),
            (
                OauthBearer {
                    issuer: None,
                    ..tokens()
                },
                "no issuer",
            ),
            (
                OauthBearer {
                    audience: vec![],
                    ..tokens()
                },
                "no audience",
            ),
            (
                OauthBearer {
                    without_tls: false,
                    ..tokens()
                },
                "no TLS",
            ),
            (
                OauthBearer {
                    unsecured_tokens: true,
                    ..tokens()
                },
                "both jwks",
            ),
            (
                OauthBearer {
                    principal_claim: String::new(),
                    ..tokens()
                },
                "principal-claim is empty",
            ),
            (
                OauthBearer {
                    clock_skew: whimbrel_runtime::unit::Span::secs(601),
                    ..tokens()
                },
                "clock-skew",
            ),
        ];
        for (tokens, word) in wrong {
            let said = said(Some(tokens), by).unwrap_or_default();
            assert!(said.contains(word), "{word}: {said}");
        }
        assert!(said(None, by).is_some());
        assert!(said(Some(tokens()), Mechanism::ScramSha512).is_some());
    }

    #[test]
    fn tokens_without_signatures_need_nothing_else_and_are_no_protection() {
        let tokens = OauthBearer {
            unsecured_tokens: true,
            ..OauthBearer::default()
        };
        assert_eq!(said(Some(tokens.clone()), Mechanism::OauthBearer), None);
        let auth = Options {
            oauthbearer: Some(tokens),
            ..Options::default()
        };
        assert!(auth.believes_everybody());
        assert!(!Options::default().believes_everybody());
    }
}
