//! A root that spills after every edit is the same root as one that never does.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use uuid::Uuid;
use whimbrel_fleet::{EpochStart, TopicPartition};

use super::*;
use crate::{
    format::Key,
    root::{Commit, Merged, Stamp},
};

fn at(n: u8) -> TopicPartition {
    TopicPartition::new(Uuid::from_u128(1 + u128::from(n)), 0)
}

fn keys() -> Keys {
    Keys::new("east")
}

fn empty() -> Root {
    let stamp = Stamp {
        incarnation: Uuid::from_u128(9),
        epoch: 1,
        sequence: 1,
        nonce: Uuid::from_u128(3),
    };
    Root::empty(stamp, "east", 0, 16, 5)
}

/// Every other object is shared by what was committed in the same step of any partition.
fn commit(of: u8, base: i64, end: i64, epoch: i32, step: u64) -> Commit {
    let merged = step.is_multiple_of(2).then_some(Merged {
        position: 100 * u64::from(of),
        object_data_bytes: 900,
    });
    Commit {
        at: at(of),
        topic: "t".into(),
        group: "default".into(),
        region_epoch: 1,
        log_start: 0,
        lineage: vec![EpochStart {
            epoch,
            start_offset: base,
        }],
        entry: Entry {
            leader_epoch: epoch,
            // Two steps in a row of even number share one object.
            random: step / 4,
            object_bytes: 1_000,
            data_bytes: if merged.is_some() { 100 } else { 900 },
            records: 1,
            max_timestamp_ms: base,
            crc64: step,
            merged,
            ..Entry::sample(base, end)
        },
    }
}

#[derive(Default)]
struct Parts(BTreeMap<PartName, Vec<u8>>);

impl Parts {
    fn read(&self, runs: &[Run]) -> Vec<(Run, Vec<Entry>)> {
        let one = |run: &Run| {
            let from = usize::try_from(run.position).unwrap();
            let to = from + usize::try_from(run.length).unwrap();
            (*run, run.decode(&self.0[&run.part][from..to]).unwrap())
        };
        runs.iter().map(one).collect()
    }

    fn spill(&mut self, root: &mut Root, random: u64) {
        for (at, runs) in root.mergeable() {
            root.unspill(&keys(), at, self.read(&runs), 0);
        }
        if let Some(spilled) = root.spill(1, random) {
            self.0.insert(spilled.name, spilled.bytes);
        }
    }

    fn back(&self, root: &mut Root, at: TopicPartition, concerns: impl Fn(&Run) -> bool) {
        let runs = root.partitions.get(&at).map(|p| p.runs.clone());
        let runs: Vec<_> = runs
            .unwrap_or_default()
            .into_iter()
            .filter(concerns)
            .collect();
        if !runs.is_empty() {
            root.unspill(&keys(), at, self.read(&runs), 0);
        }
    }
}

fn objects_of(pending: &[Unlinked]) -> BTreeSet<Key> {
    let parts = keys().part_prefix();
    let data = pending
        .iter()
        .filter(|u| !u.key.as_str().starts_with(&parts));
    data.map(|u| u.key.clone()).collect()
}

proptest! {
    #[test]
    fn spilling_changes_nothing_that_can_be_asked(
        steps in proptest::collection::vec((0_u8..8, 0_u8..3, 1_i64..60), 1..120),
    ) {
        let (mut plain, mut spilling, mut parts) = (empty(), empty(), Parts::default());
        let mut epoch = 1;
        for (step, (what, of, n)) in steps.into_iter().enumerate() {
            let (step, at) = (step as u64, at(of));
            let end = plain.partitions.get(&at).map_or(0, |p| p.end);
            match what {
                0..5 => {
                    let commit = commit(of, end, end + n, epoch, step);
                    prop_assert_eq!(plain.commit(&keys(), &commit, 0), spilling.commit(&keys(), &commit, 0));
                }
                5 => {
                    let to = (end - n).max(0);
                    let owner = plain.partitions.get(&at).and_then(|p| p.epoch_of(to - 1)).unwrap_or(-1);
                    parts.back(&mut spilling, at, |run| run.end > to);
                    let tail = plain.partitions.get(&at).and_then(|p| p.epoch_of(to.max(p.start()))).unwrap_or(-1);
                    let cut = (plain.truncate(&keys(), at, owner, to, tail), spilling.truncate(&keys(), at, owner, to, tail));
                    prop_assert_eq!(cut.0, cut.1);
                    epoch += 1;
                }
                6 => {
                    let to = (end - n).max(0);
                    let runs = spilling.partitions.get(&at).map(|p| p.runs.clone()).unwrap_or_default();
                    let runs: Vec<_> = runs.into_iter().filter(|r| r.base < to).collect();
                    spilling.trim(&keys(), at, to, &parts.read(&runs), 0);
                    plain.raise_log_start(&keys(), at, to, 0);
                    spilling.raise_log_start(&keys(), at, to, 0);
                }
                _ if n > 50 => {
                    parts.back(&mut spilling, at, |_| true);
                    prop_assert_eq!(plain.forget(&keys(), at, 0), spilling.forget(&keys(), at, 0));
                }
                _ => {}
            }
            parts.spill(&mut spilling, step);
            prop_assert_eq!(&Root::decode(&spilling.encode()).unwrap(), &spilling);
            for (at, p) in &spilling.partitions {
                let q = &plain.partitions[at];
                prop_assert_eq!((p.start(), p.end, p.bytes(), p.objects()), (q.start(), q.end, q.bytes(), q.objects()));
                let older = parts.read(&p.runs).into_iter().flat_map(|(_, entries)| entries);
                let all: Vec<_> = older.chain(p.entries.iter().copied()).collect();
                prop_assert_eq!(&all, &q.entries);
                prop_assert!(p.entries.len() <= KEEP && p.runs.len() <= 8);
            }
            prop_assert_eq!(plain.partitions.len(), spilling.partitions.len());
            prop_assert_eq!(objects_of(&plain.pending), objects_of(&spilling.pending));
            // What a run needs is never on its way out, and what none needs is.
            let needed: BTreeSet<_> = spilling.runs().map(|(_, run)| keys().root_part(&run.part)).collect();
            let leaving: BTreeSet<_> = spilling.pending.iter().map(|u| u.key.clone()).collect();
            prop_assert!(needed.is_disjoint(&leaving));
            let known = parts.0.keys().map(|name| keys().root_part(name)).filter(|k| !needed.contains(k));
            prop_assert!(known.into_iter().all(|key| leaving.contains(&key)));
        }
    }
}

#[test]
fn a_run_with_one_bit_changed_is_refused() {
    let (mut root, mut parts) = (empty(), Parts::default());
    for n in 0..5 {
        root.commit(&keys(), &commit(0, n * 10, n * 10 + 10, 1, 1), 0)
            .unwrap();
    }
    parts.spill(&mut root, 7);
    let run = root.partitions[&at(0)].runs[0];
    let (_, bytes) = parts.0.pop_first().unwrap();
    let from = usize::try_from(run.position).unwrap();
    let good = &bytes[from..from + usize::try_from(run.length).unwrap()];
    assert_eq!(run.decode(good).unwrap().len(), 3);
    for bit in 0..good.len() * 8 {
        let mut bent = good.to_vec();
        bent[bit / 8] ^= 1 << (bit % 8);
        assert!(run.decode(&bent).is_err(), "bit {bit}");
    }
    let greedy = Run {
        entries: u32::MAX,
        ..run
    };
    assert!(greedy.decode(good).is_err());
}
