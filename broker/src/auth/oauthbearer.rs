//! SASL OAUTHBEARER (RFC 7628, KIP-255, KIP-342, KIP-768): a client shows a token that somebody else has signed.
//!
//! * Here - what the client sends first, and what it is told when its token is not believed.
//! * [`token`] - the token itself; [`keys`] - whose signatures count.
//!
//! Extensions are read, so that what follows them is found, and nothing is made of them. Tokens are never asked about
//! over the network: keys stand in files.

mod keys;
mod token;

use super::{OauthBearer, scram};

pub use keys::{JwksError, Keys};
pub use token::{Refused, Token};

/// Longest first message of a client: a token with many groups in it has some KiB.
const LONGEST: usize = 32 << 10;
/// Between the parts of a message.
const SEPARATOR: char = '\x01';

/// What a client sends first, read.
#[derive(Debug, PartialEq, Eq)]
struct First<'a> {
    /// As whom it wants to be known; it may only say what its token says.
    authorized: Option<String>,
    token: &'a str,
}

/// Why a client is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// This is no message of the mechanism, and nothing is answered to it.
    Malformed,
    /// The token names somebody else than the message.
    OtherIdentity,
    Token(Refused),
}

/// Whose tokens are believed, and what they have to say.
#[derive(Debug)]
pub struct Tokens {
    rules: OauthBearer,
    /// `None` where tokens need no signature.
    keys: Option<Keys>,
}

impl Tokens {
    /// Reads the files with keys.
    pub fn open(rules: OauthBearer) -> Result<Self, JwksError> {
        let keys = match rules.unsecured_tokens {
            true => None,
            false => Some(Keys::open(rules.jwks.clone())?),
        };
        Ok(Self { rules, keys })
    }

    /// Whom the message proves at that time (since 1970). Looks at the files with keys: it may wait for the disk.
    pub fn check(&self, message: &[u8], wall_ms: i64) -> Result<Token, Failed> {
        let first = read(message).ok_or(Failed::Malformed)?;
        let keys = self.keys.as_ref().map(Keys::now);
        let token = token::check(first.token, &self.rules, keys.as_deref(), wall_ms);
        let token = token.map_err(Failed::Token)?;
        match first.authorized {
            Some(name) if name != token.user => Err(Failed::OtherIdentity),
            _ => Ok(token),
        }
    }

    /// What a client is told about its token (RFC 7628, 3.2.2): not more than that it will not do.
    pub fn refusal(&self, refused: Refused) -> Vec<u8> {
        let answer = match refused {
            Refused::Scope => serde_json::json!({
                "status": "insufficient_scope",
                "scope": self.rules.scope.join(" "),
            }),
            _ => serde_json::json!({ "status": "invalid_token" }),
        };
        answer.to_string().into_bytes()
    }
}

/// `n,a=NAME,^Akey=value^A..^A^A`, in which one key is `auth` and its value `Bearer TOKEN`.
fn read(message: &[u8]) -> Option<First<'_>> {
    if message.len() > LONGEST {
        return None;
    }
    let text = std::str::from_utf8(message).ok()?;
    let (header, pairs) = text.split_once(SEPARATOR)?;
    let mut header = header.split(',');
    let (binding, authorized) = (header.next()?, header.next()?);
    // Channels are not bound; a client that could do it says `y`.
    if !matches!(binding, "n" | "y") || header.next() != Some("") || header.next().is_some() {
        return None;
    }
    let authorized = match authorized {
        "" => None,
        named => Some(scram::unescaped(named.strip_prefix("a=")?).ok()?),
    };
    let pairs = pairs.strip_suffix(SEPARATOR)?.strip_suffix(SEPARATOR)?;
    let mut auth = None;
    for pair in pairs.split(SEPARATOR) {
        let (key, value) = pair.split_once('=')?;
        let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphabetic());
        if !is_key || value.is_empty() || !value.bytes().all(is_value) {
            return None;
        }
        if key == "auth" && auth.replace(value).is_some() {
            return None;
        }
    }
    let (scheme, token) = auth?.split_once(' ')?;
    let token = token.trim_start_matches(' ');
    let is_token = !token.is_empty() && token.bytes().all(is_of_token);
    (scheme.eq_ignore_ascii_case("bearer") && is_token).then_some(First { authorized, token })
}

fn is_value(byte: u8) -> bool {
    byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

#[cfg(test)]
mod tests;
