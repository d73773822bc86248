//! JoinGroup: who may come in, and under which id.

use bytes::Bytes;
use whimbrel_wire::ErrorCode;

use super::{
    Effect, Group, JoinReply, JoinRequest, Member, NEW_MEMBER_JOIN_TIMEOUT_MS, Now, Protocol,
    State, Token, Write,
};
use crate::group::MOST_OF_AN_ID;

impl Group {
    /// A JoinGroup; `suffix` makes an id unique should one be handed out.
    pub fn join(
        &mut self,
        now: Now,
        token: Token,
        mut request: JoinRequest,
        suffix: &str,
    ) -> Vec<Effect> {
        let mut out = Vec::new();
        if request.rebalance_timeout_ms < 0 {
            request.rebalance_timeout_ms = request.session_timeout_ms;
        }
        for protocol in &mut request.protocols {
            // A slice would keep the whole request alive as long as the member.
            protocol.metadata = Bytes::copy_from_slice(&protocol.metadata);
        }
        let member_id = request.member_id.clone();
        let outcome = self.check_join(&request).and_then(|()| {
            if member_id.is_empty() {
                self.join_without_id(now, token, request, suffix, &mut out)
            } else {
                self.join_with_id(now, token, request, &mut out)
            }
        });
        if let Err(error) = outcome {
            out.push(Effect::Joined {
                token,
                reply: JoinReply::failed(error, &member_id),
            });
        }
        self.try_complete_join(now, &mut out);
        self.refresh_wake();
        out
    }

    fn check_join(&mut self, request: &JoinRequest) -> Result<(), ErrorCode> {
        let bytes: usize = request
            .protocols
            .iter()
            .map(|p| p.metadata.len() + p.name.len())
            .sum();
        let instance = request.instance_id.as_ref().map_or(0, String::len);
        if instance.max(request.protocol_type.len()) > MOST_OF_AN_ID
            || request.protocols.len() > self.rules.max_protocols
            || bytes > self.rules.max_member_metadata_bytes
        {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        let sessions = self.rules.min_session_timeout_ms..=self.rules.max_session_timeout_ms;
        if !sessions.contains(&request.session_timeout_ms) {
            return Err(ErrorCode::INVALID_SESSION_TIMEOUT);
        }
        if self.state == State::Dead {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        if !self.has_room_for(request) {
            return Err(ErrorCode::GROUP_MAX_SIZE_REACHED);
        }
        if !self.offers_common_protocol(request) {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        Ok(())
    }

    fn has_room_for(&self, request: &JoinRequest) -> bool {
        let max = self.rules.max_size;
        let returns = self.members.contains_key(&request.member_id)
            || request
                .instance_id
                .as_ref()
                .is_some_and(|id| self.statics.contains_key(id));
        if returns {
            return true;
        }
        if request.member_id.is_empty()
            && request.instance_id.is_none()
            && self.pending.len() >= max
        {
            return false;
        }
        self.members.len() < max
    }

    fn offers_common_protocol(&self, request: &JoinRequest) -> bool {
        if request.protocol_type.is_empty() || request.protocols.is_empty() {
            return false;
        }
        if self.members.is_empty() {
            return true;
        }
        self.protocol_type.as_deref() == Some(request.protocol_type.as_str())
            && request
                .protocols
                .iter()
                .any(|p| self.members.values().all(|m| m.offers(&p.name)))
    }

    fn join_without_id(
        &mut self,
        now: Now,
        token: Token,
        request: JoinRequest,
        suffix: &str,
        out: &mut Vec<Effect>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance) = &request.instance_id {
            let id = format!("{instance}-{suffix}");
            if let Some(old) = self.statics.get(instance).cloned() {
                self.replace_static(now, token, request, &old, &id, out);
            } else {
                self.add(now, token, request, id, out);
            }
            return Ok(());
        }
        let id = format!("{}-{suffix}", request.client_id);
        if !request.require_known_member_id {
            self.add(now, token, request, id, out);
            return Ok(());
        }
        let deadline_ms = now
            .mono_ms
            .saturating_add(i64::from(request.session_timeout_ms));
        self.pending.insert(id.clone(), deadline_ms);
        out.push(Effect::Joined {
            token,
            reply: JoinReply::failed(ErrorCode::MEMBER_ID_REQUIRED, &id),
        });
        Ok(())
    }

    fn join_with_id(
        &mut self,
        now: Now,
        token: Token,
        request: JoinRequest,
        out: &mut Vec<Effect>,
    ) -> Result<(), ErrorCode> {
        let id = request.member_id.clone();
        if self.pending.contains_key(&id) {
            if request.instance_id.is_some() {
                // Ids are handed out ahead to dynamic members only.
                return Err(ErrorCode::UNKNOWN_MEMBER_ID);
            }
            self.pending.remove(&id);
            self.add(now, token, request, id, out);
            return Ok(());
        }
        self.known(&id, request.instance_id.as_deref())?;
        let Some(member) = self.members.get(&id) else {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        };
        let unchanged = member.protocols == request.protocols;
        let leads = self.leader.as_deref() == Some(id.as_str());
        match self.state {
            State::PreparingRebalance => self.rejoin(now, token, request, out),
            // A lost answer is given again; the round goes on.
            State::CompletingRebalance if unchanged => self.answer_current(now, token, &id, out),
            // The leader of a stable group joins to change its assignment.
            State::Stable if unchanged && !leads => self.answer_current(now, token, &id, out),
            State::CompletingRebalance | State::Stable => self.rejoin(now, token, request, out),
            State::Empty | State::Dead => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
        }
        Ok(())
    }

    fn answer_current(&mut self, now: Now, token: Token, id: &str, out: &mut Vec<Effect>) {
        self.touch(id, now);
        out.push(Effect::Joined {
            token,
            reply: self.join_reply(id),
        });
    }

    fn add(
        &mut self,
        now: Now,
        token: Token,
        request: JoinRequest,
        id: String,
        out: &mut Vec<Effect>,
    ) {
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type);
        }
        if self.state == State::PreparingRebalance && self.initial_left_ms.is_some() {
            self.joined_during_delay = true;
        }
        if let Some(instance) = &request.instance_id {
            self.statics.insert(instance.clone(), id.clone());
        }
        let member = Member {
            id: id.clone(),
            instance_id: request.instance_id,
            client_id: request.client_id,
            client_host: request.client_host,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols,
            assignment: Bytes::new(),
            awaiting_join: Some(token),
            awaiting_sync: None,
            is_new: true,
            deadline_ms: now.mono_ms.saturating_add(NEW_MEMBER_JOIN_TIMEOUT_MS),
            was_spared: false,
        };
        self.leader.get_or_insert_with(|| id.clone());
        self.members.insert(id, member);
        self.prepare_rebalance(now, out);
    }

