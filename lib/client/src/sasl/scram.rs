//! The client's side of SCRAM, message by message.

use std::num::NonZeroU32;

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{digest, hmac, pbkdf2};

use super::{Credentials, Mechanism};

/// Without channel binding, which Kafka does not have.
const GS2_HEADER: &str = "n,,";
/// Fewest rounds: RFC 7677 asks for at least these, and fewer would give the password away more cheaply.
const FEWEST_ROUNDS: u32 = 4_096;
/// Most rounds: some hundred milliseconds of a thread. Kafka takes up to 16,384.
const MOST_ROUNDS: u32 = 1 << 18;

/// Why the broker is not believed, or not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failed {
    #[error("the mechanism is not SCRAM")]
    Mechanism,
    #[error("the broker's SCRAM message is malformed")]
    Malformed,
    #[error("the broker does not go on from our nonce")]
    Nonce,
    #[error("the broker asks for too few or too many rounds")]
    Rounds,
    #[error("the broker refused the proof")]
    Refused,
    #[error("the broker does not know the password itself")]
    Server,
}

/// An exchange that has begun.
pub(crate) struct Scram {
    hmac: hmac::Algorithm,
    digest: &'static digest::Algorithm,
    pbkdf2: pbkdf2::Algorithm,
    nonce: String,
    bare: String,
}

/// An exchange that waits for the broker's own proof.
#[derive(Debug)]
pub(crate) struct Proven {
    server_key: hmac::Key,
    messages: String,
}

impl Scram {
    /// `nonce` is drawn for this exchange: printable, without commas.
    pub(crate) fn begin(sasl: &Credentials, nonce: &str) -> Result<(Self, Vec<u8>), Failed> {
        let (hmac, digest, pbkdf2): (_, &'static digest::Algorithm, _) = match sasl.mechanism {
            Mechanism::Plain => return Err(Failed::Mechanism),
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
        };
        let user = sasl.user.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={user},r={nonce}");
        let first = format!("{GS2_HEADER}{bare}").into_bytes();
        let begun = Self {
            hmac,
            digest,
            pbkdf2,
            nonce: nonce.to_owned(),
            bare,
        };
        Ok((begun, first))
    }

    /// Answers the broker's challenge. Takes some milliseconds of a thread.
    pub(crate) fn prove(
        self,
        password: &str,
        challenge: &[u8],
    ) -> Result<(Proven, Vec<u8>), Failed> {
        let challenge = std::str::from_utf8(challenge).map_err(|_| Failed::Malformed)?;
        let mut fields = challenge.split(',');
        let mut field = |name: &str| fields.next().and_then(|field| field.strip_prefix(name));
        let (Some(nonce), Some(salt), Some(rounds)) = (field("r="), field("s="), field("i="))
        else {
            return Err(Failed::Malformed);
        };
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err(Failed::Nonce);
        }
        let salt = STANDARD.decode(salt).map_err(|_| Failed::Malformed)?;
        let rounds: u32 = rounds.parse().map_err(|_| Failed::Malformed)?;
        let rounds = NonZeroU32::new(rounds)
            .filter(|rounds| (FEWEST_ROUNDS..=MOST_ROUNDS).contains(&rounds.get()))
            .ok_or(Failed::Rounds)?;
        let mut salted = vec![0; self.digest.output_len()];
        pbkdf2::derive(self.pbkdf2, rounds, &salt, password.as_bytes(), &mut salted);
        let salted = hmac::Key::new(self.hmac, &salted);
        let client_key = hmac::sign(&salted, b"Client Key");
        let stored_key = digest::digest(self.digest, client_key.as_ref());
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(GS2_HEADER));
        let messages = format!("{},{challenge},{without_proof}", self.bare);
        let stored_key = hmac::Key::new(self.hmac, stored_key.as_ref());
        let signature = hmac::sign(&stored_key, messages.as_bytes());
        let both = client_key.as_ref().iter().zip(signature.as_ref());
        let proof: Vec<u8> = both.map(|(a, b)| a ^ b).collect();
        let answer = format!("{without_proof},p={}", STANDARD.encode(proof));
        let server_key = hmac::sign(&salted, b"Server Key");
        let proven = Proven {
            server_key: hmac::Key::new(self.hmac, server_key.as_ref()),
            messages,
        };
        Ok((proven, answer.into_bytes()))
    }
}

impl Proven {
    /// Checks that the broker knows the password's keys too.
    pub(crate) fn check(&self, last: &[u8]) -> Result<(), Failed> {
        let last = std::str::from_utf8(last).map_err(|_| Failed::Malformed)?;
        if last.starts_with("e=") {
            return Err(Failed::Refused);
        }
        let signature = last.strip_prefix("v=").ok_or(Failed::Malformed)?;
        let signature = signature.split(',').next().unwrap_or_default();
        let signature = STANDARD.decode(signature).map_err(|_| Failed::Malformed)?;
        hmac::verify(&self.server_key, self.messages.as_bytes(), &signature)
            .map_err(|_| Failed::Server)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Password, *};

    /// The exchange that RFC 7677 prints.
    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const CHALLENGE: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn sasl(user: &str) -> Credentials {
        Credentials {
            mechanism: Mechanism::ScramSha256,
            user: user.to_owned(),
            password: Password("pencil".to_owned()),
        }
    }

    fn begun() -> Scram {
        Scram::begin(&sasl("user"), NONCE).unwrap().0
    }

    #[test]
    fn the_exchange_of_the_rfc_comes_out() {
        let (scram, first) = Scram::begin(&sasl("user"), NONCE).unwrap();
        assert_eq!(first, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let (proven, answer) = scram.prove("pencil", CHALLENGE.as_bytes()).unwrap();
        let wanted = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
            p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(String::from_utf8(answer).unwrap(), wanted);
        let last = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(proven.check(last), Ok(()));
        let other = b"v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(proven.check(other), Err(Failed::Server));
        assert_eq!(proven.check(b"e=invalid-proof"), Err(Failed::Refused));
    }

    #[test]
    fn names_are_escaped() {
        let (_, first) = Scram::begin(&sasl("a=b,c"), "x").unwrap();
        assert_eq!(first, b"n,,n=a=3Db=2Cc,r=x");
    }

    #[test]
    fn a_broker_that_asks_for_what_is_not_safe_gets_no_proof() {
        for (challenge, why) in [
            ("", Failed::Malformed),
            ("r=rOprNGfwEbeRWgbNEkqO,s=AAAA,i=4096", Failed::Nonce),
            ("r=other,s=AAAA,i=4096", Failed::Nonce),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=1", Failed::Rounds),
            (
                "r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=4000000000",
                Failed::Rounds,
            ),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=?,i=4096", Failed::Malformed),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=-1", Failed::Malformed),
        ] {
            let refused = begun().prove("pencil", challenge.as_bytes());
            assert_eq!(refused.err(), Some(why), "{challenge}");
        }
    }
}
