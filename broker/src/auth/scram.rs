//! SCRAM (RFC 5802, RFC 7677) from the server's side, without IO, and the making of credentials.
//!
//! Nonces are compared whole, proofs in constant time. A user that does not exist gets a salt like any other and
//! fails where a wrong password does.

use std::num::NonZeroU32;

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{digest, hmac, pbkdf2};
use whimbrel_fleet::credential::{Credential, MAX_ITERATIONS, MIN_ITERATIONS, Mechanism, Secret};

/// Longest message of a client: a name of the longest, escaped, with a nonce.
const LONGEST: usize = 8 << 10;
/// Longest nonce of a client.
const LONGEST_NONCE: usize = 512;

/// Why an exchange ends; the client hears only that it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    #[error("malformed SCRAM message")]
    Malformed,
    #[error("unsupported SCRAM extension")]
    Unsupported,
    #[error("another identity was asked for")]
    OtherIdentity,
    #[error("the nonce is not ours")]
    Nonce,
    #[error("wrong proof")]
    Proof,
}

/// What the client sent first, read.
#[derive(Debug, PartialEq, Eq)]
pub struct ClientFirst {
    pub user: String,
    nonce: String,
    gs2_header: String,
    bare: String,
}

/// An exchange that waits for the client's proof.
#[derive(Debug)]
pub struct Server {
    pub mechanism: Mechanism,
    pub user: String,
    pub credential: Credential,
    /// False where the credential is made up.
    exists: bool,
    nonce: String,
    gs2_header: String,
    /// The client's first message without its header, and ours.
    messages: String,
}

fn algorithms(
    mechanism: Mechanism,
) -> (
    hmac::Algorithm,
    &'static digest::Algorithm,
    pbkdf2::Algorithm,
) {
    match mechanism {
        Mechanism::ScramSha256 => (
            hmac::HMAC_SHA256,
            &digest::SHA256,
            pbkdf2::PBKDF2_HMAC_SHA256,
        ),
        Mechanism::ScramSha512 => (
            hmac::HMAC_SHA512,
            &digest::SHA512,
            pbkdf2::PBKDF2_HMAC_SHA512,
        ),
    }
}

fn keyed(algorithm: hmac::Algorithm, key: &[u8], message: &[u8]) -> Vec<u8> {
    let tag = hmac::sign(&hmac::Key::new(algorithm, key), message);
    tag.as_ref().to_vec()
}

/// In a time that does not depend on where they differ: tags of both are compared, by `ring`.
fn same(a: &[u8], b: &[u8]) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"comparison");
    hmac::verify(&key, a, hmac::sign(&key, b).as_ref()).is_ok()
}

/// The credential of whose salted password this is.
pub fn from_salted(
    mechanism: Mechanism,
    salt: Vec<u8>,
    salted_password: &[u8],
    iterations: i32,
) -> Credential {
    let (hmac, digest, _) = algorithms(mechanism);
    let client_key = keyed(hmac, salted_password, b"Client Key");
    Credential {
        salt: Secret(salt),
        stored_key: Secret(digest::digest(digest, &client_key).as_ref().to_vec()),
        server_key: Secret(keyed(hmac, salted_password, b"Server Key")),
        iterations,
    }
}

/// The credential of a password. Iterations are brought within their bounds.
pub fn from_password(
    mechanism: Mechanism,
    salt: Vec<u8>,
    password: &[u8],
    iterations: i32,
) -> Credential {
    let iterations = iterations.clamp(MIN_ITERATIONS, MAX_ITERATIONS);
    let rounds = u32::try_from(iterations)
        .ok()
        .and_then(NonZeroU32::new)
        .unwrap_or(NonZeroU32::MIN);
    let mut salted = vec![0; mechanism.hash_len()];
    let (_, _, pbkdf2) = algorithms(mechanism);
    pbkdf2::derive(pbkdf2, rounds, &salt, password, &mut salted);
    from_salted(mechanism, salt, &salted, iterations)
}

/// Whether that is the password of the credential. Takes some milliseconds of a thread.
pub fn is_password(mechanism: Mechanism, credential: &Credential, password: &[u8]) -> bool {
    let made = from_password(
        mechanism,
        credential.salt.0.clone(),
        password,
        credential.iterations,
    );
    same(&made.stored_key.0, &credential.stored_key.0)
}

/// A credential that no password fits, the same for a user each time.
pub fn decoy(mechanism: Mechanism, secret: &[u8], user: &str) -> Credential {
    let salt = keyed(hmac::HMAC_SHA256, secret, user.as_bytes());
    Credential {
        salt: Secret(salt[..16].to_vec()),
        stored_key: Secret(vec![0; mechanism.hash_len()]),
        server_key: Secret(vec![0; mechanism.hash_len()]),
        iterations: MIN_ITERATIONS,
    }
}

