//! The round of a rebalance: begin, wait for everybody, choose the protocol, hand out the generation.

use std::collections::BTreeSet;

use whimbrel_wire::ErrorCode;

use super::{Effect, Group, JoinReply, JoinedMember, Now, State, Write};

impl Group {
    /// A group that was another coordinator's or protocol's until now: its members are to join again.
    pub fn begin_again(&mut self, now: Now) -> Vec<Effect> {
        let mut out = Vec::new();
        self.prepare_rebalance(now, &mut out);
        self.refresh_wake();
        out
    }

    /// Asks all members to join again, unless they are asked already.
    pub(super) fn prepare_rebalance(&mut self, now: Now, out: &mut Vec<Effect>) {
        match self.state {
            State::PreparingRebalance | State::Dead => return,
            State::CompletingRebalance => {
                self.drop_assignments(ErrorCode::REBALANCE_IN_PROGRESS, now, out)
            }
            State::Empty | State::Stable => {}
        }
        // Who was told to wait for an assignment of a stable group and is parked no longer gets one.
        for member in self.members.values_mut() {
            member.answer_sync(ErrorCode::REBALANCE_IN_PROGRESS, out);
        }
        let delay_ms = i64::from(self.rules.initial_rebalance_delay_ms.max(0));
        let rebalance_ms = self.rebalance_timeout_ms();
        if self.state == State::Empty && delay_ms > 0 {
            self.initial_left_ms = Some(rebalance_ms.saturating_sub(delay_ms).max(0));
            self.join_deadline_ms = Some(now.mono_ms.saturating_add(delay_ms));
        } else {
            self.initial_left_ms = None;
            self.join_deadline_ms = Some(now.mono_ms.saturating_add(rebalance_ms));
        }
        self.joined_during_delay = false;
        self.unsynced.clear();
        self.sync_deadline_ms = None;
        self.enter(State::PreparingRebalance, now);
    }

    fn rebalance_timeout_ms(&self) -> i64 {
        self.members
            .values()
            .map(|member| i64::from(member.rebalance_timeout_ms))
            .max()
            .unwrap_or(0)
    }

    /// The assignment of this round comes to nothing; who waits for it is told so.
    pub(super) fn drop_assignments(&mut self, error: ErrorCode, now: Now, out: &mut Vec<Effect>) {
        let mut heard = Vec::new();
        for (id, member) in &mut self.members {
            member.assignment.clear();
            if member.awaiting_sync.is_some() {
                member.answer_sync(error, out);
                heard.push(id.clone());
            }
        }
        for id in heard {
            self.touch(&id, now);
        }
    }

    /// Completes the join phase if everybody has come.
    pub(super) fn try_complete_join(&mut self, now: Now, out: &mut Vec<Effect>) {
        let waiting = self.state == State::PreparingRebalance && self.initial_left_ms.is_none();
        let all_came = self
            .members
            .values()
            .all(|member| member.awaiting_join.is_some());
        if waiting && all_came && self.pending.is_empty() {
            self.complete_join(now, out);
        }
    }

    /// The join phase's time is up.
    pub(super) fn join_deadline_passed(&mut self, now: Now, out: &mut Vec<Effect>) {
        if let Some(left_ms) = self.initial_left_ms
            && self.joined_during_delay
            && left_ms > 0
        {
            let delay_ms = i64::from(self.rules.initial_rebalance_delay_ms).min(left_ms);
            self.initial_left_ms = Some(left_ms - delay_ms);
            self.joined_during_delay = false;
            self.join_deadline_ms = Some(now.mono_ms.saturating_add(delay_ms));
            return;
        }
        self.complete_join(now, out);
    }