    fn rejoin(&mut self, now: Now, token: Token, request: JoinRequest, out: &mut Vec<Effect>) {
        if let Some(member) = self.members.get_mut(&request.member_id) {
            // The same member asks twice: only the newer request can still reach it, but both are answered.
            if let Some(older) = member.awaiting_join.replace(token) {
                let reply = JoinReply::failed(ErrorCode::REBALANCE_IN_PROGRESS, &request.member_id);
                out.push(Effect::Joined {
                    token: older,
                    reply,
                });
            }
            member.update(
                request.protocols,
                request.rebalance_timeout_ms,
                request.session_timeout_ms,
            );
        }
        // A member that waits for its first round keeps the time that newcomers have: the round may begin later than
        // its session would end.
        if self
            .members
            .get(&request.member_id)
            .is_some_and(|member| !member.is_new)
        {
            self.touch(&request.member_id, now);
        }
        self.prepare_rebalance(now, out);
    }

    /// A static member came back without its id: it takes its place under a new one, and the old id is fenced.
    fn replace_static(
        &mut self,
        now: Now,
        token: Token,
        request: JoinRequest,
        old: &str,
        id: &str,
        out: &mut Vec<Effect>,
    ) {
        let Some(mut member) = self.members.remove(old) else {
            return;
        };
        member.answer(old, ErrorCode::FENCED_INSTANCE_ID, out);
        member.id = id.to_owned();
        member.is_new = false;
        member.client_id = request.client_id;
        member.client_host = request.client_host;
        let before = member.metadata(self.protocol.as_deref().unwrap_or_default());
        member.update(
            request.protocols,
            request.rebalance_timeout_ms,
            request.session_timeout_ms,
        );
        let after = member.metadata(self.protocol.as_deref().unwrap_or_default());
        let was_leader = self.leader.as_deref() == Some(old);
        if was_leader {
            self.leader = Some(id.to_owned());
        }
        if let Some(instance) = &member.instance_id {
            self.statics.insert(instance.clone(), id.to_owned());
        }
        if self.unsynced.remove(old) {
            self.unsynced.insert(id.to_owned());
        }
        self.members.insert(id.to_owned(), member);
        self.touch(id, now);
        let keeps_round = self.state == State::Stable
            && before == after
            && self.select_protocol() == self.protocol;
        if !keeps_round {
            if let Some(member) = self.members.get_mut(id) {
                member.awaiting_join = Some(token);
            }
            self.prepare_rebalance(now, out);
            return;
        }
        let mut reply = self.join_reply(id);
        if was_leader && request.supports_skipping_assignment {
            reply.skip_assignment = true;
        } else if was_leader {
            // Told that the old id leads, it takes over the assignment instead of making one.
            reply.leader = old.to_owned();
            reply.members = Vec::new();
        }
        let record = self.record();
        self.write(Write::Replacement { token, reply }, record, out);
    }
}

impl Member {
    fn update(
        &mut self,
        protocols: Vec<Protocol>,
        rebalance_timeout_ms: i32,
        session_timeout_ms: i32,
    ) {
        self.protocols = protocols;
        self.rebalance_timeout_ms = rebalance_timeout_ms;
        self.session_timeout_ms = session_timeout_ms;
    }
}
