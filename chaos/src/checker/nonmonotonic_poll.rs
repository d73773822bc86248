//! A consumer that nobody moved was given an offset at or below one that it had before. After a lossy move it
//! may go back to where the move went on, and no further.

use super::Evidence;

pub(super) fn check(evidence: &Evidence<'_>) -> Vec<String> {
    evidence
        .steps()
        .into_iter()
        .filter(|step| step.after.offset < step.lowest)
        .map(|s| {
            let (process, key) = (&s.after.process, &s.after.key);
            format!(
                "{process} was given offset {} of {}-{} after {}",
                s.after.offset, key.topic, key.partition, s.before.offset
            )
        })
        .collect()
}
