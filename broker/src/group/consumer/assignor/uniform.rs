//! Even numbers of partitions, and as few moves as can be.
//!
//! Who holds a partition keeps it up to an even share; what is left over or new goes to whoever reads it and has least.
//! Where members read different topics an even share does not exist for everybody: then single partitions move from
//! members that have at least two more than another reader, until there is none. Each such move makes the sum of the
//! squares of the loads smaller, so it ends.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{Subscriber, subscribers};
use crate::group::consumer::Assignment;

type Topics<'a> = BTreeMap<Uuid, (i32, Vec<&'a str>)>;

pub(super) fn assign(members: &BTreeMap<&str, Subscriber<'_>>) -> BTreeMap<String, Assignment> {
    let topics = subscribers(members);
    let even = topics
        .values()
        .all(|(_, readers)| readers.len() == members.len());
    let total: usize = topics
        .values()
        .map(|(partitions, _)| usize::try_from(*partitions).unwrap_or(0))
        .sum();
    let mut round = Round {
        owners: BTreeMap::new(),
        loads: members.keys().map(|id| (*id, 0)).collect(),
    };
    let share = even.then(|| Share {
        least: total / members.len().max(1),
        more: total % members.len().max(1),
    });
    round.keep(members, &topics, share);
    if even {
        round.fill_evenly(&topics);
    } else {
        round.fill(&topics);
        round.level(&topics);
    }
    let mut assigned: BTreeMap<String, Assignment> = BTreeMap::new();
    for ((topic, partition), owner) in round.owners {
        assigned
            .entry(owner.to_owned())
            .or_default()
            .insert(topic, partition);
    }
    assigned
}

/// How many partitions each has when all read the same: `more` of the members have one above `least`.
struct Share {
    least: usize,
    more: usize,
}

struct Round<'a> {
    owners: BTreeMap<(Uuid, i32), &'a str>,
    loads: BTreeMap<&'a str, usize>,
}

impl<'a> Round<'a> {
    fn load(&self, id: &str) -> usize {
        self.loads.get(id).copied().unwrap_or(0)
    }

    fn give(&mut self, topic: Uuid, partition: i32, id: &'a str) {
        let place = (topic, partition);
        if let Some(count) = self
            .owners
            .insert(place, id)
            .and_then(|before| self.loads.get_mut(before))
        {
            *count -= 1;
        }
        *self.loads.entry(id).or_insert(0) += 1;
    }

    /// What is held and may be kept.
    fn keep(
        &mut self,
        members: &BTreeMap<&'a str, Subscriber<'_>>,
        topics: &Topics<'a>,
        mut share: Option<Share>,
    ) {
        for (id, member) in members {
            let reads: BTreeSet<Uuid> = member.topics.iter().map(|(topic, _)| *topic).collect();
            for (topic, partition) in member.held.into_iter().flat_map(Assignment::iter) {
                let exists = reads.contains(&topic)
                    && topics
                        .get(&topic)
                        .is_some_and(|(partitions, _)| (0..*partitions).contains(&partition));
                if !exists || self.owners.contains_key(&(topic, partition)) {
                    continue;
                }
                let load = self.load(id);
                match &mut share {
                    Some(share) if load == share.least && share.more > 0 => share.more -= 1,
                    Some(share) if load >= share.least => continue,
                    _ => {}
                }
                self.give(topic, partition, id);
            }
        }
    }

    fn free(&self, topics: &Topics<'a>) -> Vec<(Uuid, i32)> {
        topics
            .iter()
            .flat_map(|(topic, (partitions, _))| (0..*partitions).map(move |p| (*topic, p)))
            .filter(|place| !self.owners.contains_key(place))
            .collect()
    }

    /// All read all: what is free goes to who has least, in turn.
    fn fill_evenly(&mut self, topics: &Topics<'a>) {
        let mut queue: BTreeSet<(usize, &'a str)> =
            self.loads.iter().map(|(id, load)| (*load, *id)).collect();
        for (topic, partition) in self.free(topics) {
            let Some((load, id)) = queue.pop_first() else {
                return;
            };
            self.give(topic, partition, id);
            queue.insert((load + 1, id));
        }
    }

    fn fill(&mut self, topics: &Topics<'a>) {
        for (topic, partition) in self.free(topics) {
            let least = topics
                .get(&topic)
                .and_then(|(_, readers)| readers.iter().min_by_key(|id| (self.load(id), **id)));
            if let Some(id) = least {
                self.give(topic, partition, id);
            }
        }
    }

    fn level(&mut self, topics: &Topics<'a>) {
        let mut moved = true;
        while moved {
            moved = false;
            for (topic, (partitions, readers)) in topics {
                for partition in 0..*partitions {
                    let Some(owner) = self.owners.get(&(*topic, partition)).copied() else {
                        continue;
                    };
                    let least = readers.iter().min_by_key(|id| (self.load(id), **id));
                    if let Some(id) = least
                        && self.load(owner) >= self.load(id) + 2
                    {
                        self.give(*topic, partition, id);
                        moved = true;
                    }
                }
            }
        }
    }
}
