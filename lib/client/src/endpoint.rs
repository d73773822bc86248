//! `host:port`, resolved only when connecting.

use std::{fmt, str::FromStr};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

/// Text that is not `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not host:port (example: 127.0.0.1:9092)")]
pub struct NotAnEndpoint(pub String);

impl Endpoint {
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
        }
    }

    /// All endpoints of a bootstrap list, `host:port,host:port`.
    ///
    /// # Errors
    /// [`NotAnEndpoint`] for the first entry that is none, and for an empty list.
    pub fn list(text: &str) -> Result<Vec<Self>, NotAnEndpoint> {
        text.split(',').map(|entry| entry.trim().parse()).collect()
    }

    /// The endpoint in a broker's answer, unless its port is none.
    pub(crate) fn advertised(host: &str, port: i32) -> Option<Self> {
        let port = u16::try_from(port).ok().filter(|port| *port > 0)?;
        (!host.is_empty()).then(|| Self::new(host, port))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Endpoint {
    type Err = NotAnEndpoint;

    fn from_str(text: &str) -> Result<Self, NotAnEndpoint> {
        let refuse = || NotAnEndpoint(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(refuse)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().map_err(|_| refuse())?;
        if host.is_empty() {
            return Err(refuse());
        }
        Ok(Self::new(host, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bootstrap_list_is_read_and_nonsense_is_refused() {
        let list = Endpoint::list("a:1, [::1]:2").unwrap();
        assert_eq!(list, [Endpoint::new("a", 1), Endpoint::new("::1", 2)]);
        for text in ["", "a", "a:", ":1", "a:1,", "a:70000"] {
            assert!(Endpoint::list(text).is_err(), "{text}");
        }
    }
}
