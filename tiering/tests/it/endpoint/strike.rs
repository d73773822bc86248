//! The death of one of the endpoint's clients, who is told by the key that signs.

use super::{Endpoint, Request};

/// The client with access key `of` dies when it makes write number `at`, before or after that is done.
#[derive(Clone, Debug)]
pub struct Strike {
    of: String,
    at: u64,
    after: bool,
    writes: u64,
    dead: bool,
}

pub(super) enum Fate {
    Work,
    Dead,
    Dies { after: bool },
}

impl Endpoint {
    /// Plans a death. Writes are counted from now on.
    pub fn strike(&self, of: &str, at: u64, after: bool) {
        self.state.lock().strike = Some(Strike {
            of: of.to_owned(),
            at,
            after,
            writes: 0,
            dead: false,
        });
    }

    pub(super) fn fate(&self, request: &Request) -> Fate {
        let mut state = self.state.lock();
        let Some(strike) = &mut state.strike else {
            return Fate::Work;
        };
        let signed = request.header("authorization").unwrap_or_default();
        if !signed.contains(&format!("Credential={}/", strike.of)) {
            return Fate::Work;
        }
        if strike.dead {
            return Fate::Dead;
        }
        if matches!(request.method.as_str(), "GET" | "HEAD") {
            return Fate::Work;
        }
        strike.writes += 1;
        if strike.writes - 1 != strike.at {
            return Fate::Work;
        }
        strike.dead = true;
        Fate::Dies {
            after: strike.after,
        }
    }
}

impl crate::fault::Struck for Endpoint {
    fn writes(&self) -> u64 {
        self.state.lock().strike.as_ref().map_or(0, |s| s.writes)
    }

    fn struck(&self) -> bool {
        self.state.lock().strike.as_ref().is_some_and(|s| s.dead)
    }
}
