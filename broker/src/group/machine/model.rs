//! Random histories against what must always hold: the generation only rises, a group with members has one leader
//! among them, all members of a stable group share its generation, no request is answered twice or never.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Join {
        who: usize,
        fixed: bool,
        known_id: bool,
    },
    Rejoin {
        who: usize,
        offer: bool,
    },
    Sync {
        who: usize,
    },
    Heartbeat {
        who: usize,
    },
    Leave {
        who: usize,
    },
    Persist {
        ok: bool,
    },
    Wait {
        ms: i64,
    },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..5_usize;
    prop_oneof![
        3 => (who.clone(), any::<bool>(), any::<bool>()).prop_map(|(who, fixed, known_id)| Step::Join { who, fixed, known_id }),
        6 => (who.clone(), any::<bool>()).prop_map(|(who, offer)| Step::Rejoin { who, offer }),
        6 => who.clone().prop_map(|who| Step::Sync { who }),
        2 => who.clone().prop_map(|who| Step::Heartbeat { who }),
        1 => who.prop_map(|who| Step::Leave { who }),
        4 => prop::bool::weighted(0.8).prop_map(|ok| Step::Persist { ok }),
        3 => (0..12_000_i64).prop_map(|ms| Step::Wait { ms }),
        1 => Just(Step::Restart),
    ]
}

#[derive(Clone, Default)]
struct Client {
    id: String,
    instance: Option<String>,
    generation: i32,
    leads: Vec<String>,
    /// Rises when the client forgets who it was; answers to its former self reach nobody.
    life: u64,
}

impl Client {
    /// What its assignment begins with.
    fn name(&self) -> String {
        self.instance.clone().unwrap_or_else(|| self.id.clone())
    }
}

struct Open {
    who: usize,
    life: u64,
    name: String,
}

struct World {
    group: Group,
    now: Now,
    clients: Vec<Client>,
    open: BTreeMap<u64, Open>,
    answered: BTreeSet<u64>,
    tickets: Vec<(u64, GroupRecord)>,
    stored: Option<GroupRecord>,
    next: u64,
    highest: i32,
}

impl World {
    fn new(delay_ms: i32) -> Self {
        let rules = Rules {
            initial_rebalance_delay_ms: delay_ms,
            max_size: 4,
            ..Rules::default()
        };
        Self {
            group: Group::new("g", rules, Now::default()),
            now: Now::default(),
            clients: vec![Client::default(); 5],
            open: BTreeMap::new(),
            answered: BTreeSet::new(),
            tickets: Vec::new(),
            stored: None,
            next: 0,
            highest: 0,
        }
    }

    fn token(&mut self, who: usize) -> Token {
        self.next += 1;
        let client = &self.clients[who];
        self.open.insert(
            self.next,
            Open {
                who,
                life: client.life,
                name: client.name(),
            },
        );
        Token(self.next)
    }

