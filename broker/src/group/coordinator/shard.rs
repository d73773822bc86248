//! The groups and positions of one partition, in one leadership.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};
use whimbrel_wire::ErrorCode;

use super::{
    super::{
        consumer,
        machine::{
            Effect, Group, JoinReply, JoinRequest, Leaver, Now, SyncReply, SyncRequest, Token,
        },
        offsets::{Committed, Offsets, TopicPartition},
        records::Entry,
        store::Topics,
    },
    Clamped, Commit, Committer, Limits, Options,
    begin::Begun,
    elsewhere::{Followed, Report},
    timers::Hearing,
    txn::Undecided,
    work::{Reply, Then, Work},
};
use crate::txn::Admissions;

/// How far the load has come.
#[derive(Clone, Debug)]
pub(super) enum Progress {
    Loading,
    /// With what was set back, at first and to moves of other failover groups.
    Loaded(Vec<Clamped>, Report),
    Closed,
}

pub(super) struct Shard {
    partition: i32,
    epoch: i32,
    pub(super) options: Options,
    pub(super) state: Mutex<Contents>,
    /// Something was queued, or the shard was closed.
    pub(super) stirred: Notify,
    pub(super) progress: watch::Sender<Progress>,
}

#[derive(Default)]
pub(super) struct Contents {
    pub(super) active: bool,
    pub(super) closed: bool,
    pub(super) hearing: Hearing,
    /// Of the lossy move that brought the leadership here, which may have cut groups off.
    pub(super) limits: Option<Arc<Limits>>,
    /// The lossy moves of other failover groups that are to be followed, and those that were.
    pub(super) moves: Vec<Arc<Limits>>,
    pub(super) elsewhere: Vec<Followed>,
    /// Some of them is new: the partition has to begin again.
    pub(super) again: bool,
    pub(super) groups: HashMap<String, Group>,
    pub(super) consumers: HashMap<String, consumer::Group>,
    pub(super) offsets: Offsets,
    pub(super) undecided: Undecided,
    pub(super) admissions: Admissions,
    joins: HashMap<Token, oneshot::Sender<JoinReply>>,
    syncs: HashMap<Token, oneshot::Sender<SyncReply>>,
    next_token: u64,
    pub(super) queue: VecDeque<Work>,
}

impl Shard {
    pub(super) fn new(partition: i32, epoch: i32, options: Options) -> Self {
        Self {
            partition,
            epoch,
            options,
            state: Mutex::default(),
            stirred: Notify::new(),
            progress: watch::Sender::new(Progress::Loading),
        }
    }

    pub(super) fn partition(&self) -> i32 {
        self.partition
    }

    pub(super) fn epoch(&self) -> i32 {
        self.epoch
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.state.lock().active
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    pub(super) fn contents<T>(&self, look: impl FnOnce(&mut Contents) -> T) -> T {
        look(&mut self.state.lock())
    }

    pub(super) async fn loaded(&self) -> Option<Vec<Clamped>> {
        let mut progress = self.progress.subscribe();
        let done = progress
            .wait_for(|progress| !matches!(progress, Progress::Loading))
            .await
            .ok()?;
        match &*done {
            Progress::Loaded(clamped, _) => Some(clamped.clone()),
            Progress::Loading | Progress::Closed => None,
        }
    }

    /// The log was read, and positions were set back: requests are answered from now on.
    pub(super) fn open(
        &self,
        begun: Begun,
        limits: Option<Arc<Limits>>,
        topics: &dyn Topics,
        now: Now,
    ) {
        let Begun {
            loaded,
            clamped,
            elsewhere,
        } = begun;
        let report: Report = elsewhere
            .iter()
            .map(|moved| (moved.limits.id().clone(), moved.clamped.clone()))
            .collect();
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        let rules = &self.options.rules;
        let restored = loaded.groups.into_iter().map(|(id, record)| {
            let group = Group::restore(&id, rules.clone(), record, now);
            (id, group)
        });
        state.groups = restored.collect();
        let consumers = loaded.consumers.into_iter().map(|(id, stored)| {
            let rules = self.rules_of(&id, topics);
            let group = consumer::Group::restore(&id, rules, stored, now);
            (id, group)
        });
        state.consumers = consumers.collect();
        state.offsets = loaded.offsets;
        state.undecided = loaded.undecided;
        state.hearing = Hearing::since(now);
        state.limits = limits;
        state.elsewhere = elsewhere;
        // Unless another move was heard of meanwhile.
        state.active = !state.again;
        drop(state);
        // After a second load the first report stands.
        self.progress.send_modify(|progress| match progress {
            Progress::Loading => *progress = Progress::Loaded(clamped, report),
            Progress::Loaded(_, known) => {
                for (id, clamped) in report {
                    known.entry(id).or_insert(clamped);
                }
            }
            Progress::Closed => {}
        });
    }

    /// The outcome of a write is unknown: everybody is sent away until the log was read again.
    pub(super) fn suspend(&self, error: ErrorCode) {
        self.state.lock().empty(error);
    }

    /// The leadership is over.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.empty(ErrorCode::NOT_COORDINATOR);
        drop(state);
        self.progress.send_replace(Progress::Closed);
        self.stirred.notify_one();
    }

