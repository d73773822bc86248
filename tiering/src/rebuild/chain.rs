//! Which objects follow on a partition's end, decided from offsets and epochs alone. Pure.

use std::collections::BTreeMap;

use whimbrel_fleet::{EpochStart, TopicPartition};

use super::{LeftOut, candidate::Candidate};
use crate::{
    format::Keys,
    root::{Commit, Entry, Partition, Root, Stamp},
};

/// What the broker says of the partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    pub log_start: i64,
    pub lineage: Vec<EpochStart>,
}

/// Takes off the front what retention has deleted since the root was kept: not in the bucket, and wholly below
/// the log's start. Anything else that is missing stays named, as damage.
pub(super) fn drop_deleted(
    partition: &mut Partition,
    log: Option<&Log>,
    here: impl Fn(&Entry) -> bool,
) {
    let Some(log) = log else {
        return;
    };
    let gone = partition
        .entries
        .iter()
        .take_while(|e| !here(e) && e.end <= log.log_start)
        .count();
    partition.entries.drain(..gone);
    if log.log_start <= partition.end {
        partition.log_start = partition.log_start.max(log.log_start);
    }
}

/// Appends the candidates that continue the partition, best first where several begin at its end: the newest
/// lineage, then the newest writer. Returns those that do not fit.
pub(super) fn extend(
    partition: &mut Partition,
    mut candidates: Vec<Candidate>,
    log: Option<&Log>,
) -> Vec<LeftOut> {
    let mut left = Vec::new();
    let epochs = epoch_starts(partition, &candidates, log);
    clip_entries(partition, &epochs);
    candidates.sort_by_key(|c| {
        let e = &c.entry;
        (
            e.base,
            std::cmp::Reverse((e.leader_epoch, e.writer_epoch, e.object_end)),
        )
    });
    for mut candidate in candidates {
        let begun = !partition.topic.is_empty();
        let entry = &mut candidate.entry;
        entry.end = entry.end.min(dead_from(&epochs, entry.leader_epoch));
        let why = if entry.end <= entry.base {
            Some("a later epoch began below it".to_owned())
        } else if log.is_some_and(|log| entry.end <= log.log_start) {
            Some("it lies below the log's start".to_owned())
        } else if begun && entry.base < partition.end {
            Some(format!(
                "the partition holds up to {} without it",
                partition.end
            ))
        } else if begun && entry.base > partition.end {
            Some(format!("nothing holds {}..{}", partition.end, entry.base))
        } else {
            append(partition, &candidate).err()
        };
        if let Some(why) = why {
            let entry = &candidate.entry;
            left.push(LeftOut {
                object: candidate.object,
                why,
                range: Some((candidate.at, entry.base, entry.object_end)),
            });
        }
    }
    left
}

/// Where each epoch that anybody knows of began.
fn epoch_starts(
    partition: &Partition,
    candidates: &[Candidate],
    log: Option<&Log>,
) -> BTreeMap<i32, i64> {
    let mut starts = BTreeMap::new();
    let told = log.map(|log| log.lineage.as_slice()).unwrap_or_default();
    let all = candidates.iter().flat_map(|c| &c.lineage);
    for start in partition.lineage.iter().chain(told).chain(all) {
        let known = starts.entry(start.epoch).or_insert(start.start_offset);
        *known = (*known).min(start.start_offset);
    }
    starts
}

/// The offset from which nothing of `epoch` counts any more.
fn dead_from(epochs: &BTreeMap<i32, i64>, epoch: i32) -> i64 {
    let later = epochs.range(epoch.saturating_add(1)..);
    later.map(|(_, start)| *start).min().unwrap_or(i64::MAX)
}

/// A later epoch that began inside what the kept root names has truncated it.
fn clip_entries(partition: &mut Partition, epochs: &BTreeMap<i32, i64>) {
    partition.entries.retain_mut(|entry| {
        entry.end = entry.end.min(dead_from(epochs, entry.leader_epoch));
        entry.end > entry.base
    });
    let end = partition.entries.last().map_or(partition.end, |e| e.end);
    if end < partition.end {
        partition.end = end;
        partition.lineage.retain(|e| e.start_offset < end);
    }
}

