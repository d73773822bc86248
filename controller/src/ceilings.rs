//! The newest ceiling this voter granted to each home broker of each group.
//!
//! Kept in memory only: after a restart a voter names no ceiling until it has granted a new one, and
//! then that one is newer than everything it forgot, since it grants only to requests that name its
//! present start, and those were sent after it answered for the first time. So a majority of voters that
//! *each* name one for a broker always includes the newest that was ever granted, and less than that
//! means `unknown`.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use whimbrel_fleet::{
    Ceiling, GroupName, Incarnation, NodeId, Position, RegionEpoch,
    lease::{Answer, Request, majority},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) epoch: RegionEpoch,
    pub(crate) ceiling: Ceiling,
    /// View whose leaderships the ceiling sums up.
    pub(crate) view_version: u64,
    /// When it was granted, on the voter's CLOCK_BOOTTIME.
    pub(crate) at_ns: u64,
}

#[derive(Debug)]
pub(crate) struct Ceilings {
    /// Of this memory: random at each start of the voter.
    start: Incarnation,
    held: Mutex<BTreeMap<(GroupName, NodeId), Held>>,
}

impl Ceilings {
    pub(crate) fn new(start: Incarnation) -> Self {
        Self {
            start,
            held: Mutex::default(),
        }
    }

    pub(crate) fn start(&self) -> Incarnation {
        self.start
    }

    /// What is answered to a request that log and state judge so. A grant is noted before it leaves.
    pub(crate) fn settle(&self, judged: Answer, request: &Request, now_ns: u64) -> Answer {
        if judged != Answer::Yes {
            return judged;
        }
        if request.voter_start != Some(self.start) {
            return Answer::Unknown;
        }
        self.note(request, now_ns);
        Answer::Yes
    }

    fn note(&self, request: &Request, now_ns: u64) {
        let new = Held {
            node: request.node,
            incarnation: request.incarnation,
            epoch: request.epoch,
            ceiling: request.ceiling,
            view_version: request.view_version,
            at_ns: now_ns,
        };
        let mut held = self.held.lock();
        let entry = held
            .entry((request.group.clone(), request.node))
            .or_insert(new);
        let same_process = entry.epoch == new.epoch && entry.incarnation == new.incarnation;
        let newer = new.epoch > entry.epoch
            || (new.epoch == entry.epoch
                && (!same_process || new.ceiling.sequence > entry.ceiling.sequence));
        if newer {
            *entry = new;
        }
    }

    pub(crate) fn of(&self, group: &GroupName) -> Vec<Held> {
        self.held
            .lock()
            .iter()
            .filter(|((g, _), _)| g == group)
            .map(|(_, held)| *held)
            .collect()
    }
}

/// Reserved by a broker that did not know yet where it stood.
const EVERYTHING: u64 = u64::MAX;

/// The highest position `node` may have acknowledged, from what `voters` voters answered; `None` unless
/// a majority of them each name a ceiling for it, and one that is a number. `led_from` is the version of
/// the view in which it last took over from another leader: what that one may have acknowledged is in no
/// ceiling that was reserved under an older view.
pub(crate) fn reserved(
    answers: &BTreeMap<u64, Vec<Held>>,
    node: NodeId,
    voters: usize,
    led_from: u64,
) -> Option<Position> {
    let named: Vec<&Held> = answers
        .values()
        .filter_map(|held| held.iter().find(|h| h.node == node))
        .collect();
    if named.len() < majority(voters) {
        return None;
    }
    let epoch = named.iter().map(|h| h.epoch).max()?;
    let mut newest: BTreeMap<Incarnation, &Held> = BTreeMap::new();
    for held in named.into_iter().filter(|h| h.epoch == epoch) {
        let kept = newest.entry(held.incarnation).or_insert(held);
        if held.ceiling.sequence > kept.ceiling.sequence {
            *kept = held;
        }
    }
    if newest.values().any(|h| h.view_version < led_from) {
        return None;
    }
    // Of two incarnations nobody here knows which was last: the higher sums hold for both.
    newest
        .into_values()
        .map(|h| h.ceiling.position)
        .reduce(|a, b| Position {
            records: a.records.max(b.records),
            bytes: a.bytes.max(b.bytes),
        })
        .filter(|p| p.records != EVERYTHING)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(epoch: u32, sequence: u64, records: u64) -> Held {
        let ceiling = Ceiling {
            position: Position {
                records,
                bytes: records,
            },
            sequence,
        };
        Held {
            node: NodeId(1),
            incarnation: Incarnation::from_u128(7),
            epoch: RegionEpoch(epoch),
            ceiling,
            view_version: 5,
            at_ns: 0,
        }
    }

    #[test]
    fn a_majority_must_name_it_and_the_newest_counts() {
        let mut answers = BTreeMap::from([(1, vec![held(1, 9, 90)]), (2, vec![])]);
        assert_eq!(
            reserved(&answers, NodeId(1), 3, 5),
            None,
            "voter 2 may have forgotten a newer one"
        );
        answers.insert(2, vec![held(1, 10, 70)]);
        assert_eq!(
            reserved(&answers, NodeId(1), 3, 5).unwrap().records,
            70,
            "the newest, not the largest"
        );
        answers.insert(3, vec![held(2, 1, 50)]);
        assert_eq!(reserved(&answers, NodeId(1), 3, 5).unwrap().records, 50);
        assert_eq!(reserved(&answers, NodeId(2), 3, 5), None);
        answers.insert(3, vec![held(2, 2, u64::MAX)]);
        assert_eq!(
            reserved(&answers, NodeId(1), 3, 5),
            None,
            "it had not found its place yet"
        );
    }

    #[test]
    fn a_ceiling_from_before_a_take_over_says_nothing_of_what_was_taken_over() {
        let answers = BTreeMap::from([(1, vec![held(1, 9, 90)]), (2, vec![held(1, 9, 90)])]);
        assert_eq!(reserved(&answers, NodeId(1), 3, 5).unwrap().records, 90);
        assert_eq!(reserved(&answers, NodeId(1), 3, 6), None);
    }

    #[test]
    fn of_two_incarnations_the_higher_sums_count() {
        let other = Held {
            incarnation: Incarnation::from_u128(8),
            ..held(1, 1, 95)
        };
        let answers = BTreeMap::from([(1, vec![held(1, 9, 90)]), (2, vec![other])]);
        assert_eq!(reserved(&answers, NodeId(1), 3, 5).unwrap().records, 95);
    }

    #[test]
    fn late_renewals_do_not_replace_newer_ones() {
        let ceilings = Ceilings::new(Incarnation::from_u128(1));
        let mut request = Request {
            node: NodeId(1),
            incarnation: Incarnation::from_u128(7),
            region: "east".into(),
            group: GroupName::default_group(),
            epoch: RegionEpoch(1),
            ceiling: held(1, 5, 50).ceiling,
            view_version: 5,
            voter_start: None,
        };
        ceilings.note(&request, 1);
        request.ceiling = held(1, 4, 99).ceiling;
        ceilings.note(&request, 2);
        assert_eq!(
            ceilings.of(&GroupName::default_group())[0]
                .ceiling
                .position
                .records,
            50
        );
        request.incarnation = Incarnation::from_u128(8);
        request.ceiling = held(1, 1, 40).ceiling;
        ceilings.note(&request, 3);
        assert_eq!(
            ceilings.of(&GroupName::default_group())[0]
                .ceiling
                .position
                .records,
            40
        );
    }
}
