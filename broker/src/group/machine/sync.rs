//! SyncGroup, and what happens when the leader's assignment has become durable.

use std::collections::BTreeMap;

use bytes::Bytes;
use whimbrel_wire::ErrorCode;

use super::{Effect, Group, JoinReply, Now, State, SyncReply, SyncRequest, Token, Write};

impl Group {
    /// A SyncGroup.
    pub fn sync(&mut self, now: Now, token: Token, request: SyncRequest) -> Vec<Effect> {
        let mut out = Vec::new();
        if let Err(error) = self.try_sync(now, token, request, &mut out) {
            out.push(Effect::Synced {
                token,
                reply: SyncReply {
                    error,
                    ..SyncReply::default()
                },
            });
        }
        self.refresh_wake();
        out
    }

    fn try_sync(
        &mut self,
        now: Now,
        token: Token,
        request: SyncRequest,
        out: &mut Vec<Effect>,
    ) -> Result<(), ErrorCode> {
        self.check_sync(&request)?;
        match self.state {
            State::Dead => return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE),
            State::Empty => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
            State::PreparingRebalance => return Err(ErrorCode::REBALANCE_IN_PROGRESS),
            State::Stable => {
                self.unsynced.remove(&request.member_id);
                self.touch(&request.member_id, now);
                let reply = self.sync_reply(&request.member_id);
                out.push(Effect::Synced { token, reply });
                return Ok(());
            }
            State::CompletingRebalance => {}
        }
        let leads = self.leader.as_deref() == Some(request.member_id.as_str());
        let assignments = if leads {
            Some(self.take_assignments(request.assignments)?)
        } else {
            None
        };
        self.unsynced.remove(&request.member_id);
        if let Some(member) = self.members.get_mut(&request.member_id)
            && let Some(older) = member.awaiting_sync.replace(token)
        {
            let reply = SyncReply {
                error: ErrorCode::REBALANCE_IN_PROGRESS,
                ..SyncReply::default()
            };
            out.push(Effect::Synced {
                token: older,
                reply,
            });
        }
        let generation = self.generation;
        let under_way = self
            .writes
            .values()
            .any(|w| matches!(w, Write::Assignment { generation: g, .. } if *g == generation));
        if let Some(assignments) = assignments.filter(|_| !under_way) {
            let record = self.record_with(Some(&assignments));
            self.write(
                Write::Assignment {
                    generation,
                    assignments,
                },
                record,
                out,
            );
        }
        Ok(())
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), ErrorCode> {
        if self.state == State::Dead {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        self.known(&request.member_id, request.instance_id.as_deref())?;
        if request.generation != self.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        let differs =
            |asked: &Option<String>, ours: &Option<String>| asked.is_some() && asked != ours;
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol, &self.protocol)
        {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        Ok(())
    }

    /// The leader's assignments of members that exist; a member it left out gets an empty one.
    fn take_assignments(
        &self,
        assignments: Vec<(String, Bytes)>,
    ) -> Result<BTreeMap<String, Bytes>, ErrorCode> {
        if assignments
            .iter()
            .any(|(_, bytes)| bytes.len() > self.rules.max_member_metadata_bytes)
        {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        let kept = assignments
            .into_iter()
            .filter(|(id, _)| self.members.contains_key(id))
            .map(|(id, bytes)| (id, Bytes::copy_from_slice(&bytes)));
        Ok(kept.collect())
    }

    fn sync_reply(&self, id: &str) -> SyncReply {
        SyncReply {
            error: ErrorCode::NONE,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self
                .members
                .get(id)
                .map(|member| member.assignment.clone())
                .unwrap_or_default(),
        }
    }

    /// The record of this ticket is durable, or could not be written.
    pub fn persisted(
        &mut self,
        now: Now,
        ticket: u64,
        outcome: Result<(), ErrorCode>,
    ) -> Vec<Effect> {
        let mut out = Vec::new();
        match self.writes.remove(&ticket) {
            None | Some(Write::Empty) => {}
            Some(Write::Replacement { token, reply }) => {
                let reply = match outcome {
                    // It was replaced once more, or removed, while its record was being written.
                    Ok(()) if !self.members.contains_key(&reply.member_id) => {
                        JoinReply::failed(ErrorCode::FENCED_INSTANCE_ID, &reply.member_id)
                    }
                    Ok(()) => reply,
                    Err(error) => JoinReply::failed(store_error(error), &reply.member_id),
                };
                out.push(Effect::Joined { token, reply });
            }
            Some(Write::Assignment {
                generation,
                assignments,
            }) => {
                // Another round may have begun meanwhile; it has answered who waited for this one.
                if self.state == State::CompletingRebalance && self.generation == generation {
                    self.assigned(now, assignments, outcome, &mut out);
                }
            }
        }
        self.refresh_wake();
        out
    }

    fn assigned(
        &mut self,
        now: Now,
        mut assignments: BTreeMap<String, Bytes>,
        outcome: Result<(), ErrorCode>,
        out: &mut Vec<Effect>,
    ) {
        if let Err(error) = outcome {
            self.drop_assignments(store_error(error), now, out);
            self.prepare_rebalance(now, out);
            return;
        }
        self.enter(State::Stable, now);
        let mut waiting = Vec::new();
        for (id, member) in &mut self.members {
            member.assignment = assignments.remove(id).unwrap_or_default();
            if let Some(token) = member.awaiting_sync.take() {
                waiting.push((id.clone(), token));
            }
        }
        for (id, token) in waiting {
            self.touch(&id, now);
            out.push(Effect::Synced {
                token,
                reply: self.sync_reply(&id),
            });
        }
    }
}

/// What a member is told when its group's record could not be written (Kafka's mapping).
pub(crate) fn store_error(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::NOT_ENOUGH_REPLICAS
        | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
        | ErrorCode::REQUEST_TIMED_OUT => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ErrorCode::NOT_LEADER_OR_FOLLOWER
        | ErrorCode::KAFKA_STORAGE_ERROR
        | ErrorCode::FENCED_LEADER_EPOCH => ErrorCode::NOT_COORDINATOR,
        ErrorCode::MESSAGE_TOO_LARGE
        | ErrorCode::RECORD_LIST_TOO_LARGE
        | ErrorCode::INVALID_RECORD => ErrorCode::UNKNOWN_SERVER_ERROR,
        other => other,
    }
}
