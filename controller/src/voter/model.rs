//! Leases under delay, loss, repetition, reordering and restarts, on a clock that the test moves.
//!
//! Real parts: the voters' judgement, ceilings, pending entries and state, and the brokers' tenures. What
//! is modelled is raft (one sequence of entries, of which each voter holds a prefix that outlives it) and
//! the network (a bag of messages, each delivered any number of times, in any order, or never).

use std::collections::BTreeMap;

use openraft::{CommittedLeaderId, EntryPayload};
use whimbrel_fleet::{Incarnation, LossMode, lease::majority};
use whimbrel_rpc::controller::Tenure;

use super::*;
use crate::{
    ceilings::reserved,
    raft::{Entry, LogId},
    state::{
        Command,
        tests::{bootstrap, fence_at, move_at, node},
    },
};

pub(super) const VOTERS: usize = 3;
const LEASE_MS: u64 = 1_000;
const MS: u64 = 1_000_000;

struct Site {
    appended: usize,
    applied: usize,
    pending: Pending,
    state: State,
    ceilings: Ceilings,
}

pub(super) struct Broker {
    id: i32,
    region: &'static str,
    pub(super) tenure: Option<Tenure>,
    incarnation: Incarnation,
    sequence: u64,
    starts: [Option<Incarnation>; VOTERS],
    written: u64,
    /// The highest position acknowledged, by any start.
    pub(super) acked: u64,
}

#[derive(Clone)]
pub(super) enum Message {
    Ask {
        voter: usize,
        request: lease::Request,
    },
    Reply {
        voter: usize,
        request: lease::Request,
        answer: Answer,
        start: Incarnation,
    },
}

pub(super) struct World {
    /// False plants the fault: voters take every request for one to their present start.
    starts_count: bool,
    pub(super) log: Vec<Command>,
    committed: usize,
    /// The standing fence's commit, on the mover's clock.
    fenced_ns: Option<u64>,
    sites: Vec<Site>,
    pub(super) brokers: Vec<Broker>,
    pub(super) net: Vec<Message>,
    pub(super) now_ns: u64,
    ids: u128,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Ask {
        broker: usize,
    },
    /// A renewal that these voters hear at once; what goes to the others stays under way.
    Round {
        broker: usize,
        voters: Vec<usize>,
    },
    Deliver {
        message: usize,
        keep: bool,
    },
    Lose {
        message: usize,
    },
    Pass {
        ms: u64,
    },
    Write {
        broker: usize,
        records: u64,
    },
    Replicate {
        voter: usize,
    },
    Apply {
        voter: usize,
    },
    /// Every voter catches up.
    Agree,
    Watch {
        broker: usize,
    },
    RestartVoter {
        voter: usize,
        snapshot: usize,
    },
    RestartBroker {
        broker: usize,
    },
    Fence,
    Move,
}

fn entry(index: usize, command: &Command) -> Entry {
    Entry {
        log_id: LogId::new(CommittedLeaderId::new(1, 1), index as u64),
        payload: EntryPayload::Normal(command.clone()),
    }
}

impl World {
    pub(super) fn new(starts_count: bool) -> Self {
        let east = node(1, "east", 1);
        let west = node(2, "west", 2);
        let broker = |n: &whimbrel_fleet::Node, region| Broker {
            id: n.id.0,
            region,
            tenure: None,
            incarnation: n.incarnation,
            sequence: 0,
            starts: [None; VOTERS],
            written: 0,
            acked: 0,
        };
        let brokers = vec![broker(&east, "east"), broker(&west, "west")];
        let mut world = Self {
            starts_count,
            log: vec![
                bootstrap(),
                Command::RegisterNode { node: east },
                Command::RegisterNode { node: west },
            ],
            committed: 3,
            fenced_ns: None,
            sites: Vec::new(),
            brokers,
            net: Vec::new(),
            now_ns: LEASE_MS * MS,
            ids: 100,
        };
        for _ in 0..VOTERS {
            let site = world.site(3, 3);
            world.sites.push(site);
        }
        world.watch(0);
        world.watch(1);
        world
    }

    fn id(&mut self) -> Incarnation {
        self.ids += 1;
        Incarnation::from_u128(self.ids)
    }

    /// A voter as it comes up with so many entries in its log and a snapshot at `applied`.
    fn site(&mut self, appended: usize, applied: usize) -> Site {
        let pending = Pending::default();
        let mut state = State::default();
        for (at, command) in self.log.iter().take(appended).enumerate() {
            if at < applied {
                state.apply(at as u64, command.clone());
            } else {
                pending.note(&entry(at, command));
            }
        }
        Site {
            appended,
            applied,
            pending,
            state,
            ceilings: Ceilings::new(self.id()),
        }
    }

