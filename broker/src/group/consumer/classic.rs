//! Members that still speak the classic protocol.
//!
//! They join, sync and beat as ever; what they get is this group's: the member's epoch stands for the generation, what
//! it may use for the assignment, and nobody among them leads. REBALANCE_IN_PROGRESS makes a member join again when
//! there is something new for it, and it must then come within its rebalance timeout.
//! Source of the rules: KIP-848 and Kafka's observable behaviour.

use bytes::Bytes;
use whimbrel_wire::ErrorCode;

use super::{Assignment, Change, Classic, Group, Heartbeat, Member, MemberState, Now};
use crate::group::{
    embedded::{CONSUMER, Given, Subscription},
    machine::{JoinReply, JoinRequest, Leaver, Protocol, SyncReply, SyncRequest},
    store::Topics,
};

impl Group {
    /// Whether there are members, all of the classic protocol.
    #[must_use]
    pub fn is_classic(&self) -> bool {
        !self.members.is_empty() && self.members.values().all(Member::is_classic)
    }

    /// A JoinGroup, to be answered once the changes are durable; `suffix` makes an id unique should one be handed out.
    ///
    /// # Errors
    /// The answer, if nothing has changed.
    pub fn join_classic(
        &mut self,
        now: Now,
        request: JoinRequest,
        suffix: &str,
        topics: &dyn Topics,
    ) -> Result<(JoinReply, Vec<Change>), Box<JoinReply>> {
        let asked_as = request.member_id.clone();
        let refused = |error| Box::new(JoinReply::failed(error, &asked_as));
        let subscription = self.subscription_of(&request).map_err(refused)?;
        let id = match (&request.instance_id, asked_as.is_empty()) {
            (_, false) => asked_as.clone(),
            (Some(instance), true) => format!("{instance}-{suffix}"),
            (None, true) => format!("{}-{suffix}", request.client_id),
        };
        if asked_as.is_empty() && request.instance_id.is_none() && request.require_known_member_id {
            return Err(Box::new(JoinReply::failed(
                ErrorCode::MEMBER_ID_REQUIRED,
                &id,
            )));
        }
        let protocol = request.protocols.first().map(|p| p.name.clone());
        let heartbeat = heartbeat(request, id.clone(), subscription, topics);
        let heartbeat = Heartbeat {
            epoch: self
                .members
                .get(&id)
                .map_or(0, |member| member.epoch.max(0)),
            ..heartbeat
        };
        self.check(&heartbeat).map_err(|why| refused(why.code))?;
        let mut out = Vec::new();
        self.step(now, &heartbeat, topics, &mut out)
            .map_err(|why| refused(why.code))?;
        let mut generation = -1;
        if let Some(member) = self.members.get_mut(&id) {
            generation = member.epoch;
            member.begin_session(now, &self.rules);
            // It is to sync now.
            member.begin_revoking(now);
            self.wake_ms = self.wake_ms.min(member.next_deadline_ms());
        }
        let reply = JoinReply {
            generation,
            protocol_type: Some(CONSUMER.to_owned()),
            protocol,
            member_id: id,
            ..JoinReply::default()
        };
        Ok((reply, out))
    }