    /// Queues work nobody waits for.
    pub(super) fn push(&self, work: Work) {
        let mut state = self.state.lock();
        // A topic deleted while the partition is being loaded is forgotten afterwards.
        let later = matches!(work, Work::Forget { .. }) && !state.closed;
        if state.active || later {
            if let Work::Marker { marker, .. } = &work {
                // Whoever was admitted before it is behind it in the queue.
                state.admissions.end(marker.producer, marker.strict);
            }
            state.queue.push_back(work);
            drop(state);
            self.stirred.notify_one();
        }
    }

    /// Queues work and waits for its outcome.
    pub(super) async fn enqueue<T>(
        &self,
        work: impl FnOnce(Reply<T>) -> Work,
    ) -> Result<T, ErrorCode> {
        let (reply, done) = oneshot::channel();
        self.push(work(reply));
        done.await.unwrap_or(Err(ErrorCode::NOT_COORDINATOR))
    }

    pub(super) fn join(
        &self,
        group: &str,
        request: JoinRequest,
        suffix: &str,
        topics: &dyn Topics,
        now: Now,
    ) -> oneshot::Receiver<JoinReply> {
        let (sender, waiting) = oneshot::channel();
        let mut state = self.state.lock();
        if !state.active {
            return waiting;
        }
        if self.make_room(&mut state, group) {
            let token = state.token();
            state.joins.insert(token, sender);
            let effects = state
                .group_or_new(group, &self.options, now)
                .join(now, token, request, suffix);
            self.settle(&mut state, group, effects);
        } else {
            self.join_mixed(&mut state, group, (request, suffix), topics, now, sender);
        }
        waiting
    }

    pub(super) fn sync(
        &self,
        group: &str,
        request: SyncRequest,
        topics: &dyn Topics,
        now: Now,
    ) -> oneshot::Receiver<SyncReply> {
        let (sender, waiting) = oneshot::channel();
        let mut state = self.state.lock();
        if state.consumers.contains_key(group) {
            self.sync_mixed(&mut state, group, &request, topics, now, sender);
        } else if state.active {
            let token = state.token();
            state.syncs.insert(token, sender);
            let effects = match state.groups.get_mut(group) {
                Some(group) => group.sync(now, token, request),
                None => {
                    let reply = SyncReply {
                        error: ErrorCode::UNKNOWN_MEMBER_ID,
                        ..SyncReply::default()
                    };
                    vec![Effect::Synced { token, reply }]
                }
            };
            self.settle(&mut state, group, effects);
        }
        waiting
    }

    pub(super) fn heartbeat(
        &self,
        group: &str,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        now: Now,
    ) -> ErrorCode {
        let mut state = self.state.lock();
        if let Some(group) = state.consumers.get_mut(group) {
            return group.heartbeat_classic(now, member_id, instance_id, generation);
        }
        match state.groups.get_mut(group) {
            Some(group) => group.heartbeat(now, member_id, instance_id, generation),
            None => ErrorCode::UNKNOWN_MEMBER_ID,
        }
    }

    pub(super) fn leave(
        &self,
        group: &str,
        leavers: &[Leaver],
        topics: &dyn Topics,
        now: Now,
    ) -> Vec<ErrorCode> {
        let mut state = self.state.lock();
        if let Some(codes) = self.leave_mixed(&mut state, group, leavers, topics) {
            return codes;
        }
        let Some(found) = state.groups.get_mut(group) else {
            return vec![ErrorCode::UNKNOWN_MEMBER_ID; leavers.len()];
        };
        let (codes, effects) = found.leave(now, leavers);
        self.settle(&mut state, group, effects);
        codes
    }

