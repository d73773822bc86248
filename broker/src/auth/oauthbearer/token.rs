//! A JSON web token (RFC 7519) in its compact form: whose it is, and until when.
//!
//! Two signatures are known, RS256 and ES256, and which of them holds is the key's to say, not the token's: a token can
//! choose neither a secret made of a public key nor no signature at all. Keys that a token brings along or points at
//! are not looked at.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Map, Value};
use whimbrel_fleet::credential::MAX_NAME;

use super::keys::{Algorithm, KeySet};
use crate::auth::OauthBearer;

/// Whom a token is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub user: String,
    /// Since 1970; it is not believed any more from then on. Leeway for clocks is in it.
    pub until_ms: i64,
}

/// Why a token is not believed; for the log, not for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Malformed,
    Algorithm,
    Key,
    Signature,
    NoEnd,
    Expired,
    TooEarly,
    Issuer,
    Audience,
    Principal,
    Scope,
}

impl Refused {
    pub const fn words(self) -> &'static str {
        match self {
            Self::Malformed => "malformed token",
            Self::Algorithm => "the token's algorithm is not taken",
            Self::Key => "no key is known for the token",
            Self::Signature => "the token's signature is wrong",
            Self::NoEnd => "the token has no exp",
            Self::Expired => "the token has expired",
            Self::TooEarly => "the token is not valid yet",
            Self::Issuer => "the token is another issuer's",
            Self::Audience => "the token is for others",
            Self::Principal => "the token names no user",
            Self::Scope => "the token lacks a scope",
        }
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Names of what has to be understood; nothing of it is.
    crit: Option<Value>,
}

/// `keys` is `None` where tokens need no signature and must have none.
pub fn check(
    token: &str,
    rules: &OauthBearer,
    keys: Option<&KeySet>,
    wall_ms: i64,
) -> Result<Token, Refused> {
    let (signed, signature) = token.rsplit_once('.').ok_or(Refused::Malformed)?;
    let (header, claims) = signed.split_once('.').ok_or(Refused::Malformed)?;
    let header: Header = decoded(header)?;
    if header.crit.is_some() {
        return Err(Refused::Malformed);
    }
    match keys {
        Some(keys) => is_signed(&header, keys, signed, signature)?,
        None if header.alg != "none" => return Err(Refused::Algorithm),
        None if !signature.is_empty() => return Err(Refused::Malformed),
        None => {}
    }
    claimed(&decoded(claims)?, rules, wall_ms)
}

/// Base64 without padding, stray bits or other letters, and JSON in it.
fn decoded<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, Refused> {
    let bytes = URL_SAFE_NO_PAD.decode(part);
    let bytes = bytes.map_err(|_| Refused::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Refused::Malformed)
}

fn is_signed(header: &Header, keys: &KeySet, signed: &str, signature: &str) -> Result<(), Refused> {
    let algorithm = Algorithm::from_name(&header.alg).ok_or(Refused::Algorithm)?;
    let key = keys.find(header.kid.as_deref(), algorithm);
    let key = key.ok_or(Refused::Key)?;
    let signature = URL_SAFE_NO_PAD.decode(signature);
    let signature = signature.map_err(|_| Refused::Malformed)?;
    match key.has_signed(signed.as_bytes(), &signature) {
        true => Ok(()),
        false => Err(Refused::Signature),
    }
}

fn claimed(
    claims: &Map<String, Value>,
    rules: &OauthBearer,
    wall_ms: i64,
) -> Result<Token, Refused> {
    let skew_ms = i64::try_from(rules.clock_skew.0.as_millis()).unwrap_or(i64::MAX);
    let until_ms = instant(claims, "exp")?
        .ok_or(Refused::NoEnd)?
        .saturating_add(skew_ms);
    if wall_ms >= until_ms {
        return Err(Refused::Expired);
    }
    let from_ms = instant(claims, "nbf")?.unwrap_or(i64::MIN);
    if wall_ms.saturating_add(skew_ms) < from_ms {
        return Err(Refused::TooEarly);
    }
    if let Some(issuer) = &rules.issuer
        && claims.get("iss").and_then(Value::as_str) != Some(issuer)
    {
        return Err(Refused::Issuer);
    }
    let audience = listed(claims.get("aud"), false);
    if !rules.audience.is_empty() && !audience.iter().any(|it| contains(&rules.audience, it)) {
        return Err(Refused::Audience);
    }
    let user = claims.get(&rules.principal_claim).and_then(Value::as_str);
    let user = user
        .filter(|user| is_name(user))
        .ok_or(Refused::Principal)?;
    let scopes = listed(claims.get(&rules.scope_claim), true);
    let has = |scope: &String| scopes.contains(&scope.as_str());
    if !rules.scope.iter().all(has) {
        return Err(Refused::Scope);
    }
    Ok(Token {
        user: user.to_owned(),
        until_ms,
    })
}

fn contains(list: &[String], name: &str) -> bool {
    list.iter().any(|it| it == name)
}

/// One text, or a list of them; `by_words` where one text has several, with blanks between.
fn listed(claim: Option<&Value>, by_words: bool) -> Vec<&str> {
    match claim {
        Some(Value::String(text)) if by_words => text.split_ascii_whitespace().collect(),
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// In milliseconds since 1970. Seconds in the token, with or without a fraction (RFC 7519, 2).
fn instant(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, Refused> {
    let Some(claim) = claims.get(name) else {
        return Ok(None);
    };
    let seconds = claim.as_f64().ok_or(Refused::Malformed)?;
    // What does not fit is as far away as can be.
    Ok(Some((seconds * 1_000.0) as i64))
}

/// As a user's name may be that has a password, and without what would break a line of a log.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME && !name.chars().any(char::is_control)
}
