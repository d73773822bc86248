//! A small model of a fleet's transactions: a coordinator with its log, partitions, and producers that begin, commit and
//! abort at once with somebody who takes cuts. What a cut leaves is brought up again as brokers do it, and looked at.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use uuid::Uuid;

use super::*;
use crate::EpochStart;

const PRODUCERS: usize = 3;
/// The first is `__consumer_offsets`.
const PARTITIONS: usize = 4;
const HOLD_MS: u64 = 12;

/// What whoever takes a cut leaves out.
#[derive(Clone, Copy, Debug, Default)]
struct Omits {
    hold: bool,
    drain: bool,
    /// Markers count as over before the record that says so.
    completion: bool,
    /// The logs of the partitions are read before the coordinator's.
    order: bool,
    /// The hold is believed to have stood.
    confirmation: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ongoing,
    Prepared { commit: bool },
    Complete,
}

#[derive(Clone, Debug)]
struct StateRecord {
    producer: usize,
    state: State,
    partitions: BTreeSet<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Record {
    Data { producer: usize, transaction: usize },
    Marker { producer: usize, commit: bool },
}

/// A transactional id at its coordinator; transactions have numbers of their own, producers always the same id and epoch.
#[derive(Clone, Debug)]
enum Life {
    Idle,
    Open {
        transaction: usize,
        partitions: BTreeSet<usize>,
    },
    Prepared {
        commit: bool,
        partitions: BTreeSet<usize>,
    },
    Marking {
        commit: bool,
        partitions: BTreeSet<usize>,
        left: BTreeSet<usize>,
    },
}

#[derive(Clone, Debug, Default)]
struct Ends {
    state: usize,
    logs: Vec<usize>,
}

#[derive(Clone, Debug)]
enum Taker {
    Rests,
    Waits { token: u64 },
    Reads { token: u64, ends: Ends },
}

struct World {
    omits: Omits,
    now_ms: u64,
    tokens: u64,
    gate: Gate,
    states: Vec<StateRecord>,
    logs: Vec<Vec<Record>>,
    producers: Vec<Life>,
    taker: Taker,
    /// Records of each transaction, by its number.
    written: Vec<BTreeMap<usize, usize>>,
    cuts: Vec<Ends>,
}

impl World {
    fn new(omits: Omits) -> Self {
        Self {
            omits,
            now_ms: 0,
            tokens: 0,
            gate: Gate::default(),
            states: Vec::new(),
            logs: vec![Vec::new(); PARTITIONS],
            producers: vec![Life::Idle; PRODUCERS],
            taker: Taker::Rests,
            written: Vec::new(),
            cuts: Vec::new(),
        }
    }

    fn step(&mut self, op: u8, choice: u8) {
        match op % 16 {
            0..=8 => self.produce(usize::from(op) % PRODUCERS, usize::from(choice)),
            9..=13 => self.take(),
            14 => self.now_ms += u64::from(choice % 8),
            _ if choice < 16 => self.restart(),
            _ => self.now_ms += 1,
        }
    }

    fn log(&mut self, producer: usize, state: State, partitions: &BTreeSet<usize>) {
        self.states.push(StateRecord {
            producer,
            state,
            partitions: partitions.clone(),
        });
    }

    fn produce(&mut self, producer: usize, choice: usize) {
        self.producers[producer] = match self.producers[producer].clone() {
            Life::Idle => {
                self.written.push(BTreeMap::new());
                Life::Open {
                    transaction: self.written.len() - 1,
                    partitions: BTreeSet::new(),
                }
            }
            Life::Open {
                transaction,
                mut partitions,
            } if !choice.is_multiple_of(3) || partitions.is_empty() => {
                let at = choice % PARTITIONS;
                if partitions.insert(at) {
                    self.log(producer, State::Ongoing, &partitions);
                }
                self.logs[at].push(Record::Data {
                    producer,
                    transaction,
                });
                *self.written[transaction].entry(at).or_default() += 1;
                Life::Open {
                    transaction,
                    partitions,
                }
            }
            Life::Open { partitions, .. } => {
                let commit = choice.is_multiple_of(2);
                self.log(producer, State::Prepared { commit }, &partitions);
                Life::Prepared { commit, partitions }
            }
            Life::Prepared { commit, partitions } => match self.gate.enter(self.now_ms) {
                Ok(()) => Life::Marking {
                    commit,
                    left: partitions.clone(),
                    partitions,
                },
                Err(_) => Life::Prepared { commit, partitions },
            },
            Life::Marking {
                commit,
                partitions,
                mut left,
            } => {
                if let Some(at) = left.pop_last() {
                    self.logs[at].push(Record::Marker { producer, commit });
                    if left.is_empty() && self.omits.completion {
                        self.gate.leave();
                    }
                    Life::Marking {
                        commit,
                        partitions,
                        left,
                    }
                } else {
                    self.log(producer, State::Complete, &BTreeSet::new());
                    if !self.omits.completion {
                        self.gate.leave();
                    }
                    Life::Idle
                }
            }
        };
    }