    fn settle(&mut self, token: Token) -> Open {
        assert!(self.answered.insert(token.0), "answered twice: {token:?}");
        self.open
            .remove(&token.0)
            .expect("an answer to a request that was made")
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Joined { token, reply } => {
                    let open = self.settle(token);
                    let client = &mut self.clients[open.who];
                    if client.life != open.life {
                        continue;
                    }
                    if reply.error == ErrorCode::NONE {
                        assert!(
                            reply.generation >= client.generation,
                            "a generation went back"
                        );
                        client.generation = reply.generation;
                        client.leads = reply.members.iter().map(|m| m.member_id.clone()).collect();
                        client.id = reply.member_id;
                    } else if reply.error == ErrorCode::MEMBER_ID_REQUIRED {
                        client.id = reply.member_id;
                    }
                }
                Effect::Synced { token, reply } => {
                    let open = self.settle(token);
                    if reply.error == ErrorCode::NONE && !reply.assignment.is_empty() {
                        let own = format!("{}@", open.name);
                        assert!(
                            reply.assignment.starts_with(own.as_bytes()),
                            "somebody else's assignment"
                        );
                    }
                }
                Effect::Persist { ticket, record } => self.tickets.push((ticket, record)),
            }
        }
    }

    fn request(&self, who: usize, known_id: bool, offer: bool) -> JoinRequest {
        let client = &self.clients[who];
        let metadata = if offer { "x" } else { "y" };
        JoinRequest {
            member_id: client.id.clone(),
            instance_id: client.instance.clone(),
            require_known_member_id: known_id,
            supports_skipping_assignment: offer,
            client_id: format!("c{who}"),
            client_host: "/h".to_owned(),
            rebalance_timeout_ms: 9_000,
            session_timeout_ms: 6_000,
            protocol_type: "consumer".to_owned(),
            protocols: vec![Protocol {
                name: "range".to_owned(),
                metadata: Bytes::from_static(metadata.as_bytes()),
            }],
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Join {
                who,
                fixed,
                known_id,
            } => {
                let life = self.clients[who].life + 1;
                self.clients[who] = Client {
                    instance: fixed.then(|| format!("i{who}")),
                    life,
                    ..Client::default()
                };
                let (token, request) = (self.token(who), self.request(who, known_id, true));
                let effects = self
                    .group
                    .join(self.now, token, request, &token.0.to_string());
                self.take(effects);
            }
            Step::Rejoin { who, offer } => {
                let (token, request) = (self.token(who), self.request(who, true, offer));
                let effects = self
                    .group
                    .join(self.now, token, request, &token.0.to_string());
                self.take(effects);
            }
            Step::Sync { who } => self.sync(who),
            Step::Heartbeat { who } => {
                let client = self.clients[who].clone();
                self.group.heartbeat(
                    self.now,
                    &client.id,
                    client.instance.as_deref(),
                    client.generation,
                );
            }
            Step::Leave { who } => {
                let client = self.clients[who].clone();
                let leaver = Leaver {
                    member_id: client.id,
                    instance_id: client.instance,
                };
                let (_, effects) = self.group.leave(self.now, &[leaver]);
                self.take(effects);
            }
            Step::Persist { ok } if !self.tickets.is_empty() => self.persist(ok),
            Step::Persist { .. } => {}
            Step::Wait { ms } => {
                self.now.mono_ms += ms;
                self.now.wall_ms += ms;
                let effects = self.group.tick(self.now);
                self.take(effects);
            }
            Step::Restart => self.restart(),
        }
        self.check();
    }

    fn sync(&mut self, who: usize) {
        let client = self.clients[who].clone();
        // An assignment names its member's instance, or id, first.
        let own = |id: &String| {
            let member = self.group.members().find(|m| m.id == *id);
            let name = member
                .and_then(|m| m.instance_id.clone())
                .unwrap_or_else(|| id.clone());
            (
                id.clone(),
                Bytes::from(format!("{name}@{}", client.generation)),
            )
        };
        let assignments = client.leads.iter().map(own).collect();
        let request = SyncRequest {
            member_id: client.id,
            instance_id: client.instance,
            generation: client.generation,
            assignments,
            ..SyncRequest::default()
        };
        let token = self.token(who);
        let effects = self.group.sync(self.now, token, request);
        self.take(effects);
    }

    fn persist(&mut self, ok: bool) {
        let (ticket, record) = self.tickets.remove(0);
        if ok {
            self.stored = Some(record);
        }
        let outcome = if ok {
            Ok(())
        } else {
            Err(ErrorCode::MESSAGE_TOO_LARGE)
        };
        let effects = self.group.persisted(self.now, ticket, outcome);
        self.take(effects);
    }

    fn restart(&mut self) {
        let effects = self.group.close(ErrorCode::NOT_COORDINATOR);
        self.take(effects);
        assert!(self.open.is_empty(), "closing left somebody waiting");
        self.tickets.clear();
        let rules = self.group.rules.clone();
        self.group = match self.stored.clone() {
            Some(record) => Group::restore("g", rules, record, self.now),
            None => Group::new("g", rules, self.now),
        };
        // What was not stored may be handed out again, as after any crash.
        self.highest = self.group.generation();
        for client in &mut self.clients {
            client.generation = client.generation.min(self.highest);
        }
    }

    fn check(&mut self) {
        let group = &self.group;
        assert!(
            group.generation() >= self.highest,
            "the generation went back"
        );
        self.highest = group.generation();
        let ids: BTreeSet<_> = group.members().map(|m| m.id.clone()).collect();
        assert!(ids.len() <= 4, "more members than the group may have");
        assert_eq!(group.leader().is_some(), !ids.is_empty());
        assert!(
            group.leader().is_none_or(|leader| ids.contains(leader)),
            "the leader is a member"
        );
        for (instance, id) in &group.statics {
            assert_eq!(group.members[id].instance_id.as_ref(), Some(instance));
        }
        match group.state() {
            State::Empty => assert!(ids.is_empty()),
            State::Stable => {
                assert!(
                    group
                        .members()
                        .all(|m| m.awaiting_join.is_none() && m.awaiting_sync.is_none())
                );
                assert!(group.members().all(|m| m.offers(group.protocol().unwrap())));
            }
            State::CompletingRebalance => {
                assert!(group.members().all(|m| m.awaiting_join.is_none()))
            }
            State::PreparingRebalance => assert!(group.join_deadline_ms.is_some()),
            State::Dead => {}
        }
        let parked = group
            .members()
            .filter(|m| m.awaiting_join.is_some())
            .count()
            + group
                .members()
                .filter(|m| m.awaiting_sync.is_some())
                .count()
            + group
                .writes
                .values()
                .filter(|w| matches!(w, Write::Replacement { .. }))
                .count();
        assert_eq!(
            parked,
            self.open.len(),
            "every open request is parked somewhere"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_history_keeps_the_promises(delay in prop_oneof![Just(0), Just(3_000)], steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new(delay);
        for step in steps {
            world.run(step);
        }
        // Left alone, with its records written, every request is answered in the end.
        for _ in 0..200 {
            world.run(Step::Persist { ok: true });
            world.run(Step::Wait { ms: 3_000 });
        }
        prop_assert!(world.open.is_empty());
        prop_assert_eq!(world.group.state(), State::Empty);
    }
}
