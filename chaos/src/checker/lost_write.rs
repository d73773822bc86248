//! An acknowledged record that cannot be read, and that no lossy move accounts for: it was acknowledged after
//! the last move, or stood below the offset where the move went on.

use super::Evidence;

pub(super) fn check(evidence: &Evidence<'_>) -> Vec<String> {
    evidence
        .missing()
        .filter(|(send, offset)| {
            evidence
                .cut_off_by(&send.key, *offset, send.invoked_ns)
                .is_none()
        })
        .map(|(send, offset)| {
            format!(
                "value {} was acknowledged at {}-{} offset {offset} and is not there",
                send.value, send.key.topic, send.key.partition
            )
        })
        .collect()
}
