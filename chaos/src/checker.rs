//! The history checker: one file per thing that must not be, each a pure function over the same evidence.
//!
//! The checks follow the workload of Jepsen's Kafka tests in spirit, and add what a fleet with several regions
//! promises: a loss within the bound that was stated, and no acknowledgement from an old epoch or after a
//! lease's end. They are conservative: what the history cannot prove is no violation. In particular, records
//! at or above the offset where a lossy move went on belong to a lineage that ended, and are judged there.

mod duplicate;
mod evidence;
mod inconsistent_offset;
mod late_ack;
mod loss_beyond_bound;
mod lost_write;
mod nonmonotonic_poll;
mod old_epoch_ack;
mod phantom;
mod poll_skip;

use std::fmt;

use crate::History;
use evidence::Evidence;

/// A proof, in words, that something happened which must not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub check: &'static str,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.what)
    }
}

type Check = fn(&Evidence<'_>) -> Vec<String>;

const CHECKS: &[(&str, Check)] = &[
    ("lost-write", lost_write::check),
    ("loss-beyond-bound", loss_beyond_bound::check),
    ("duplicate", duplicate::check),
    ("inconsistent-offset", inconsistent_offset::check),
    ("nonmonotonic-poll", nonmonotonic_poll::check),
    ("poll-skip", poll_skip::check),
    ("phantom", phantom::check),
    ("old-epoch-ack", old_epoch_ack::check),
    ("late-ack", late_ack::check),
];

/// Everything that is wrong with a history.
pub fn check(history: &History) -> Vec<Violation> {
    let evidence = Evidence::new(history);
    CHECKS
        .iter()
        .flat_map(|(name, run)| {
            run(&evidence)
                .into_iter()
                .map(|what| Violation { check: name, what })
        })
        .collect()
}

/// Acknowledged records that cannot be read afterwards.
pub fn lost(history: &History) -> u64 {
    Evidence::new(history).missing().count() as u64
}

#[cfg(test)]
mod tests;
