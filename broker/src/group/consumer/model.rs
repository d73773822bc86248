//! Random histories against what must always hold: the epochs only rise and keep their order, no partition is held by
//! two members, the log alone gives the same group back, and members that go on come to a stable group in which every
//! partition has one owner.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{
    tests::{Few, joining},
    *,
};

#[derive(Clone, Debug)]
enum Step {
    Join { who: usize, fixed: bool },
    Beat { who: usize, lost: bool },
    Revoke { who: usize },
    Subscribe { who: usize, topics: u8 },
    Expression { who: usize, all: bool },
    Leave { who: usize, for_a_while: bool },
    Wait { ms: i64 },
    MoreTopics,
    MorePartitions,
    Restart { torn: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..5_usize;
    prop_oneof![
        4 => (who.clone(), any::<bool>()).prop_map(|(who, fixed)| Step::Join { who, fixed }),
        8 => (who.clone(), prop::bool::weighted(0.2)).prop_map(|(who, lost)| Step::Beat { who, lost }),
        6 => who.clone().prop_map(|who| Step::Revoke { who }),
        2 => (who.clone(), 0..4_u8).prop_map(|(who, topics)| Step::Subscribe { who, topics }),
        1 => (who.clone(), any::<bool>()).prop_map(|(who, all)| Step::Expression { who, all }),
        1 => (who, any::<bool>()).prop_map(|(who, for_a_while)| Step::Leave { who, for_a_while }),
        2 => (0..9_000_i64).prop_map(|ms| Step::Wait { ms }),
        1 => Just(Step::MoreTopics),
        1 => Just(Step::MorePartitions),
        1 => (0..4_usize).prop_map(|torn| Step::Restart { torn }),
    ]
}

#[derive(Clone, Debug, Default)]
struct Client {
    id: String,
    instance: Option<String>,
    epoch: i32,
    joined: bool,
    /// What it was told to have.
    told: Assignment,
    /// What it uses; a partition goes out of here before it says so.
    owned: Assignment,
}

struct World {
    group: Group,
    log: Vec<Change>,
    now: Now,
    topics: Few,
    clients: Vec<Client>,
    lives: u32,
    highest: i32,
}

impl World {
    fn new() -> Self {
        Self {
            group: Group::new("g", Rules::default()),
            log: Vec::new(),
            now: Now::default(),
            topics: Few {
                topics: 1,
                partitions: 2,
                version: 1,
            },
            clients: vec![Client::default(); 5],
            lives: 0,
            highest: 0,
        }
    }

    fn send(&mut self, who: usize, request: Heartbeat, lost: bool) {
        let outcome = self.group.heartbeat(self.now, request, &self.topics);
        let client = &mut self.clients[who];
        match outcome {
            Ok((reply, changes)) => {
                self.log.extend(changes);
                if lost {
                    return;
                }
                assert_eq!(reply.member_id, client.id);
                client.epoch = reply.epoch;
                client.joined = reply.epoch > 0;
                if let Some(told) = reply.assignment {
                    client.told = told;
                }
                // New partitions are taken at once; what must go goes in a step of its own.
                for (topic, partition) in client.told.iter() {
                    client.owned.insert(topic, partition);
                }
            }
            Err(refusal) => {
                let gone = [
                    ErrorCode::FENCED_MEMBER_EPOCH,
                    ErrorCode::UNKNOWN_MEMBER_ID,
                    ErrorCode::FENCED_INSTANCE_ID,
                ];
                if gone.contains(&refusal.code) {
                    *client = Client {
                        id: client.id.clone(),
                        instance: client.instance.clone(),
                        ..Client::default()
                    };
                }
            }
        }
    }

    fn beat(&mut self, who: usize, lost: bool) {
        let client = self.clients[who].clone();
        if client.id.is_empty() {
            return;
        }
        let request = if client.joined {
            Heartbeat {
                member_id: client.id,
                instance_id: client.instance,
                epoch: client.epoch,
                owned: Some(client.owned),
                ..Heartbeat::default()
            }
        } else {
            Heartbeat {
                instance_id: client.instance,
                ..joining(&client.id)
            }
        };
        self.send(who, request, lost);
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Join { who, fixed } => {
                self.lives += 1;
                self.clients[who] = Client {
                    id: format!("m{}", self.lives),
                    instance: fixed.then(|| format!("i{who}")),
                    ..Client::default()
                };
                self.beat(who, false);
            }
            Step::Beat { who, lost } => self.beat(who, lost),
            Step::Revoke { who } => {
                let client = &mut self.clients[who];
                client.owned = client.told.clone();
                self.beat(who, false);
            }
            Step::Subscribe { who, topics } => self.change(who, |request| {
                request.topics = Some((1..=topics).map(|n| format!("t{n}")).collect());
            }),
            Step::Expression { who, all } => self.change(who, |request| {
                request.regex = Some(if all { "t.*" } else { "" }.to_owned());
            }),
            Step::Leave { who, for_a_while } => {
                let client = self.clients[who].clone();
                let away = for_a_while && client.instance.is_some();
                if client.joined {
                    let request = Heartbeat {
                        member_id: client.id,
                        instance_id: client.instance,
                        epoch: if away { -2 } else { -1 },
                        ..Heartbeat::default()
                    };
                    self.clients[who].owned = Assignment::default();
                    self.clients[who].told = Assignment::default();
                    self.send(who, request, false);
                }
            }
            Step::Wait { ms } => {
                self.now.mono_ms += ms;
                let changes = self.group.tick(self.now, &self.topics);
                self.log.extend(changes);
            }
            Step::MoreTopics => {
                self.topics.topics = (self.topics.topics + 1).min(4);
                self.topics.version += 1;
            }
            Step::MorePartitions => {
                self.topics.partitions = (self.topics.partitions + 1).min(5);
                self.topics.version += 1;
            }
            Step::Restart { torn } => self.restart(torn),
        }
        self.check();
    }