    /// Whether a write can be queued now.
    pub(super) fn check_room(&self, state: &Contents) -> Result<(), ErrorCode> {
        if !state.active {
            Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)
        } else if state.queue.len() >= self.options.max_queued {
            Err(ErrorCode::COORDINATOR_NOT_AVAILABLE)
        } else {
            Ok(())
        }
    }

    pub(super) fn commit(
        &self,
        committer: &Committer,
        commits: Vec<Commit>,
        expire_ms: Option<i64>,
        now: Now,
    ) -> Result<oneshot::Receiver<Result<(), ErrorCode>>, ErrorCode> {
        let mut state = self.state.lock();
        self.check_room(&state)?;
        let name = &committer.group;
        if let Some(group) = state.consumers.get(name) {
            group.check_version(&committer.member_id, committer.knows_epochs)?;
            group.check_commit(&committer.member_id, committer.generation)?;
        } else if let Some(group) = state.groups.get_mut(name) {
            group.check_commit(
                now,
                &committer.member_id,
                committer.instance_id.as_deref(),
                committer.generation,
            )?;
        } else if committer.generation >= 0 {
            return Err(state.without_group(name, committer.knows_epochs));
        }
        let (reply, waiting) = oneshot::channel();
        let entry = |commit: Commit| Entry::Position {
            group: name.clone(),
            at: commit.at,
            committed: Some(Committed {
                offset: commit.offset,
                leader_epoch: commit.leader_epoch,
                metadata: commit.metadata,
                commit_ms: now.wall_ms,
                expire_ms,
                log_offset: -1,
            }),
        };
        let entries = commits.into_iter().map(entry).collect();
        state.queue.push_back(Work::Records {
            entries,
            then: Then::Answer(reply),
        });
        drop(state);
        self.stirred.notify_one();
        Ok(waiting)
    }

    pub(super) fn fetch(
        &self,
        group: &str,
        places: Option<&[TopicPartition]>,
    ) -> Vec<(TopicPartition, Option<Committed>)> {
        let state = self.state.lock();
        match places {
            Some(places) => places
                .iter()
                .map(|at| (at.clone(), state.offsets.get(group, at).cloned()))
                .collect(),
            None => state
                .offsets
                .of(group)
                .map(|(at, committed)| (at.clone(), Some(committed.clone())))
                .collect(),
        }
    }

    /// The record of a group's ticket was written, or could not be.
    pub(super) fn persisted(
        &self,
        id: &str,
        ticket: u64,
        outcome: Result<(), ErrorCode>,
        now: Now,
    ) {
        let mut state = self.state.lock();
        let effects = state
            .groups
            .get_mut(id)
            .map(|group| group.persisted(now, ticket, outcome))
            .unwrap_or_default();
        self.settle(&mut state, id, effects);
    }

    /// Does what a group asked for.
    pub(super) fn settle(&self, state: &mut Contents, id: &str, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Persist { ticket, record } => {
                    let entries = vec![Entry::Group {
                        group: id.to_owned(),
                        record: Some(record),
                    }];
                    let then = Then::Group {
                        group: id.to_owned(),
                        ticket,
                    };
                    state.queue.push_back(Work::Records { entries, then });
                    self.stirred.notify_one();
                }
                reply => state.answer(reply),
            }
        }
        if state.groups.get(id).is_some_and(Group::is_forgettable) {
            state.groups.remove(id);
        }
    }
}

impl Contents {
    fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    /// What a member hears whose group is not here. Clients take GROUP_ID_NOT_FOUND for the end, and join again at the
    /// others; so those that a lossy move may have cut off are not told it.
    fn without_group(&self, id: &str, knows_epochs: bool) -> ErrorCode {
        if self.offsets.contains(id) {
            ErrorCode::UNKNOWN_MEMBER_ID
        } else if !knows_epochs {
            ErrorCode::ILLEGAL_GENERATION
        } else if self.limits.is_some() || !self.elsewhere.is_empty() {
            ErrorCode::UNKNOWN_MEMBER_ID
        } else {
            ErrorCode::GROUP_ID_NOT_FOUND
        }
    }

    fn group_or_new(&mut self, id: &str, options: &Options, now: Now) -> &mut Group {
        self.groups
            .entry(id.to_owned())
            .or_insert_with(|| Group::new(id, options.rules.clone(), now))
    }

    /// A client that hung up meanwhile needs no answer.
    pub(super) fn answer(&mut self, effect: Effect) {
        match effect {
            Effect::Joined { token, reply } => {
                if let Some(waiting) = self.joins.remove(&token) {
                    let _ = waiting.send(reply);
                }
            }
            Effect::Synced { token, reply } => {
                if let Some(waiting) = self.syncs.remove(&token) {
                    let _ = waiting.send(reply);
                }
            }
            Effect::Persist { .. } => {}
        }
    }

    /// Sends everybody away.
    fn empty(&mut self, error: ErrorCode) {
        self.active = false;
        self.consumers.clear();
        for (_, mut group) in std::mem::take(&mut self.groups) {
            for effect in group.close(ErrorCode::NOT_COORDINATOR) {
                self.answer(effect);
            }
        }
        let (kept, refused) = std::mem::take(&mut self.queue)
            .into_iter()
            .partition(|work| matches!(work, Work::Forget { .. }));
        self.queue = kept;
        VecDeque::into_iter(refused).for_each(|work| work.refuse(error));
        self.offsets = Offsets::default();
        self.undecided = Undecided::default();
        self.admissions = Admissions::default();
    }
}