/// The same checks as for an upload: the root's own commit decides.
fn append(partition: &mut Partition, candidate: &Candidate) -> Result<(), String> {
    let at = TopicPartition::new(uuid::Uuid::nil(), 0);
    let stamp = Stamp {
        incarnation: uuid::Uuid::nil(),
        epoch: 0,
        sequence: 0,
        nonce: uuid::Uuid::nil(),
    };
    let mut root = Root::empty(stamp, "", 0, 1, 0);
    if !partition.topic.is_empty() {
        root.partitions.insert(at, partition.clone());
    }
    let mut lineage = candidate.lineage.clone();
    lineage.retain(|e| e.start_offset < candidate.entry.end);
    let commit = Commit {
        at,
        topic: candidate.topic.clone(),
        group: candidate.group.clone(),
        region_epoch: candidate.region_epoch,
        log_start: partition.log_start,
        lineage,
        entry: candidate.entry,
    };
    root.commit(&Keys::new("x"), &commit, 0)
        .map_err(|e| e.to_string())?;
    if let Some(done) = root.partitions.remove(&at) {
        *partition = done;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(base: i64, end: i64, epoch: i32, start: i64) -> Candidate {
        Candidate {
            at: TopicPartition::new(uuid::Uuid::nil(), 0),
            object: format!("{base}-{end}-{epoch}"),
            topic: "t".to_owned(),
            group: "default".to_owned(),
            region_epoch: 1,
            lineage: vec![EpochStart {
                epoch,
                start_offset: start,
            }],
            entry: Entry {
                leader_epoch: epoch,
                ..Entry::sample(base, end)
            },
        }
    }

    fn bounds(partition: &Partition) -> Vec<(i64, i64)> {
        partition.entries.iter().map(|e| (e.base, e.end)).collect()
    }

    #[test]
    fn objects_follow_one_another_and_a_gap_ends_them() {
        let mut partition = Partition::default();
        let all = vec![
            candidate(20, 30, 1, 0),
            candidate(0, 10, 1, 0),
            candidate(10, 20, 1, 0),
            candidate(40, 50, 1, 0),
        ];
        let left = extend(&mut partition, all, None);
        assert_eq!(bounds(&partition), [(0, 10), (10, 20), (20, 30)]);
        assert_eq!(left.len(), 1);
        assert!(left[0].why.contains("nothing holds 30..40"), "{left:?}");
    }

    #[test]
    fn the_tail_of_a_lost_epoch_is_clipped_where_the_next_began() {
        let mut partition = Partition::default();
        let all = vec![
            candidate(0, 100, 1, 0),
            candidate(100, 200, 1, 0),
            candidate(150, 250, 3, 150),
            candidate(200, 300, 1, 0),
        ];
        let left = extend(&mut partition, all, None);
        assert_eq!(bounds(&partition), [(0, 100), (100, 150), (150, 250)]);
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].object, "200-300-1");
        assert_eq!(partition.end, 250);
    }

    #[test]
    fn the_log_tells_of_epochs_that_the_bucket_has_nothing_of() {
        let mut partition = Partition::default();
        let log = Log {
            log_start: 10,
            lineage: vec![
                EpochStart {
                    epoch: 1,
                    start_offset: 0,
                },
                EpochStart {
                    epoch: 4,
                    start_offset: 35,
                },
            ],
        };
        let all = vec![
            candidate(0, 10, 1, 0),
            candidate(10, 30, 1, 0),
            candidate(30, 60, 1, 0),
        ];
        let left = extend(&mut partition, all, Some(&log));
        assert_eq!(bounds(&partition), [(10, 30), (30, 35)]);
        assert_eq!(left.len(), 1);
    }

    #[test]
    fn what_retention_deleted_goes_and_what_is_missing_otherwise_stays_named() {
        let mut partition = Partition::default();
        let all = vec![
            candidate(0, 10, 1, 0),
            candidate(10, 20, 1, 0),
            candidate(20, 30, 1, 0),
        ];
        extend(&mut partition, all, None);
        let log = Log {
            log_start: 10,
            lineage: Vec::new(),
        };
        drop_deleted(&mut partition, Some(&log), |e| e.base == 20);
        assert_eq!(bounds(&partition), [(10, 20), (20, 30)]);
        assert_eq!(partition.log_start, 10);
    }
}
