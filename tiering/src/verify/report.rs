//! What a verification found.

use serde::Serialize;

use super::Spent;

/// Problems listed; all are counted.
const LISTED: usize = 1_000;

#[derive(Clone, Debug, Default, Serialize, PartialEq)]
pub struct Report {
    pub ok: bool,
    pub partitions: u64,
    /// Objects that the roots name.
    pub objects: u64,
    pub objects_checked: u64,
    /// Objects about which the store gave no usable answer: no verdict.
    pub undecided: u64,
    /// Documents below `meta/` that were looked at.
    pub documents: u64,
    /// Of blocks that were read and compared.
    pub bytes: u64,
    /// Partitions compared with the broker's log.
    pub logs_checked: u64,
    /// Why the logs could not be compared, if they could not.
    pub logs_unknown: Option<String>,
    pub spent: Spent,
    /// The budget ended before all that was drawn had been looked at.
    pub exhausted: bool,
    pub problems: Vec<Problem>,
    pub problems_found: u64,
    /// Objects that could be, or were, made whole again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub repairs: Vec<Mended>,
}

#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Problem {
    pub code: &'static str,
    pub topic: String,
    pub partition: i32,
    pub from_offset: i64,
    /// Exclusive.
    pub to_offset: i64,
    pub object: String,
    pub what: String,
}

/// One damaged object, and where its records still are.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Mended {
    pub object: String,
    pub topic: String,
    pub partition: i32,
    pub from_offset: i64,
    pub to_offset: i64,
    /// Who has the records whole; none if nobody has.
    pub from: Option<String>,
    /// The object that holds them now.
    pub replaced_by: Option<String>,
    pub what: String,
}

impl Report {
    pub(super) fn add(&mut self, problem: Problem) {
        self.problems_found += 1;
        if self.problems.len() < LISTED {
            self.problems.push(problem);
        }
    }
}