    fn complete_join(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.initial_left_ms = None;
        let absent: Vec<_> = self
            .members
            .values()
            .filter(|member| member.awaiting_join.is_none() && member.instance_id.is_none())
            .map(|member| member.id.clone())
            .collect();
        for id in absent {
            self.remove(&id, ErrorCode::UNKNOWN_MEMBER_ID, out);
        }
        if !self.elect_present_leader() {
            // Static members only, none of them here: they get another round before their sessions end.
            let wait_ms = self.rebalance_timeout_ms().max(1);
            self.join_deadline_ms = Some(now.mono_ms.saturating_add(wait_ms));
            return;
        }
        self.join_deadline_ms = None;
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.become_empty(now, out);
            return;
        }
        self.protocol = self.select_protocol();
        self.enter(State::CompletingRebalance, now);
        self.sync_deadline_ms = Some(now.mono_ms.saturating_add(self.rebalance_timeout_ms()));
        self.unsynced = self.members.keys().cloned().collect();
        let present: Vec<_> = self
            .members
            .iter_mut()
            .filter_map(|(id, member)| member.awaiting_join.take().map(|token| (id.clone(), token)))
            .collect();
        for (id, token) in present {
            if let Some(member) = self.members.get_mut(&id) {
                member.is_new = false;
            }
            self.touch(&id, now);
            out.push(Effect::Joined {
                token,
                reply: self.join_reply(&id),
            });
        }
    }

    fn become_empty(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.protocol = None;
        self.leader = None;
        self.unsynced = BTreeSet::new();
        self.sync_deadline_ms = None;
        self.enter(State::Empty, now);
        let record = self.record();
        self.write(Write::Empty, record, out);
    }

    /// Makes sure that the leader has joined; false if there are members but none that has.
    fn elect_present_leader(&mut self) -> bool {
        let present = |id: &String| {
            self.members
                .get(id)
                .is_some_and(|m| m.awaiting_join.is_some())
        };
        if self.members.is_empty() || self.leader.as_ref().is_some_and(present) {
            return true;
        }
        let candidate = self.members.keys().find(|id| present(id)).cloned();
        let found = candidate.is_some();
        if found {
            self.leader = candidate;
        }
        found
    }

    /// The protocol that all offer and most prefer; a tie goes to the leader's preference.
    pub(super) fn select_protocol(&self) -> Option<String> {
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id))?;
        let common: Vec<&str> = leader
            .protocols
            .iter()
            .map(|p| p.name.as_str())
            .filter(|name| self.members.values().all(|member| member.offers(name)))
            .collect();
        let mut votes = vec![0_usize; common.len()];
        for member in self.members.values() {
            let choice = member
                .protocols
                .iter()
                .find_map(|p| common.iter().position(|name| *name == p.name));
            if let Some(count) = choice.and_then(|choice| votes.get_mut(choice)) {
                *count += 1;
            }
        }
        let most = votes.iter().copied().max()?;
        let winner = votes.iter().position(|count| *count == most)?;
        common.get(winner).map(|name| (*name).to_owned())
    }

    /// The answer to a member of the current generation.
    pub(super) fn join_reply(&self, id: &str) -> JoinReply {
        let leads = self.leader.as_deref() == Some(id);
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self
            .members
            .values()
            .filter(|_| leads)
            .map(|member| JoinedMember {
                member_id: member.id.clone(),
                instance_id: member.instance_id.clone(),
                metadata: member.metadata(protocol).unwrap_or_default(),
            });
        JoinReply {
            error: ErrorCode::NONE,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: id.to_owned(),
            members: members.collect(),
        }
    }

    /// Takes a member out; the round is the caller's business.
    pub(super) fn remove(&mut self, id: &str, error: ErrorCode, out: &mut Vec<Effect>) {
        let Some(mut member) = self.members.remove(id) else {
            return;
        };
        member.answer(id, error, out);
        self.unsynced.remove(id);
        if let Some(instance) = &member.instance_id
            && self
                .statics
                .get(instance)
                .is_some_and(|current| current == id)
        {
            self.statics.remove(instance);
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// Takes a member out and lets the others go on without it.
    pub(super) fn remove_and_rebalance(&mut self, id: &str, now: Now, out: &mut Vec<Effect>) {
        self.remove(id, ErrorCode::UNKNOWN_MEMBER_ID, out);
        if matches!(self.state, State::Stable | State::CompletingRebalance) {
            self.prepare_rebalance(now, out);
        }
    }
}