    /// What a joining consumer reads and holds, if it can be in one group with the others.
    fn subscription_of(&self, request: &JoinRequest) -> Result<Subscription, ErrorCode> {
        let first = request.protocols.first();
        let first = first.filter(|_| request.protocol_type == CONSUMER);
        let classic: Vec<_> = self
            .members
            .values()
            .filter_map(|member| member.profile.classic.as_ref())
            .collect();
        let common = |p: &Protocol| classic.iter().all(|c| c.offers(&p.name));
        if !request.protocols.iter().any(common) {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        first
            .and_then(|p| Subscription::read(&p.metadata))
            .ok_or(ErrorCode::INCONSISTENT_GROUP_PROTOCOL)
    }

    /// A SyncGroup; what it rests on may still be on its way to the log.
    pub fn sync_classic(
        &mut self,
        now: Now,
        request: &SyncRequest,
        topics: &dyn Topics,
    ) -> SyncReply {
        let instance = request.instance_id.as_deref();
        let outcome = self
            .classic_member(&request.member_id, instance, request.generation)
            .and_then(|member| {
                let said = member.profile.classic.clone().unwrap_or_default();
                let protocol = said.protocols.first().cloned().unwrap_or_default();
                let other = |name: &Option<String>, own: &str| {
                    name.as_deref().is_some_and(|name| name != own)
                };
                if other(&request.protocol_type, CONSUMER)
                    || other(&request.protocol, &protocol.name)
                {
                    return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
                }
                // Who still has to give up something has joined for that, and joins again when it has.
                let late = self.epoch > member.epoch && member.state != MemberState::Unrevoked;
                Ok((late, protocol, assignment(&member.assigned, &said, topics)))
            });
        let failed = |error| SyncReply {
            error,
            ..SyncReply::default()
        };
        match outcome {
            Err(error) => failed(error),
            Ok((true, ..)) => {
                self.summon(now, &request.member_id);
                failed(ErrorCode::REBALANCE_IN_PROGRESS)
            }
            Ok((false, protocol, assignment)) => {
                if let Some(member) = self.members.get_mut(&request.member_id) {
                    member.begin_session(now, &self.rules);
                    if member.state != MemberState::Unrevoked {
                        member.revoke_deadline_ms = None;
                    }
                }
                SyncReply {
                    error: ErrorCode::NONE,
                    protocol_type: Some(CONSUMER.to_owned()),
                    protocol: Some(protocol.name),
                    assignment,
                }
            }
        }
    }

    /// A Heartbeat: NONE, or what the member must do about it.
    pub fn heartbeat_classic(
        &mut self,
        now: Now,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> ErrorCode {
        let member = match self.classic_member(member_id, instance_id, generation) {
            Ok(member) => member,
            Err(error) => return error,
        };
        let news = match member.state {
            _ if member.epoch < self.epoch => true,
            MemberState::Unrevoked => true,
            MemberState::Unreleased => !self.waits(member),
            MemberState::Stable => false,
        };
        if let Some(member) = self.members.get_mut(member_id) {
            member.begin_session(now, &self.rules);
        }
        if news {
            self.summon(now, member_id);
            return ErrorCode::REBALANCE_IN_PROGRESS;
        }
        ErrorCode::NONE
    }

    /// A LeaveGroup: one code for each, and the changes.
    pub fn leave_classic(
        &mut self,
        leavers: &[Leaver],
        topics: &dyn Topics,
    ) -> (Vec<ErrorCode>, Vec<Change>) {
        let mut out = Vec::new();
        let mut codes = Vec::with_capacity(leavers.len());
        for leaver in leavers {
            let found = self.leaver(leaver);
            codes.push(found.as_ref().err().copied().unwrap_or_default());
            if let Ok(id) = found {
                self.fence(&id, &mut out);
            }
        }
        if !out.is_empty() {
            self.without_them(topics, &mut out);
        }
        (codes, out)
    }

    fn leaver(&self, leaver: &Leaver) -> Result<String, ErrorCode> {
        let id = match (&leaver.instance_id, leaver.member_id.is_empty()) {
            // An operator removes whoever has the name.
            (Some(instance), true) => self
                .statics
                .get(instance)
                .ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?,
            (Some(instance), false) => {
                let checked = self.check_instance(instance, &leaver.member_id);
                checked.map_err(|why| why.code)?;
                &leaver.member_id
            }
            (None, _) => &leaver.member_id,
        };
        let classic = self.members.get(id).is_some_and(Member::is_classic);
        if classic {
            Ok(id.clone())
        } else {
            Err(ErrorCode::UNKNOWN_MEMBER_ID)
        }
    }

    fn classic_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<&Member, ErrorCode> {
        if let Some(instance) = instance_id {
            let checked = self.check_instance(instance, member_id);
            checked.map_err(|why| why.code)?;
        }
        let member = self.members.get(member_id);
        let member = member
            .filter(|member| member.is_classic())
            .ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if member.epoch == generation {
            Ok(member)
        } else {
            Err(ErrorCode::ILLEGAL_GENERATION)
        }
    }

    /// Whether others still hold something that the member is to have.
    fn waits(&self, member: &Member) -> bool {
        let target = self.target.get(&member.id);
        let mut places = target.into_iter().flat_map(Assignment::iter);
        places.any(|place| self.owners.get(&place).is_some_and(|id| *id != member.id))
    }

    /// The member is told to join again, and has its rebalance timeout for it.
    fn summon(&mut self, now: Now, id: &str) {
        if let Some(member) = self.members.get_mut(id)
            && member.revoke_deadline_ms.is_none()
        {
            member.begin_revoking(now);
            self.wake_ms = self.wake_ms.min(member.next_deadline_ms());
        }
    }
}

impl Classic {
    pub(super) fn offers(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|p| p.name == protocol)
    }

    /// The version in which the member writes and reads what it prefers.
    fn version(&self) -> i16 {
        let first = self.protocols.first();
        let read = first.and_then(|p| Subscription::read(&p.metadata));
        read.map_or(0, |subscription| subscription.version)
    }
}

/// A join as the heartbeat that it stands for.
fn heartbeat(
    request: JoinRequest,
    member_id: String,
    subscription: Subscription,
    topics: &dyn Topics,
) -> Heartbeat {
    let owned = subscription.owned.iter();
    let owned = owned.filter_map(|(topic, partition)| Some((topics.id(topic)?, *partition)));
    // Slices would keep the whole request alive as long as the member.
    let protocols = request.protocols.iter().map(|p| Protocol {
        name: p.name.clone(),
        metadata: Bytes::copy_from_slice(&p.metadata),
    });
    let classic = Classic {
        session_timeout_ms: request.session_timeout_ms,
        protocols: protocols.collect(),
    };
    let patience_ms = match request.rebalance_timeout_ms {
        ..0 => request.session_timeout_ms,
        given_ms => given_ms,
    };
    Heartbeat {
        member_id,
        instance_id: request.instance_id,
        rack_id: subscription.rack_id,
        client_id: request.client_id,
        client_host: request.client_host,
        rebalance_timeout_ms: Some(patience_ms),
        owned: Some(owned.collect()),
        topics: Some(subscription.topics),
        regex: Some(String::new()),
        classic: Some(classic),
        ..Heartbeat::default()
    }
}

/// Partitions as a member of the classic protocol is told of them. A topic that is gone has no name.
pub(super) fn assignment(places: &Assignment, said: &Classic, topics: &dyn Topics) -> Bytes {
    let named = places
        .iter()
        .filter_map(|(topic, partition)| Some((topics.name(topic)?, partition)));
    let given = Given {
        places: named.collect(),
        has_notes: false,
    };
    given.write(said.version())
}