    /// The coordinator begins again: what is prepared is ended anew, and nobody remembers a hold.
    fn restart(&mut self) {
        self.gate = Gate::default();
        for life in &mut self.producers {
            if let Life::Marking {
                commit, partitions, ..
            } = life.clone()
            {
                *life = Life::Prepared { commit, partitions };
            }
        }
    }

    fn take(&mut self) {
        self.taker = match std::mem::replace(&mut self.taker, Taker::Rests) {
            Taker::Rests => {
                self.tokens += 1;
                let token = self.tokens;
                let until_ms = self.now_ms + HOLD_MS;
                if self.omits.hold || self.gate.hold(token, self.now_ms, until_ms) {
                    Taker::Waits { token }
                } else {
                    Taker::Rests
                }
            }
            Taker::Waits { token }
                if self.omits.drain || self.omits.hold || self.gate.is_drained() =>
            {
                Taker::Reads {
                    token,
                    ends: Ends::default(),
                }
            }
            Taker::Waits { token } => Taker::Waits { token },
            Taker::Reads { token, mut ends } if ends.logs.len() < PARTITIONS => {
                // One end a step: others go on in between.
                let first = ends.logs.is_empty();
                if first && !self.omits.order {
                    ends.state = self.states.len();
                }
                ends.logs.push(self.logs[ends.logs.len()].len());
                if ends.logs.len() == PARTITIONS && self.omits.order {
                    ends.state = self.states.len();
                }
                Taker::Reads { token, ends }
            }
            Taker::Reads { token, ends } => {
                let stood = self.gate.release(token, self.now_ms);
                if stood || self.omits.confirmation || self.omits.hold {
                    self.cuts.push(ends);
                }
                Taker::Rests
            }
        };
    }

    /// What readers of committed records find once the logs are cut and brokers have started on them.
    fn restored(&self, cut: &Ends) -> Vec<BTreeMap<usize, usize>> {
        let mut committed = vec![BTreeMap::new(); self.written.len()];
        let mut decided: BTreeMap<usize, &StateRecord> = BTreeMap::new();
        for record in &self.states[..cut.state] {
            decided.insert(record.producer, record);
        }
        for (at, log) in self.logs.iter().enumerate() {
            let mut open: Vec<Vec<usize>> = vec![Vec::new(); PRODUCERS];
            let mut end = |producer: usize, commit: bool, open: &mut Vec<Vec<usize>>| {
                for transaction in std::mem::take(&mut open[producer]) {
                    if commit {
                        *committed[transaction].entry(at).or_default() += 1;
                    }
                }
            };
            for record in &log[..cut.logs[at]] {
                match *record {
                    Record::Data {
                        producer,
                        transaction,
                    } => open[producer].push(transaction),
                    Record::Marker { producer, commit } => end(producer, commit, &mut open),
                }
            }
            for (producer, record) in &decided {
                if let State::Prepared { commit } = record.state
                    && record.partitions.contains(&at)
                {
                    end(*producer, commit, &mut open);
                }
            }
        }
        committed
    }

