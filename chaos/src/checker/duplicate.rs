//! One value at two offsets: a retry of an idempotent producer was appended again.

use super::Evidence;

pub(super) fn check(evidence: &Evidence<'_>) -> Vec<String> {
    let mut found: Vec<String> = evidence
        .places
        .iter()
        .filter(|(_, offsets)| offsets.len() > 1)
        .map(|((key, value), offsets)| {
            format!(
                "value {value} stands at offsets {offsets:?} of {}-{}",
                key.topic, key.partition
            )
        })
        .collect();
    found.sort();
    found
}
