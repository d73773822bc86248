//! Who is to have which partitions: the assignors a member can ask for.

mod range;
mod uniform;

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{Assignment, Member};

/// An assignor of the coordinator's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assignor {
    /// Even numbers, and as few moves as can be.
    #[default]
    Uniform,
    /// Neighbouring partitions of each topic, the same for topics of the same subscribers.
    Range,
}

/// What an assignor needs to know of a member.
#[derive(Clone, Debug, Default)]
pub struct Subscriber<'a> {
    pub instance_id: Option<&'a str>,
    /// The topics it reads, with their partition counts.
    pub topics: Vec<(Uuid, i32)>,
    /// What it was to have so far.
    pub held: Option<&'a Assignment>,
}

impl Assignor {
    /// All there are; the first is the default.
    pub const ALL: [Self; 2] = [Self::Uniform, Self::Range];

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// The assignor of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|assignor| assignor.name() == name)
    }

    /// What each member is to have: every partition of every subscribed topic once.
    #[must_use]
    pub fn assign(self, members: &BTreeMap<&str, Subscriber<'_>>) -> BTreeMap<String, Assignment> {
        match self {
            Self::Uniform => uniform::assign(members),
            Self::Range => range::assign(members),
        }
    }
}

/// The assignor that most members ask for; who asks for none counts for nobody, a tie goes to the default.
pub fn preferred<'a>(members: impl Iterator<Item = &'a Member>) -> Assignor {
    let mut votes = BTreeMap::new();
    for member in members {
        if let Some(assignor) = member.profile.assignor.as_deref().and_then(Assignor::named) {
            *votes.entry(assignor).or_insert(0_usize) += 1;
        }
    }
    let most = votes.values().copied().max();
    votes
        .into_iter()
        .find(|(_, count)| Some(*count) == most)
        .map_or(Assignor::default(), |(assignor, _)| assignor)
}

/// Who reads each topic, by topic.
fn subscribers<'a>(
    members: &BTreeMap<&'a str, Subscriber<'_>>,
) -> BTreeMap<Uuid, (i32, Vec<&'a str>)> {
    let mut topics: BTreeMap<Uuid, (i32, Vec<&str>)> = BTreeMap::new();
    for (id, subscriber) in members {
        for (topic, partitions) in &subscriber.topics {
            let entry = topics.entry(*topic).or_insert((*partitions, Vec::new()));
            entry.1.push(id);
        }
    }
    topics
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topic(n: u8) -> Uuid {
        Uuid::from_u128(u128::from(n))
    }

    fn loads(assigned: &BTreeMap<String, Assignment>) -> Vec<usize> {
        assigned.values().map(Assignment::len).collect()
    }

    fn members<'a>(
        ids: &'a [String],
        reads: &[(u8, i32)],
        held: Option<&'a BTreeMap<String, Assignment>>,
    ) -> BTreeMap<&'a str, Subscriber<'a>> {
        ids.iter()
            .map(|id| {
                let subscriber = Subscriber {
                    instance_id: None,
                    topics: reads.iter().map(|(t, p)| (topic(*t), *p)).collect(),
                    held: held.and_then(|held| held.get(id)),
                };
                (id.as_str(), subscriber)
            })
            .collect()
    }

    fn ids(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("m{n}")).collect()
    }

    #[test]
    fn range_gives_neighbours_and_the_same_for_each_topic() {
        let ids = ids(2);
        let assigned = Assignor::Range.assign(&members(&ids, &[(1, 3), (2, 3)], None));
        let of = |id: &str| assigned[id].iter().map(|(_, p)| p).collect::<Vec<_>>();
        assert_eq!((of("m0"), of("m1")), (vec![0, 1, 0, 1], vec![2, 2]));
    }

    #[test]
    fn uniform_moves_only_what_a_newcomer_needs() {
        let two = ids(2);
        let before = Assignor::Uniform.assign(&members(&two, &[(1, 6)], None));
        assert_eq!(loads(&before), [3, 3]);
        let three = ids(3);
        let after = Assignor::Uniform.assign(&members(&three, &[(1, 6)], Some(&before)));
        assert_eq!(loads(&after), [2, 2, 2]);
        for id in &two {
            assert!(after[id].iter().all(|(t, p)| before[id].contains(t, p)));
        }
        let back = Assignor::Uniform.assign(&members(&two, &[(1, 6)], Some(&after)));
        for id in &two {
            assert!(after[id].iter().all(|(t, p)| back[id].contains(t, p)));
        }
    }

    #[test]
    fn uniform_balances_members_that_read_different_topics() {
        let (a, b) = (ids(1), vec!["n".to_owned()]);
        let mut all = members(&a, &[(1, 2), (2, 4)], None);
        all.extend(members(&b, &[(2, 4)], None));
        let assigned = Assignor::Uniform.assign(&all);
        assert_eq!(loads(&assigned), [3, 3]);
    }

    proptest! {
        /// Every partition of every subscribed topic has exactly one owner, who reads it; with equal subscriptions the
        /// loads differ by one at most, and nobody loses a partition while having less than an even share.
        #[test]
        fn every_partition_has_one_owner_that_reads_it(
            reads in prop::collection::vec(prop::collection::btree_set(0..4_u8, 0..4), 1..7),
            partitions in prop::collection::vec(1..6_i32, 4),
            range in any::<bool>(),
            before in prop::collection::vec((0..7_usize, 0..4_u8, 0..6_i32), 0..20),
        ) {
            let names = ids(reads.len());
            let mut held: BTreeMap<String, Assignment> = BTreeMap::new();
            for (who, t, p) in before {
                held.entry(format!("m{who}")).or_default().insert(topic(t), p);
            }
            let all: BTreeMap<&str, Subscriber<'_>> = names.iter().zip(&reads).map(|(id, read)| {
                let topics = read.iter().map(|t| (topic(*t), partitions[usize::from(*t)])).collect();
                (id.as_str(), Subscriber { instance_id: None, topics, held: held.get(id) })
            }).collect();
            let assignor = if range { Assignor::Range } else { Assignor::Uniform };
            let assigned = assignor.assign(&all);
            for (t, count) in (0..4_u8).zip(&partitions) {
                let readers: Vec<_> = names.iter().zip(&reads).filter(|(_, read)| read.contains(&t)).map(|(id, _)| id).collect();
                for p in 0..*count {
                    let owners: Vec<_> = assigned.iter().filter(|(_, a)| a.contains(topic(t), p)).map(|(id, _)| id).collect();
                    prop_assert_eq!(owners.len(), usize::from(!readers.is_empty()));
                    prop_assert!(owners.iter().all(|owner| readers.contains(owner)));
                }
            }
            let total: usize = assigned.values().map(Assignment::len).sum();
            let asked: i32 = (0..4_u8).zip(&partitions).filter(|(t, _)| reads.iter().any(|read| read.contains(t))).map(|(_, p)| *p).sum();
            prop_assert_eq!(total, usize::try_from(asked).unwrap());
            if !range && reads.iter().all(|read| *read == reads[0]) {
                let loads: Vec<_> = names.iter().map(|id| assigned.get(id).map_or(0, Assignment::len)).collect();
                prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1);
                let again: BTreeMap<&str, Subscriber<'_>> = all.iter().map(|(id, s)| {
                    (*id, Subscriber { held: assigned.get(*id), ..s.clone() })
                }).collect();
                prop_assert_eq!(assignor.assign(&again), assigned);
            }
        }
    }
}
