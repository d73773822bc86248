//! Groups with members of both protocols: a group of consumers passes to the consumer protocol when a member joins by
//! it, and back when the last such member has gone (Kafka's `group.consumer.migration.policy=bidirectional`).

use tokio::sync::oneshot;
use whimbrel_wire::ErrorCode;

use super::{
    super::{
        consumer::{self, Change, Heartbeat, Refusal, Reply},
        machine::{Group, JoinReply, JoinRequest, Leaver, Now, State, SyncReply, SyncRequest},
        records::Entry,
        store::Topics,
    },
    shard::{Contents, Shard},
    work::{Then, Work},
};

impl Shard {
    /// A group of classic members with one that joins by the consumer protocol. None if there is no such group.
    pub(super) fn take_over(
        &self,
        state: &mut Contents,
        id: &str,
        request: &Heartbeat,
        topics: &dyn Topics,
        now: Now,
    ) -> Option<Result<(Reply, Vec<Entry>), Refusal>> {
        let old = state.groups.get(id)?;
        if old.state() == State::Empty {
            return None;
        }
        let rules = self.rules_of(id, topics);
        let Some((mut group, mut changes)) = consumer::Group::from_classic(old, rules, topics, now)
        else {
            return Some(Err(Refusal::new(
                ErrorCode::GROUP_ID_NOT_FOUND,
                format!(
                    "Group {id} is not a group of consumers that can pass to the consumer protocol."
                ),
            )));
        };
        let (answer, more) = match group.heartbeat(now, request.clone(), topics) {
            Ok(outcome) => outcome,
            Err(refusal) => return Some(Err(refusal)),
        };
        tracing::info!(
            group = id,
            "a group passes to the consumer protocol with its members"
        );
        changes.extend(more);
        if let Some(mut old) = state.groups.remove(id) {
            // Whoever is parked joins again and finds the group as it is now.
            for effect in old.close(ErrorCode::REBALANCE_IN_PROGRESS) {
                state.answer(effect);
            }
        }
        state.consumers.insert(id.to_owned(), group);
        let gone = Entry::Group {
            group: id.to_owned(),
            record: None,
        };
        let entries = [gone].into_iter().chain(entries(id, changes));
        Some(Ok((answer, entries.collect())))
    }

    /// A group that has only classic members left is one of that protocol again; they all join it anew.
    pub(super) fn hand_back(&self, state: &mut Contents, id: &str, topics: &dyn Topics, now: Now) {
        let group = state.consumers.get(id);
        let Some(group) = group.filter(|group| group.is_classic()) else {
            return;
        };
        tracing::info!(group = id, "a group passes back to the classic protocol");
        let (record, changes) = group.to_classic(topics, now);
        state.consumers.remove(id);
        let kept = Entry::Group {
            group: id.to_owned(),
            record: Some(record.clone()),
        };
        state.queue.push_back(Work::Records {
            entries: entries(id, changes).chain([kept]).collect(),
            then: Then::Nothing,
        });
        self.stirred.notify_one();
        let mut group = Group::restore(id, self.options.rules.clone(), record, now);
        let effects = group.begin_again(now);
        state.groups.insert(id.to_owned(), group);
        self.settle(state, id, effects);
    }

    /// A JoinGroup where the group is one of the consumer protocol.
    pub(super) fn join_mixed(
        &self,
        state: &mut Contents,
        id: &str,
        (request, suffix): (JoinRequest, &str),
        topics: &dyn Topics,
        now: Now,
        reply: oneshot::Sender<JoinReply>,
    ) {
        let rules = &self.options.rules;
        let sessions = rules.min_session_timeout_ms..=rules.max_session_timeout_ms;
        let failed = |error| Box::new(JoinReply::failed(error, &request.member_id));
        let outcome = if let Err(error) = self.check_room(state) {
            Err(failed(error))
        } else if !sessions.contains(&request.session_timeout_ms) {
            Err(failed(ErrorCode::INVALID_SESSION_TIMEOUT))
        } else if request.protocols.len() > rules.max_protocols {
            Err(failed(ErrorCode::INVALID_REQUEST))
        } else if let Some(group) = state.consumers.get_mut(id) {
            group.join_classic(now, request, suffix, topics)
        } else {
            Err(failed(ErrorCode::UNKNOWN_MEMBER_ID))
        };
        match outcome {
            Ok((answer, changes)) => {
                self.queue_changes(state, id, changes, Then::Joined { answer, reply });
                self.hand_back(state, id, topics, now);
            }
            // A client that hung up meanwhile needs no answer.
            Err(answer) => drop(reply.send(*answer)),
        }
    }

    /// A SyncGroup likewise.
    pub(super) fn sync_mixed(
        &self,
        state: &mut Contents,
        id: &str,
        request: &SyncRequest,
        topics: &dyn Topics,
        now: Now,
        reply: oneshot::Sender<SyncReply>,
    ) {
        let Some(group) = state.consumers.get_mut(id) else {
            return;
        };
        let answer = group.sync_classic(now, request, topics);
        // Behind what it rests on.
        self.queue_changes(state, id, Vec::new(), Then::Synced { answer, reply });
    }

    /// A LeaveGroup likewise.
    pub(super) fn leave_mixed(
        &self,
        state: &mut Contents,
        id: &str,
        leavers: &[Leaver],
        topics: &dyn Topics,
    ) -> Option<Vec<ErrorCode>> {
        let (codes, changes) = state.consumers.get_mut(id)?.leave_classic(leavers, topics);
        if !changes.is_empty() {
            self.queue_changes(state, id, changes, Then::Nothing);
        }
        Some(codes)
    }
}

fn entries(id: &str, changes: Vec<Change>) -> impl Iterator<Item = Entry> {
    changes.into_iter().map(move |change| Entry::Consumer {
        group: id.to_owned(),
        change,
    })
}