/// `gs2-header client-first-message-bare`.
pub fn read_first(message: &[u8]) -> Result<ClientFirst, Failed> {
    let text = text(message)?;
    let mut parts = text.splitn(3, ',');
    let (Some(binding), Some(authorized), Some(bare)) = (parts.next(), parts.next(), parts.next())
    else {
        return Err(Failed::Malformed);
    };
    match binding {
        "n" | "y" => {}
        _ if binding.starts_with("p=") => return Err(Failed::Unsupported),
        _ => return Err(Failed::Malformed),
    }
    let mut fields = bare.split(',');
    let first = fields.next().unwrap_or_default();
    if first.starts_with("m=") {
        return Err(Failed::Unsupported);
    }
    let user = unescaped(first.strip_prefix("n=").ok_or(Failed::Malformed)?)?;
    let nonce = fields
        .next()
        .and_then(|field| field.strip_prefix("r="))
        .ok_or(Failed::Malformed)?;
    if user.is_empty() || nonce.is_empty() || nonce.len() > LONGEST_NONCE || !is_printable(nonce) {
        return Err(Failed::Malformed);
    }
    // Kafka's way to say that the name is a delegation token's.
    if fields.any(|field| field == "tokenauth=true") {
        return Err(Failed::Unsupported);
    }
    if !authorized.is_empty() {
        let name = authorized.strip_prefix("a=").ok_or(Failed::Malformed)?;
        if unescaped(name)? != user {
            return Err(Failed::OtherIdentity);
        }
    }
    Ok(ClientFirst {
        user,
        nonce: nonce.to_owned(),
        gs2_header: format!("{binding},{authorized},"),
        bare: bare.to_owned(),
    })
}

impl Server {
    /// Goes on with the user's credential, or one made up; with what is sent to the client. `nonce` is ours, drawn
    /// for this exchange.
    pub fn challenge(
        mechanism: Mechanism,
        first: ClientFirst,
        credential: Option<Credential>,
        decoy_secret: &[u8],
        nonce: &str,
    ) -> (Self, Vec<u8>) {
        let exists = credential.is_some();
        let credential = credential.unwrap_or_else(|| decoy(mechanism, decoy_secret, &first.user));
        let nonce = format!("{}{nonce}", first.nonce);
        let challenge = format!(
            "r={nonce},s={},i={}",
            STANDARD.encode(&credential.salt.0),
            credential.iterations
        );
        let server = Self {
            mechanism,
            user: first.user,
            credential,
            exists,
            nonce,
            gs2_header: first.gs2_header,
            messages: format!("{},{challenge}", first.bare),
        };
        (server, challenge.into_bytes())
    }

    /// Checks the proof; what is sent to the client when it holds.
    pub fn verify(&self, message: &[u8]) -> Result<Vec<u8>, Failed> {
        let text = text(message)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(Failed::Malformed)?;
        let mut fields = without_proof.split(',');
        let binding = fields.next().and_then(|field| field.strip_prefix("c="));
        let nonce = fields.next().and_then(|field| field.strip_prefix("r="));
        let (Some(binding), Some(nonce)) = (binding, nonce) else {
            return Err(Failed::Malformed);
        };
        if STANDARD.decode(binding).ok().as_deref() != Some(self.gs2_header.as_bytes()) {
            return Err(Failed::Malformed);
        }
        if nonce != self.nonce {
            return Err(Failed::Nonce);
        }
        let proof = STANDARD.decode(proof).map_err(|_| Failed::Malformed)?;
        let (hmac, digest, _) = algorithms(self.mechanism);
        let auth_message = format!("{},{without_proof}", self.messages);
        let signature = keyed(hmac, &self.credential.stored_key.0, auth_message.as_bytes());
        if proof.len() != signature.len() {
            return Err(Failed::Proof);
        }
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        let stored = digest::digest(digest, &client_key);
        let holds = same(stored.as_ref(), &self.credential.stored_key.0);
        if !(holds && self.exists) {
            return Err(Failed::Proof);
        }
        let verifier = keyed(hmac, &self.credential.server_key.0, auth_message.as_bytes());
        Ok(format!("v={}", STANDARD.encode(verifier)).into_bytes())
    }
}

fn text(message: &[u8]) -> Result<&str, Failed> {
    if message.len() > LONGEST {
        return Err(Failed::Malformed);
    }
    std::str::from_utf8(message).map_err(|_| Failed::Malformed)
}

fn is_printable(nonce: &str) -> bool {
    nonce.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A name in which `,` and `=` are written as `=2C` and `=3D`, and no other `=` stands.
pub(super) fn unescaped(name: &str) -> Result<String, Failed> {
    let mut parts = name.split('=');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (sign, rest) = if let Some(rest) = part.strip_prefix("2C") {
            (',', rest)
        } else if let Some(rest) = part.strip_prefix("3D") {
            ('=', rest)
        } else {
            return Err(Failed::Malformed);
        };
        plain.push(sign);
        plain.push_str(rest);
    }
    Ok(plain)
}

#[cfg(test)]
mod tests;