    fn append(&mut self, command: Command) {
        self.log.push(command);
    }

    fn commit(&mut self) {
        let mut appended: Vec<usize> = self.sites.iter().map(|s| s.appended).collect();
        appended.sort_unstable();
        let committed = appended[VOTERS - majority(VOTERS)].max(self.committed);
        let fresh = self.committed..committed;
        self.committed = committed;
        for command in &self.log[fresh] {
            match command {
                Command::SetFence(_) => self.fenced_ns = Some(self.now_ns),
                Command::Move { .. } => self.fenced_ns = None,
                _ => {}
            }
        }
    }

    /// What a reader of the committed log sees.
    fn view(&self) -> State {
        let mut state = State::default();
        for (at, command) in self.log[..self.committed].iter().enumerate() {
            state.apply(at as u64, command.clone());
        }
        state
    }

    /// The broker takes notice of where the group is at home. It never takes notice of having lost it:
    /// its lease alone has to end what it does.
    fn watch(&mut self, broker: usize) {
        let view = self.view();
        let group = view.group(&GroupName::default_group()).unwrap().clone();
        let now_ns = self.now_ns;
        let b = &mut self.brokers[broker];
        if group.home.as_str() != b.region || group.fence.is_some() {
            return;
        }
        let tenure = b.tenure.get_or_insert_with(|| {
            Tenure::new(group.epoch, LEASE_MS, LossMode::Exact, VOTERS, now_ns)
        });
        tenure.renew_terms(group.epoch, LEASE_MS, LossMode::Exact);
        tenure.rebase_position(at(b.written), view.view.version, now_ns);
    }

    pub(super) fn ask(&mut self, broker: usize) {
        let now_ns = self.now_ns;
        let b = &mut self.brokers[broker];
        let Some(tenure) = &mut b.tenure else { return };
        b.sequence += 1;
        let ceiling = tenure.begin(b.sequence, now_ns);
        for voter in 0..VOTERS {
            let request = lease::Request {
                node: NodeId(b.id),
                incarnation: b.incarnation,
                region: b.region.into(),
                group: GroupName::default_group(),
                epoch: tenure.epoch(),
                ceiling,
                view_version: tenure.view_version(),
                voter_start: b.starts[voter],
            };
            self.net.push(Message::Ask { voter, request });
        }
    }

    pub(super) fn deliver(&mut self, message: Message) {
        match message {
            Message::Ask { voter, mut request } => {
                let site = &self.sites[voter];
                if !self.starts_count {
                    request.voter_start = Some(site.ceilings.start());
                }
                let pending = site.pending.floor(&request.group);
                let fenced = site.pending.fences(request.node, request.incarnation);
                let judged = judge(&site.state, pending, !fenced, &request);
                let answer = site.ceilings.settle(judged, &request, self.now_ns);
                let start = site.ceilings.start();
                self.net.push(Message::Reply {
                    voter,
                    request,
                    answer,
                    start,
                });
            }
            Message::Reply {
                voter,
                request,
                answer,
                start,
            } => {
                let b = &mut self.brokers[usize::from(request.node != NodeId(1))];
                if b.incarnation != request.incarnation {
                    return;
                }
                b.starts[voter] = Some(start);
                if let Some(tenure) = &mut b.tenure {
                    tenure.answer(request.epoch, request.ceiling.sequence, voter, &answer);
                }
            }
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Ask { broker } => self.ask(broker),
            Step::Round { broker, voters } => {
                let waiting = std::mem::take(&mut self.net);
                self.ask(broker);
                self.settle(&voters);
                self.net.extend(waiting);
            }
            Step::Deliver { message, keep } if !self.net.is_empty() => {
                let at = message % self.net.len();
                let message = if keep {
                    self.net[at].clone()
                } else {
                    self.net.swap_remove(at)
                };
                self.deliver(message);
            }
            Step::Lose { message } if !self.net.is_empty() => {
                let at = message % self.net.len();
                self.net.swap_remove(at);
            }
            Step::Deliver { .. } | Step::Lose { .. } => {}
            Step::Pass { ms } => self.now_ns += ms * MS,
            Step::Write { broker, records } => {
                let b = &mut self.brokers[broker];
                b.written += records;
                if let Some(tenure) = &mut b.tenure {
                    tenure.set_position(at(b.written), self.now_ns);
                }
            }
            Step::Replicate { voter } => self.replicate(voter),
            Step::Apply { voter } => self.apply(voter),
            Step::Agree => self.agree(),
            Step::Watch { broker } => self.watch(broker),
            Step::RestartVoter { voter, snapshot } => {
                let (appended, applied) = (self.sites[voter].appended, self.sites[voter].applied);
                self.sites[voter] = self.site(appended, 3 + snapshot % (applied - 2));
            }
            Step::RestartBroker { broker } => {
                let incarnation = self.id();
                let b = &mut self.brokers[broker];
                (b.tenure, b.sequence, b.starts) = (None, 0, [None; VOTERS]);
                b.incarnation = incarnation;
                let (id, region) = (b.id, b.region);
                let mut again = node(id, region, 0);
                again.incarnation = incarnation;
                self.append(Command::RegisterNode { node: again });
            }
            Step::Fence => self.fence(),
            Step::Move => self.make_move(),
        }
    }

