//! What compaction has left since a root was kept, in the place of objects that it deleted. Pure.

use super::candidate::Candidate;
use crate::root::{Entry, Partition, codec::check_partition};

/// Where entries are missing and candidates cover the same offsets from the first entry on, those take the place of the
/// entries, up to the last end that both have and that is behind something that is missing: compaction replaces all
/// from the beginning by one swap, so nothing of an earlier cleaning may stand between. What is taken leaves
/// `candidates`.
pub(super) fn take(
    partition: &mut Partition,
    candidates: &mut Vec<Candidate>,
    here: impl Fn(&Entry) -> bool,
) {
    let Some((old, new)) = found(partition, candidates, here) else {
        return;
    };
    let mut next = partition.clone();
    let taken = new.iter().map(|n| candidates[*n].entry);
    next.entries.splice(..old, taken);
    if let Err(reason) = check_partition(&next) {
        tracing::warn!(%reason, "what compaction left does not fit in the place of what is missing");
        return;
    }
    *partition = next;
    let mut n = 0;
    candidates.retain(|_| {
        n += 1;
        !new.contains(&(n - 1))
    });
}

/// How many entries go, and which candidates come, in order.
fn found(
    partition: &Partition,
    candidates: &[Candidate],
    here: impl Fn(&Entry) -> bool,
) -> Option<(usize, Vec<usize>)> {
    let entries = &partition.entries;
    let missing: Vec<bool> = entries.iter().map(|entry| !here(entry)).collect();
    if !missing.contains(&true) || !partition.runs.is_empty() {
        return None;
    }
    let first = entries.first()?.base;
    let (mut chain, mut best) = (Vec::new(), None);
    // What was deleted from the front since, compaction may still have.
    let (mut end, mut replaced) = (first, 0);
    loop {
        let follows = |entry: &Entry| {
            let is_next = if chain.is_empty() {
                entry.base <= first && entry.end > first
            } else {
                entry.base == end
            };
            is_next
                && entry.end > end
                && partition.epoch_of(entry.end.saturating_sub(1)) == Some(entry.leader_epoch)
        };
        let all = candidates.iter().enumerate();
        let next = all
            .filter(|(_, c)| follows(&c.entry))
            .max_by_key(|(_, c)| (c.entry.writer_epoch, c.entry.created_ms, c.entry.end));
        let Some((n, candidate)) = next else {
            return best;
        };
        chain.push(n);
        end = candidate.entry.end;
        let both = entries.iter().position(|entry| entry.end == end);
        if let Some(last) = both
            && missing[replaced..=last].contains(&true)
        {
            replaced = last + 1;
            best = Some((replaced, chain.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_fleet::{EpochStart, TopicPartition};

    use super::*;

    fn entry(base: i64, end: i64, random: u64) -> Entry {
        Entry {
            writer_epoch: random,
            random,
            records: 5,
            ..Entry::sample(base, end)
        }
    }

    fn candidate(base: i64, end: i64, random: u64) -> Candidate {
        Candidate {
            at: TopicPartition::new(uuid::Uuid::nil(), 0),
            object: format!("{base}-{end}-{random}"),
            topic: "t".to_owned(),
            group: "default".to_owned(),
            region_epoch: 1,
            lineage: Vec::new(),
            entry: entry(base, end, random),
        }
    }

    /// 0..40 in four, written by 1.
    fn partition() -> Partition {
        Partition {
            topic: "t".to_owned(),
            end: 40,
            lineage: vec![EpochStart {
                epoch: 1,
                start_offset: 0,
            }],
            entries: (0..4).map(|n| entry(n * 10, n * 10 + 10, 1)).collect(),
            ..Partition::default()
        }
    }

    /// What `partition` holds after it took of `candidates` what it could, where entries with a base in `gone` are
    /// missing; and the number of candidates that are left.
    fn taken(
        mut partition: Partition,
        mut candidates: Vec<Candidate>,
        gone: &[i64],
    ) -> (Vec<(i64, i64, u64)>, usize) {
        take(&mut partition, &mut candidates, |e| {
            e.writer_epoch != 1 || !gone.contains(&e.base)
        });
        let entries = partition.entries.iter();
        let entries = entries.map(|e| (e.base, e.end, e.random)).collect();
        (entries, candidates.len())
    }

    const AS_IT_WAS: [(i64, i64, u64); 4] = [(0, 10, 1), (10, 20, 1), (20, 30, 1), (30, 40, 1)];

    #[test]
    fn what_compaction_left_takes_the_place_of_what_it_deleted() {
        let new = || vec![candidate(0, 30, 2)];
        let (entries, left) = taken(partition(), new(), &[0, 10, 20]);
        assert_eq!(entries, [(0, 30, 2), (30, 40, 1)]);
        assert_eq!(left, 0);
        // One of them is deleted already, or the newer of two cleanings is there too.
        assert_eq!(taken(partition(), new(), &[10]).0, entries);
        let two = vec![
            candidate(0, 20, 2),
            candidate(0, 20, 3),
            candidate(20, 30, 3),
        ];
        let (entries, left) = taken(partition(), two, &[0, 10, 20]);
        assert_eq!(entries, [(0, 20, 3), (20, 30, 3), (30, 40, 1)]);
        assert_eq!(left, 1);
    }

    #[test]
    fn what_is_there_stays_and_what_does_not_fit_is_left() {
        let all = (AS_IT_WAS.to_vec(), 1);
        assert_eq!(taken(partition(), vec![candidate(0, 30, 2)], &[]), all);
        // It does not cover what is missing, does not begin at the beginning, or ends within an object.
        assert_eq!(taken(partition(), vec![candidate(0, 20, 2)], &[20]), all);
        assert_eq!(taken(partition(), vec![candidate(10, 30, 2)], &[10]), all);
        assert_eq!(taken(partition(), vec![candidate(0, 25, 2)], &[0]), all);
        let mut of_another_lineage = candidate(0, 30, 2);
        of_another_lineage.entry.leader_epoch = 2;
        assert_eq!(taken(partition(), vec![of_another_lineage], &[0]), all);
    }

    #[test]
    fn what_retention_took_off_the_front_is_no_hindrance() {
        let mut partition = partition();
        partition.entries.remove(0);
        partition.log_start = 12;
        let (entries, left) = taken(partition, vec![candidate(0, 30, 2)], &[10, 20]);
        assert_eq!(entries, [(0, 30, 2), (30, 40, 1)]);
        assert_eq!(left, 0);
    }
}
