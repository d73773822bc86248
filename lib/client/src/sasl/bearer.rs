//! OAUTHBEARER (RFC 7628), the client's side: a token that somebody else has made, shown as it is. It is not looked
//! into: whom it is for and how long it holds is for the broker to say.

use std::{io::Read, path::PathBuf};

use super::Password;

/// A token of some claims takes a few KiB; the broker takes a frame of 64 KiB before it believes anybody.
const LONGEST: usize = 32 << 10;

/// Why there is no token to show.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoToken {
    #[error("{path}: {source}")]
    File {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{0} holds no token: one is printable, without spaces, and of 32 KiB at most")]
    NotOne(String),
}

/// Where a client's tokens come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tokens {
    /// Written again by somebody else before it ends: it is read at every login.
    File(PathBuf),
}

impl Tokens {
    /// Blocks: it reads a file.
    pub(crate) fn read(&self) -> Result<Password, NoToken> {
        let Self::File(path) = self;
        let failed = |source| NoToken::File {
            path: path.clone(),
            source,
        };
        let file = std::fs::File::open(path).map_err(failed)?;
        let mut text = String::new();
        let mut bounded = file.take(LONGEST as u64 + 1);
        bounded.read_to_string(&mut text).map_err(failed)?;
        checked(&text).ok_or_else(|| NoToken::NotOne(path.display().to_string()))
    }
}

fn checked(text: &str) -> Option<Password> {
    let token = text.trim();
    let is_one = !token.is_empty()
        && token.len() <= LONGEST
        && token.bytes().all(|byte| byte.is_ascii_graphic());
    is_one.then(|| Password(token.to_owned()))
}

/// The only message: no name beside it, the token says whose it is.
pub(crate) fn message(token: &Password) -> Vec<u8> {
    format!("n,,\u{1}auth=Bearer {}\u{1}\u{1}", token.0).into_bytes()
}

/// What is said after a broker has told in words of its own what is wrong with the token; it fails the login then.
pub(crate) const UNDERSTOOD: &[u8] = b"\x01";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_as_the_rfc_says_and_by_accident_to_nobody() {
        let token = checked(" head.claims.signed\n").unwrap();
        let shown = b"n,,\x01auth=Bearer head.claims.signed\x01\x01";
        assert_eq!(message(&token), shown);
        assert!(!format!("{token:?}").contains("claims"));
    }

    #[test]
    fn what_is_no_token_is_not_shown() {
        for text in [
            "",
            " \n",
            "two words",
            "a\u{1}b",
            "ü",
            &"x".repeat(LONGEST + 1),
        ] {
            assert!(checked(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_file_is_read_again_and_its_absence_is_told_by_name() {
        let dir = std::env::temp_dir().join(format!("token-{}", whimbrel_runtime::random::uuid()));
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("token");
        let tokens = Tokens::File(path.clone());
        assert!(tokens.read().unwrap_err().to_string().contains("token"));
        for text in ["first", "second"] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(tokens.read().unwrap().0, text);
        }
        std::fs::write(&path, "no token").unwrap();
        assert!(matches!(tokens.read(), Err(NoToken::NotOne(_))));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
