//! A consumer that nobody moved passed over records that are there.

use super::Evidence;

pub(super) fn check(evidence: &Evidence<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for step in evidence.steps() {
        if step.orphan || step.after.offset <= step.resume {
            continue;
        }
        let log = evidence.log.get(&step.after.key);
        let passed = log.map_or(0, |log| log.range(step.resume..step.after.offset).count());
        if passed > 0 {
            let (process, key) = (&step.after.process, &step.after.key);
            found.push(format!(
                "{process} went from offset {} to {} of {}-{} past {passed} records",
                step.before.offset, step.after.offset, key.topic, key.partition
            ));
        }
    }
    found
}