    /// The transaction that a cut holds in part.
    fn torn(&self) -> Option<(usize, Ends)> {
        self.cuts.iter().find_map(|cut| {
            let restored = self.restored(cut);
            let torn = restored
                .iter()
                .zip(&self.written)
                .position(|(found, written)| !found.is_empty() && found != written);
            Some((torn?, cut.clone()))
        })
    }
}

fn look(omits: Omits, cases: u32) -> Result<usize, String> {
    let mut runner = TestRunner::new_with_rng(
        Config {
            cases,
            failure_persistence: None,
            max_shrink_iters: 0,
            ..Config::default()
        },
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    );
    let cuts = std::cell::Cell::new(0);
    let steps = proptest::collection::vec((any::<u8>(), any::<u8>()), 0..300);
    let ran = runner.run(&steps, |steps| {
        let mut world = World::new(omits);
        for (op, choice) in steps {
            world.step(op, choice);
        }
        cuts.set(cuts.get() + world.cuts.len());
        match world.torn() {
            None => Ok(()),
            Some(torn) => Err(TestCaseError::fail(format!("{torn:?}"))),
        }
    });
    ran.map(|()| cuts.get()).map_err(|error| error.to_string())
}

#[test]
fn a_cut_holds_each_transaction_whole_or_not_at_all() {
    let cuts = look(Omits::default(), 1_000).unwrap();
    assert!(cuts > 500, "{cuts} cuts say little");
}

#[test]
fn each_rule_is_needed() {
    let none = Omits::default();
    let rules = [
        ("hold", Omits { hold: true, ..none }),
        (
            "drain",
            Omits {
                drain: true,
                ..none
            },
        ),
        (
            "completion",
            Omits {
                completion: true,
                ..none
            },
        ),
        (
            "order",
            Omits {
                order: true,
                ..none
            },
        ),
        (
            "confirmation",
            Omits {
                confirmation: true,
                ..none
            },
        ),
    ];
    for (rule, omits) in rules {
        assert!(look(omits, 5_000).is_err(), "nobody misses {rule}");
    }
}

fn at(partition: i32) -> TopicPartition {
    TopicPartition::new(Uuid::from_u128(1), partition)
}

fn cut(offset: i64, epoch: i32) -> Cut {
    Cut {
        group: GroupName::default_group(),
        region_epoch: RegionEpoch(1),
        view_version: 10,
        taken_ms: offset,
        ends: [
            (at(0), End { epoch, offset }),
            (
                at(1),
                End {
                    epoch: 1,
                    offset: 4,
                },
            ),
        ]
        .into(),
    }
}

fn standing(epochs: &[(i32, i64)], end_offset: i64) -> Standing {
    let start = |&(epoch, start_offset): &(i32, i64)| EpochStart {
        epoch,
        start_offset,
    };
    Standing {
        log_start: 0,
        lineage: Lineage {
            epochs: epochs.iter().map(start).collect(),
            end_offset,
        },
    }
}

#[test]
fn the_newest_cut_that_is_wholly_there_counts() {
    let here = BTreeMap::from([
        (at(0), standing(&[(1, 0), (3, 50)], 80)),
        (at(1), standing(&[(1, 0)], 9)),
    ]);
    let newest = |newest_first: Vec<Cut>| {
        let known = |at| here.get(&at).map_or(Known::Unknown, Known::Stands);
        let mut cuts = newest_first.into_iter();
        cuts.find(|cut| cut.is_complete(known))
            .map(|cut| cut.taken_ms)
    };
    assert_eq!(newest(vec![cut(90, 3), cut(80, 3), cut(70, 3)]), Some(80));
    // Epoch 1 wrote no more than 50 records here, and epoch 2 none: those were lost in a move.
    assert_eq!(newest(vec![cut(60, 2), cut(51, 1), cut(50, 1)]), Some(50));
    assert_eq!(newest(vec![cut(90, 3)]), None);
}

#[test]
fn what_retention_took_or_was_deleted_misses_nothing_and_the_unheard_does() {
    let gone = Standing {
        log_start: 60,
        ..standing(&[(3, 60)], 60)
    };
    assert!(cut(60, 1).is_complete(|_| Known::Stands(&gone)));
    assert!(cut(60, 1).is_complete(|_| Known::Deleted));
    assert!(!cut(60, 1).is_complete(|_| Known::Unknown));
}
