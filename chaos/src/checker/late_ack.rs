//! A region acknowledged a record that was sent to it after its lease had ended.

use super::Evidence;

pub(super) fn check(evidence: &Evidence<'_>) -> Vec<String> {
    let ends = &evidence.history.lease_ends;
    evidence
        .history
        .acked()
        .filter(|(send, _)| {
            let within = |end: &&crate::history::LeaseEnd| {
                end.from_ns < send.invoked_ns && send.invoked_ns < end.until_ns
            };
            ends.iter()
                .filter(within)
                .any(|end| send.region.as_deref() == Some(end.region.as_str()))
        })
        .map(|(send, offset)| {
            format!(
                "value {} at {}-{} offset {offset}, sent after the lease's end",
                send.value, send.key.topic, send.key.partition
            )
        })
        .collect()
}
