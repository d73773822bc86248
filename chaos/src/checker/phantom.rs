//! A record was read that nobody wrote there, or whose write was refused for certain.

use std::collections::{BTreeSet, HashMap};

use super::Evidence;
use crate::history::{Key, Outcome, Value};

pub(super) fn check(evidence: &Evidence<'_>) -> Vec<String> {
    let outcomes: HashMap<(&Key, Value), &Outcome> = evidence
        .history
        .sends
        .iter()
        .map(|s| ((&s.key, s.value), &s.outcome))
        .collect();
    let read = evidence
        .history
        .final_read
        .iter()
        .map(|r| (&r.key, r.value));
    let polled = evidence.history.polls.iter().map(|p| (&p.key, p.value));
    let seen: BTreeSet<(&Key, Value)> = read.chain(polled).collect();
    seen.into_iter()
        .filter_map(|(key, value)| {
            let why = match outcomes.get(&(key, value)) {
                None => "was written by nobody".to_owned(),
                Some(Outcome::Refused { why }) => format!("was refused ({why})"),
                Some(_) => return None,
            };
            Some(format!(
                "value {value} of {}-{} was read and {why}",
                key.topic, key.partition
            ))
        })
        .collect()
}
