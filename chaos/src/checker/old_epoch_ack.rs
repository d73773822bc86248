//! A region acknowledged a record that was sent to it after another region had become the home.

use super::Evidence;

pub(super) fn check(evidence: &Evidence<'_>) -> Vec<String> {
    let promotions = &evidence.history.promotions;
    evidence
        .history
        .acked()
        .filter_map(|(send, offset)| Some((send, offset, send.region.as_deref()?)))
        .filter_map(|(send, offset, region)| {
            let home = promotions.iter().rev().find(|p| p.done_ns < send.invoked_ns)?;
            let returns = promotions.iter().any(|p| p.epoch > home.epoch && p.to == region && p.asked_ns <= send.completed_ns);
            (home.to != region && !returns).then(|| {
                format!(
                    "{region} acknowledged value {} at {}-{} offset {offset} although {} was home in epoch {}",
                    send.value, send.key.topic, send.key.partition, home.to, home.epoch
                )
            })
        })
        .collect()
}
