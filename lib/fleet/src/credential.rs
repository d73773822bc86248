//! SCRAM credentials of users (RFC 5802): what a password can be checked against, never the password.
//!
//! Whoever holds a stored key can check guesses, and whoever holds a server key can pose as a broker: nothing
//! here prints them, and what is shown to people goes without.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// Longest name of a user.
pub const MAX_NAME: usize = 1_024;
/// Fewest rounds a password may be hashed with: RFC 7677 asks for at least these.
pub const MIN_ITERATIONS: i32 = 4_096;
/// Most rounds: a client that is told so many works for some milliseconds.
pub const MAX_ITERATIONS: i32 = 16_384;
/// Longest salt.
const MAX_SALT: usize = 128;

/// A SCRAM mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Mechanism {
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl Mechanism {
    /// The stronger one first.
    pub const ALL: [Self; 2] = [Self::ScramSha512, Self::ScramSha256];

    pub const fn name(self) -> &'static str {
        match self {
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }

    /// Kafka's number.
    pub const fn code(self) -> i8 {
        match self {
            Self::ScramSha256 => 1,
            Self::ScramSha512 => 2,
        }
    }

    pub fn from_code(code: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.code() == code)
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    /// Bytes of its hash.
    pub const fn hash_len(self) -> usize {
        match self {
            Self::ScramSha256 => 32,
            Self::ScramSha512 => 64,
        }
    }
}

/// Bytes that nobody sees by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&hex)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hex = String::deserialize(deserializer)?;
        let pairs = hex.as_bytes().chunks(2).map(|pair| {
            let is_byte = pair.len() == 2 && pair.iter().all(u8::is_ascii_hexdigit);
            let digits = std::str::from_utf8(pair).ok().filter(|_| is_byte)?;
            u8::from_str_radix(digits, 16).ok()
        });
        let bytes: Option<Vec<u8>> = pairs.collect();
        bytes
            .map(Self)
            .ok_or_else(|| D::Error::custom("a secret is written in hexadecimal"))
    }
}

/// What a user's password is checked against.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    pub salt: Secret,
    pub stored_key: Secret,
    pub server_key: Secret,
    pub iterations: i32,
}

/// A user's new credential for a mechanism, or that there is none any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialChange {
    pub user: String,
    pub mechanism: Mechanism,
    pub credential: Option<Credential>,
}

impl CredentialChange {
    /// Why it cannot be, in words for the client.
    pub fn refuse(&self) -> Option<String> {
        if self.user.is_empty() || self.user.len() > MAX_NAME {
            return Some(format!("a user's name has 1 to {MAX_NAME} bytes"));
        }
        let credential = self.credential.as_ref()?;
        if !(MIN_ITERATIONS..=MAX_ITERATIONS).contains(&credential.iterations) {
            return Some(format!(
                "iterations are {MIN_ITERATIONS} to {MAX_ITERATIONS}"
            ));
        }
        if credential.salt.0.is_empty() || credential.salt.0.len() > MAX_SALT {
            return Some(format!("a salt has 1 to {MAX_SALT} bytes"));
        }
        let length = self.mechanism.hash_len();
        if credential.stored_key.0.len() != length || credential.server_key.0.len() != length {
            return Some(format!(
                "keys of {} have {length} bytes",
                self.mechanism.name()
            ));
        }
        None
    }
}

/// Everybody's credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Credentials(BTreeMap<String, BTreeMap<Mechanism, Credential>>);

impl Credentials {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many users there are.
    pub fn users(&self) -> usize {
        self.0.len()
    }

    pub fn get(&self, user: &str, mechanism: Mechanism) -> Option<&Credential> {
        self.0.get(user)?.get(&mechanism)
    }

    /// Users by name, each with what it has.
    pub fn iter(
        &self,
    ) -> impl Iterator<Item = (&str, impl Iterator<Item = (Mechanism, &Credential)>)> {
        self.0.iter().map(|(user, of_user)| {
            let of_user = of_user.iter().map(|(mechanism, it)| (*mechanism, it));
            (user.as_str(), of_user)
        })
    }

    /// True when it changed anything.
    pub fn apply(&mut self, change: CredentialChange) -> bool {
        let CredentialChange {
            user,
            mechanism,
            credential,
        } = change;
        match credential {
            Some(new) => {
                let of_user = self.0.entry(user).or_default();
                let changed = of_user.get(&mechanism) != Some(&new);
                of_user.insert(mechanism, new);
                changed
            }
            None => {
                let Some(of_user) = self.0.get_mut(&user) else {
                    return false;
                };
                let gone = of_user.remove(&mechanism).is_some();
                if of_user.is_empty() {
                    self.0.remove(&user);
                }
                gone
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(iterations: i32) -> CredentialChange {
        CredentialChange {
            user: "ann".into(),
            mechanism: Mechanism::ScramSha256,
            credential: Some(Credential {
                salt: Secret(vec![0xab; 16]),
                stored_key: Secret(vec![0xcd; 32]),
                server_key: Secret(vec![0xef; 32]),
                iterations,
            }),
        }
    }

    #[test]
    fn credentials_come_and_go_and_survive_json() {
        let mut all = Credentials::default();
        assert!(all.apply(change(4_096)) && !all.apply(change(4_096)));
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<Credentials>(&text).unwrap(), all);
        assert!(all.get("ann", Mechanism::ScramSha256).is_some());
        assert!(all.get("ann", Mechanism::ScramSha512).is_none());
        let gone = CredentialChange {
            credential: None,
            ..change(4_096)
        };
        assert!(all.apply(gone.clone()) && !all.apply(gone));
        assert!(all.is_empty());
    }

    #[test]
    fn nothing_secret_is_printed() {
        let printed = format!("{:?}", change(4_096));
        for hidden in ["ab", "cd", "ef", "171", "205", "239"] {
            assert!(
                !printed.contains(&hidden.repeat(2)) && !printed.contains(&format!("{hidden},")),
                "{printed}"
            );
        }
        assert!(printed.contains("<secret>"));
    }

    #[test]
    fn what_is_out_of_bounds_is_refused() {
        assert_eq!(change(4_096).refuse(), None);
        assert_eq!(change(16_384).refuse(), None);
        for iterations in [1, 4_095, 16_385, 1_000_000_000] {
            assert!(change(iterations).refuse().is_some(), "{iterations}");
        }
        let mut long = change(4_096);
        long.user = "x".repeat(MAX_NAME + 1);
        assert!(long.refuse().is_some());
        let mut other = change(4_096);
        other.mechanism = Mechanism::ScramSha512;
        assert!(other.refuse().is_some(), "the keys are of another hash");
        let mut salted = change(4_096);
        salted.credential.as_mut().unwrap().salt = Secret(Vec::new());
        assert!(salted.refuse().is_some());
    }

    #[test]
    fn what_is_no_hexadecimal_is_no_secret() {
        for bad in ["\"a\"", "\"zz\"", "\"+1\"", "1"] {
            assert!(serde_json::from_str::<Secret>(bad).is_err(), "{bad}");
        }
    }
}
