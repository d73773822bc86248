//! How far the copies of a fleet that is filled from a bucket are. Pure.

use whimbrel_fleet::{TopicPartition, restore::Progress};

use crate::{positions::Reports, state::State};

/// So many partitions that are not there are named.
const NAMED: usize = 5;

/// A partition is there when all its copies on live brokers of the region reach the plan's end, by their reports.
pub(crate) fn progress(state: &State, reports: &Reports) -> Progress {
    let view = &state.view;
    let mut progress = Progress {
        restore: view.restore.clone(),
        ended: state.restored.clone(),
        groups: view.groups.keys().cloned().collect(),
        ..Progress::default()
    };
    let Some(restoring) = &state.restoring else {
        return progress;
    };
    progress.to = restoring.to.clone();
    for topic in view.topics.values() {
        for (number, partition) in (0_i32..).zip(&topic.partitions) {
            let at = TopicPartition::new(topic.id, number);
            let (log_start, end) = restoring.log(at);
            let copies = partition.replicas.get(&restoring.to);
            let live = copies.into_iter().flatten().filter(|n| view.is_live(**n));
            let ends = live.map(|node| Some(reports.get(node)?.partitions.get(&at)?.end_offset));
            // `None` is less than any, and nothing at all as little.
            let furthest_behind = ends.min().flatten();
            let length = end.saturating_sub(log_start);
            let filled = furthest_behind.map_or(0, |at| at.saturating_sub(log_start));
            let count = |offsets: i64| u64::try_from(offsets).unwrap_or(0);
            progress.partitions += 1;
            progress.offsets = progress.offsets.saturating_add(count(length));
            let filled = count(filled.min(length));
            progress.offsets_there = progress.offsets_there.saturating_add(filled);
            if furthest_behind == Some(end) {
                progress.there += 1;
            } else if progress.behind.len() < NAMED {
                progress.behind.push((at, end, furthest_behind));
            }
        }
    }
    progress
}

#[cfg(test)]
mod tests;
