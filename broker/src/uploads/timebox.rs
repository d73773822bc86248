//! Open segments whose committed part may not wait for the segment to close: topics that bound what the bucket
//! lacks of them.
//!
//! Many quiet partitions should share one object and one commit, so all that have waited for half of their
//! time go as soon as one of them is due.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use whimbrel_fleet::{TopicPartition, topic_config::UPLOAD_WITHIN};

use super::slice;
use crate::{catalog::Catalog, partition::Partition};

/// The share of its time after which a partition is due: an eighth is left for the upload itself.
const DUE: (i64, i64) = (7, 8);
/// The share after which it goes along with another one.
const ALONG: (i64, i64) = (1, 2);

/// When the oldest record was appended that is in no bucket; read from disk once for every such record.
#[derive(Debug, Default)]
pub struct Ages {
    oldest: Mutex<HashMap<TopicPartition, (i64, i64)>>,
}

impl Ages {
    /// Append time of the record at `offset`.
    pub fn of(&self, partition: &Partition, offset: i64) -> Option<i64> {
        let known = self.oldest.lock().get(&partition.at).copied();
        if let Some((_, append_ms)) = known.filter(|(of, _)| *of == offset) {
            return Some(append_ms);
        }
        let append_ms = partition.log.appended_by(offset)?;
        self.oldest.lock().insert(partition.at, (offset, append_ms));
        Some(append_ms)
    }

    /// Partitions that are gone are not remembered.
    pub fn keep(&self, catalog: &Catalog) {
        self.oldest
            .lock()
            .retain(|at, _| catalog.local(*at).is_some());
    }
}

/// Partitions with something to upload from their open segment now, with the end of what the bucket holds.
pub fn due(
    catalog: &Catalog,
    ages: &Ages,
    ends: impl Fn(&Partition) -> i64,
    now_ms: i64,
) -> Vec<(Arc<Partition>, i64)> {
    let (mut along, mut is_due) = (Vec::new(), false);
    for partition in catalog.partitions() {
        let Some(within_ms) = within_ms(catalog, partition) else {
            continue;
        };
        let from = ends(partition).max(partition.log.offsets().local_log_start);
        if slice::limit(partition).is_none_or(|limit| from >= limit) {
            continue;
        }
        let Some(append_ms) = ages.of(partition, from) else {
            continue;
        };
        let age_ms = now_ms.saturating_sub(append_ms);
        is_due |= age_ms >= share(within_ms, DUE);
        if age_ms >= share(within_ms, ALONG) {
            along.push((Arc::clone(partition), from));
        }
    }
    if is_due { along } else { Vec::new() }
}

/// The bound of the partition's topic, if it has one.
pub fn within_ms(catalog: &Catalog, partition: &Partition) -> Option<i64> {
    let topic = catalog.topic_by_id(partition.at.topic_id)?;
    let value = topic.configs.get(UPLOAD_WITHIN)?;
    value.parse().ok().filter(|ms| *ms > 0)
}

fn share(whole_ms: i64, (part, of): (i64, i64)) -> i64 {
    whole_ms / of * part + whole_ms % of * part / of
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_exact_and_do_not_overflow() {
        assert_eq!(share(3_600_000, DUE), 3_150_000);
        assert_eq!(share(1, ALONG), 0);
        assert_eq!(share(15, DUE), 13);
        assert!(share(i64::MAX, DUE) > i64::MAX / 2);
    }
}