    fn change(&mut self, who: usize, change: impl FnOnce(&mut Heartbeat)) {
        let client = self.clients[who].clone();
        if client.joined {
            let mut request = Heartbeat {
                member_id: client.id,
                epoch: client.epoch,
                owned: Some(client.owned),
                ..Heartbeat::default()
            };
            change(&mut request);
            self.send(who, request, false);
        }
    }

    /// The log alone gives the group back; a log cut short gives one that can go on.
    fn restart(&mut self, torn: usize) {
        let mut stored = Stored::default();
        self.log.truncate(self.log.len() - torn.min(self.log.len()));
        for change in &self.log {
            stored.apply(change.clone());
        }
        let restored = Group::restore("g", Rules::default(), stored, self.now);
        if torn == 0 {
            assert_eq!(restored.epoch, self.group.epoch);
            assert_eq!(restored.target_epoch, self.group.target_epoch);
            assert_eq!(restored.owners, self.group.owners);
            // When it was looked up last is not worth a record.
            let stand = |group: &Group| -> BTreeMap<String, BTreeSet<String>> {
                let regexes = group.regexes.iter();
                regexes
                    .map(|(text, found)| (text.clone(), found.topics.clone()))
                    .collect()
            };
            assert_eq!(stand(&restored), stand(&self.group));
            let facts = |group: &Group| -> BTreeMap<String, (Profile, Current, Assignment)> {
                let fact = |m: &Member| (m.profile.clone(), m.current(), group.target(&m.id));
                let members = group.members.values();
                members.map(|m| (m.id.clone(), fact(m))).collect()
            };
            assert_eq!(facts(&restored), facts(&self.group));
        } else {
            // What was not durable was not answered either: such members begin anew.
            for client in &mut self.clients {
                *client = Client {
                    id: client.id.clone(),
                    instance: client.instance.clone(),
                    ..Client::default()
                };
            }
            self.highest = 0;
        }
        self.group = restored;
    }

    fn check(&mut self) {
        let group = &self.group;
        assert!(group.epoch() >= self.highest && group.target_epoch() <= group.epoch());
        self.highest = group.epoch();
        let mut held = BTreeSet::new();
        for member in group.members() {
            assert!(member.epoch <= group.target_epoch());
            for place in member.held() {
                assert!(held.insert(place), "two hold {place:?}");
                assert_eq!(group.owners.get(&place), Some(&member.id));
            }
        }
        assert_eq!(held.len(), group.owners.len());
        for (instance, id) in &group.statics {
            assert_eq!(
                group.members[id].profile.instance_id.as_ref(),
                Some(instance)
            );
        }
        // What clients use at the same time is never the same.
        let mut used = BTreeSet::new();
        for client in self.clients.iter().filter(|client| client.joined) {
            let alive = group
                .members
                .get(&client.id)
                .is_some_and(|m| m.epoch == client.epoch);
            for place in client.owned.iter().filter(|_| alive) {
                assert!(used.insert(place), "two use {place:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_history_keeps_the_promises(steps in prop::collection::vec(step(), 1..100)) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
        }
        // Those who stay and do what they are asked come to rest, once the others' sessions are over.
        for round in 0..40 {
            for who in 0..5 {
                world.run(Step::Revoke { who });
            }
            world.run(Step::Wait { ms: if round < 10 { 9_000 } else { 1_000 } });
        }
        let group = &world.group;
        prop_assert!(matches!(group.state(), State::Stable | State::Empty), "{:?}", group.state());
        for member in group.members() {
            prop_assert_eq!(&member.assigned, &group.target(&member.id));
        }
        let wanted: usize = group.metadata.values().map(|(_, count)| usize::try_from(*count).unwrap()).sum();
        let had: usize = group.members().map(|member| member.assigned.len()).sum();
        prop_assert!(group.members().count() == 0 || wanted == had);
    }
}