    fn replicate(&mut self, voter: usize) {
        let site = &mut self.sites[voter];
        if let Some(command) = self.log.get(site.appended) {
            site.pending.note(&entry(site.appended, command));
            site.appended += 1;
        }
        self.commit();
    }

    fn apply(&mut self, voter: usize) {
        let site = &mut self.sites[voter];
        if site.applied < site.appended.min(self.committed) {
            let command = self.log[site.applied].clone();
            site.state.apply(site.applied as u64, command);
            site.pending.applied(site.applied as u64);
            site.applied += 1;
        }
    }

    fn agree(&mut self) {
        for _ in 0..self.log.len() {
            (0..VOTERS).for_each(|voter| self.replicate(voter));
            (0..VOTERS).for_each(|voter| self.apply(voter));
        }
    }

    fn fence(&mut self) {
        let under_way = self.log.iter().rev().find_map(|c| match c {
            Command::SetFence(_) => Some(true),
            Command::Move { .. } => Some(false),
            _ => None,
        });
        let view = self.view();
        let group = view.group(&GroupName::default_group()).unwrap();
        if under_way != Some(true) && self.committed == self.log.len() {
            let to = if group.home.as_str() == "east" {
                "west"
            } else {
                "east"
            };
            self.append(fence_at(to, group.epoch.0 + 1, false));
        }
    }

    fn make_move(&mut self) {
        let waited_ns = lease::fence_wait_ms(LEASE_MS) * MS;
        let is_due = self
            .fenced_ns
            .is_some_and(|at| self.now_ns >= at + waited_ns);
        let is_asked = matches!(self.log.last(), Some(Command::Move { .. }));
        if is_due && !is_asked {
            let view = self.view();
            let group = view.group(&GroupName::default_group()).unwrap();
            self.append(move_at(group.epoch.0 + 1, vec![]));
        }
    }

    /// Whoever may acknowledge does so, as far as it may; then nothing that was promised is broken.
    pub(super) fn check(&mut self) -> Result<(), String> {
        let now_ns = self.now_ns;
        let mut holders = 0;
        for b in &mut self.brokers {
            let Some(tenure) = b.tenure.as_ref().filter(|t| t.valid_at(now_ns)) else {
                continue;
            };
            holders += 1;
            // What was written before a ceiling below it was asked for waits; what fits is answered.
            if tenure.covers(at(b.written), now_ns) {
                b.acked = b.written;
            }
        }
        if holders > 1 {
            return Err(format!("two holders at {now_ns}"));
        }
        let group = GroupName::default_group();
        for left_out in 0..=VOTERS {
            let answers: BTreeMap<u64, Vec<Held>> = (0..VOTERS)
                .filter(|v| *v != left_out)
                .map(|v| (v as u64, self.sites[v].ceilings.of(&group)))
                .collect();
            for b in &self.brokers {
                let named = reserved(&answers, NodeId(b.id), VOTERS, 0);
                if named.is_some_and(|p| p.records < b.acked) {
                    return Err(format!(
                        "without voter {left_out} the others name {named:?}, and broker {} acknowledged {}",
                        b.id, b.acked
                    ));
                }
            }
        }
        Ok(())
    }

    pub(super) fn run(&mut self, steps: Vec<Step>) -> Result<(), String> {
        for step in steps {
            self.take(step);
            self.check()?;
        }
        Ok(())
    }

    /// Delivers what is under way to and from `voters`, oldest first.
    pub(super) fn settle(&mut self, voters: &[usize]) {
        let mut at = 0;
        while let Some(message) = self.net.get(at) {
            let (Message::Ask { voter, .. } | Message::Reply { voter, .. }) = message;
            if voters.contains(voter) {
                let message = self.net.remove(at);
                self.deliver(message);
            } else {
                at += 1;
            }
        }
    }
}

fn at(records: u64) -> Position {
    Position { records, bytes: 0 }
}
