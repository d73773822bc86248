//! What an examination of a store asked and found, line by line.

use serde::Serialize;

use super::{Capabilities, ProbeError};

/// One thing that is asked of a store, in the order of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asked {
    Options,
    Create,
    CreatePresent,
    SwapMissing,
    Swap,
    SwapOld,
    ReadSwapped,
    OneWinner,
    Stream,
    Checksum,
    Copy,
    Delete,
}

impl Asked {
    const ALL: [Self; 12] = [
        Self::Options,
        Self::Create,
        Self::CreatePresent,
        Self::SwapMissing,
        Self::Swap,
        Self::SwapOld,
        Self::ReadSwapped,
        Self::OneWinner,
        Self::Stream,
        Self::Checksum,
        Self::Copy,
        Self::Delete,
    ];

    /// What a good store does.
    pub fn what(self) -> &'static str {
        match self {
            Self::Options => "the bucket has what its URL asks for",
            Self::Create => "If-None-Match on a free key: written",
            Self::CreatePresent => "If-None-Match on a present key: refused",
            Self::SwapMissing => "If-Match on a missing key: refused",
            Self::Swap => "If-Match with the right version: written",
            Self::SwapOld => "If-Match with an old version: refused",
            Self::ReadSwapped => "a swapped object reads as it was written",
            Self::OneWinner => "of eight concurrent swaps one wins",
            Self::Stream => "a streamed object reads as it was written",
            Self::Checksum => "the checksum of an upload is compared, and HEAD tells it",
            Self::Copy => "an object is copied inside the store",
            Self::Delete => "a deleted object is gone",
        }
    }

    /// What is done where the store does not do it and that can be lived with.
    fn instead(self) -> &'static str {
        match self {
            Self::Checksum => "every upload is read back whole before it counts",
            Self::Copy => "what is needed a second time is read and sent again",
            Self::Delete => {
                "what is unlinked stays in the bucket until it can be deleted; nothing else waits for that"
            }
            _ => "",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "found")]
pub enum Answer {
    Yes,
    /// It does not, and the daemon does without.
    Fallback {
        why: String,
        instead: &'static str,
    },
    /// It does not, and the daemon refuses to use it.
    Refused {
        why: String,
    },
    /// It was not told: the store did not answer, or not us.
    Failed {
        why: String,
    },
    /// What came before it failed.
    Unasked,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub asked: Asked,
    pub what: &'static str,
    #[serde(flatten)]
    pub answer: Answer,
}

#[derive(Debug)]
pub struct Report {
    pub findings: Vec<Finding>,
    pub capabilities: Capabilities,
    /// Why the store cannot be used.
    pub failure: Option<ProbeError>,
}

impl Report {
    pub(super) fn new() -> Self {
        let unasked = |asked: Asked| Finding {
            asked,
            what: asked.what(),
            answer: Answer::Unasked,
        };
        Self {
            findings: Asked::ALL.into_iter().map(unasked).collect(),
            capabilities: Capabilities::default(),
            failure: None,
        }
    }

    /// `None` while it was not asked.
    pub fn answer(&self, asked: Asked) -> Option<&Answer> {
        let found = self.findings.iter().find(|f| f.asked == asked);
        found
            .map(|f| &f.answer)
            .filter(|answer| **answer != Answer::Unasked)
    }

    fn set(&mut self, asked: Asked, answer: Answer) {
        if let Some(finding) = self.findings.iter_mut().find(|f| f.asked == asked) {
            finding.answer = answer;
        }
    }

    /// Something that the daemon cannot do without.
    pub(super) fn step<T>(
        &mut self,
        asked: Asked,
        done: Result<T, ProbeError>,
    ) -> Result<T, ProbeError> {
        let named = |why: String| format!("{}: {why}", asked.what());
        match done {
            Ok(value) => {
                self.set(asked, Answer::Yes);
                Ok(value)
            }
            Err(ProbeError::NoSwap(why)) => {
                self.set(asked, Answer::Refused { why: why.clone() });
                Err(ProbeError::NoSwap(named(why)))
            }
            Err(ProbeError::Unsound(why)) => {
                self.set(asked, Answer::Refused { why: why.clone() });
                Err(ProbeError::Unsound(why))
            }
            Err(error @ ProbeError::Store(_)) => {
                let why = error.to_string();
                self.set(asked, Answer::Failed { why });
                Err(error)
            }
        }
    }

    /// Something that it can do without, and why it has to.
    pub(super) fn or_fallback(&mut self, asked: Asked, why: Option<String>) {
        let answer = why.map_or(Answer::Yes, |why| Answer::Fallback {
            why,
            instead: asked.instead(),
        });
        self.set(asked, answer);
    }

    pub(super) fn end(&mut self, done: Result<(), ProbeError>) {
        self.failure = done.err();
    }

    pub(super) fn into_capabilities(self) -> Result<Capabilities, ProbeError> {
        match self.failure {
            Some(error) => Err(error),
            None => Ok(self.capabilities),
        }
    }
}
