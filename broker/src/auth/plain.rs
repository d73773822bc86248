//! SASL PLAIN (RFC 4616): a name and a password as they are.

/// What a client said.
pub struct Plain<'a> {
    pub user: &'a str,
    pub password: &'a [u8],
}

/// `None` for what is no such message, and for who asks to be somebody else.
pub fn read(token: &[u8]) -> Option<Plain<'_>> {
    let mut parts = token.split(|byte| *byte == 0);
    let (authorized, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || user.is_empty() || password.is_empty() {
        return None;
    }
    if !authorized.is_empty() && authorized != user {
        return None;
    }
    // A password that is no text could not have been set.
    std::str::from_utf8(password).ok()?;
    Some(Plain {
        user: std::str::from_utf8(user).ok()?,
        password,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_to_be_somebody_else_is_nobody() {
        let user = |token: &'static [u8]| read(token).map(|plain| plain.user);
        assert_eq!(user(b"\0ann\0secret"), Some("ann"));
        assert_eq!(user(b"ann\0ann\0secret"), Some("ann"));
        let bad: [&[u8]; 8] = [
            b"",
            b"\0ann",
            b"\0\0secret",
            b"\0ann\0",
            b"bob\0ann\0secret",
            b"\0ann\0secret\0",
            b"\0\xff\xfe\0secret",
            b"\0ann\0\xff\xfe",
        ];
        for token in bad {
            assert!(read(token).is_none(), "{token:?}");
        }
    }
}
