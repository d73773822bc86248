//! Open segments whose committed part may not wait for the segment to close: topics that bound what the bucket
//! lacks of them.
//!
//! Many quiet partitions should share one object and one commit, so all that have waited for half of their
//! time go as soon as one of them is due.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use whimbrel_fleet::{GroupName, Topic, TopicPartition, View, topic_config::UPLOAD_WITHIN};

use super::slice;
use crate::{catalog::Catalog, partition::Partition};

/// Bound of an internal topic for which nobody has set one. Without any, positions, transactions and cuts would go up
/// when their segment closes, and that is as far back as a restore would go. An hour of all of them costs sixteen shards'
/// objects and swaps, as a group's other topics with this bound do, and they share those.
const INTERNAL_MS: i64 = 3_600_000;

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
    bounds: &Bounds<'_>,
    ages: &Ages,
    ends: impl Fn(&Partition) -> i64,
    now_ms: i64,
) -> Vec<(Arc<Partition>, i64)> {
    let (mut along, mut is_due) = (Vec::new(), false);
    for partition in catalog.partitions() {
        let topic = catalog.topic_by_id(partition.at.topic_id);
        let Some(within_ms) = topic.and_then(|topic| bounds.within_ms(topic)) else {
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

/// How long committed records of a topic may be in no bucket.
#[derive(Debug)]
pub struct Bounds<'a> {
    /// The shortest that anybody has set on an ordinary topic of the group.
    shortest: HashMap<&'a GroupName, i64>,
}

impl<'a> Bounds<'a> {
    pub fn of(view: &'a View) -> Self {
        let mut shortest = HashMap::new();
        for topic in view.topics.values().filter(|topic| !topic.internal) {
            if let Some(own) = own(topic).filter(|ms| *ms > 0) {
                let of_group = shortest.entry(&topic.group).or_insert(own);
                *of_group = own.min(*of_group);
            }
        }
        Self { shortest }
    }

    /// The topic's own. An internal one without it follows the group's other topics: what they hold comes back no further than
    /// positions and cuts do.
    pub fn within_ms(&self, topic: &Topic) -> Option<i64> {
        let own = own(topic);
        if own.is_none() && topic.internal {
            let shortest = self.shortest.get(&topic.group).copied();
            return Some(shortest.map_or(INTERNAL_MS, |ms| ms.min(INTERNAL_MS)));
        }
        own.filter(|ms| *ms > 0)
    }
}

/// What was set, -1 for none.
fn own(topic: &Topic) -> Option<i64> {
    topic.configs.get(UPLOAD_WITHIN)?.parse().ok()
}

fn share(whole_ms: i64, (part, of): (i64, i64)) -> i64 {
    whole_ms / of * part + whole_ms % of * part / of
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str, group: &str, within: Option<&str>) -> Topic {
        let within = within.map(|ms| (UPLOAD_WITHIN.to_owned(), ms.to_owned()));
        Topic {
            name: name.into(),
            id: uuid::Uuid::nil(),
            group: group.into(),
            partitions: Vec::new(),
            replication_factor: 1,
            internal: name.starts_with("__"),
            configs: within.into_iter().collect(),
        }
    }

    #[test]
    fn internal_topics_are_no_later_than_the_soonest_of_their_group() {
        let mut view = View::default();
        for (name, group, within) in [
            ("a", "default", Some("7200000")),
            ("b", "quick", Some("9000000")),
            ("c", "quick", Some("5000")),
            ("d", "quick", Some("-1")),
            ("e", "quick", None),
        ] {
            let topic = topic(name, group, within);
            view.topics.insert(name.into(), topic);
        }
        let bounds = Bounds::of(&view);
        for (name, group, own, within_ms) in [
            ("t", "quick", None, None),
            ("t", "quick", Some("-1"), None),
            ("t", "quick", Some("60"), Some(60)),
            ("__t", "quick", None, Some(5_000)),
            ("__t", "quick", Some("60"), Some(60)),
            ("__t", "quick", Some("-1"), None),
            ("__t", "default", None, Some(INTERNAL_MS)),
            ("__t", "bare", None, Some(INTERNAL_MS)),
        ] {
            let found = bounds.within_ms(&topic(name, group, own));
            assert_eq!(found, within_ms, "{name} {group} {own:?}");
        }
    }

    #[test]
    fn shares_are_exact_and_do_not_overflow() {
        assert_eq!(share(3_600_000, DUE), 3_150_000);
        assert_eq!(share(1, ALONG), 0);
        assert_eq!(share(15, DUE), 13);
        assert!(share(i64::MAX, DUE) > i64::MAX / 2);
    }
}
