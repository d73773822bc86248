//! Two values at one offset of one lineage, by whatever was read or acknowledged there.

use std::collections::{BTreeMap, BTreeSet};

use super::Evidence;
use crate::history::{Key, Value};

pub(super) fn check(evidence: &Evidence<'_>) -> Vec<String> {
    let mut seen: BTreeMap<(Option<usize>, &Key, i64), BTreeSet<Value>> = BTreeMap::new();
    for record in &evidence.history.final_read {
        seen.entry((None, &record.key, record.offset))
            .or_default()
            .insert(record.value);
    }
    for poll in &evidence.history.polls {
        let lineage = evidence.lineage(&poll.key, poll.offset, poll.value, poll.at_ns);
        seen.entry((lineage, &poll.key, poll.offset))
            .or_default()
            .insert(poll.value);
    }
    for (send, offset) in evidence.history.acked() {
        let lineage = evidence.lineage(&send.key, offset, send.value, send.invoked_ns);
        seen.entry((lineage, &send.key, offset))
            .or_default()
            .insert(send.value);
    }
    seen.into_iter()
        .filter(|(_, values)| values.len() > 1)
        .map(|((_, key, offset), values)| {
            format!(
                "values {values:?} at offset {offset} of {}-{}",
                key.topic, key.partition
            )
        })
        .collect()
}
