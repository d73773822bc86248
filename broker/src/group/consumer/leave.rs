//! How members go: they leave, their session ends, or they do not give up what they must.

use whimbrel_wire::ErrorCode;

use super::{Assignment, Change, Group, Heartbeat, MemberState, Now, Refusal, Reply, member::AWAY};
use crate::group::store::Topics;

impl Group {
    pub(super) fn leave(
        &mut self,
        request: &Heartbeat,
        topics: &dyn Topics,
        out: &mut Vec<Change>,
    ) -> Result<Reply, Refusal> {
        let id = &request.member_id;
        let reply = Reply {
            member_id: id.clone(),
            epoch: request.epoch,
            heartbeat_interval_ms: 0,
            assignment: None,
        };
        if let Some(instance) = &request.instance_id {
            self.check_instance(instance, id)?;
            if request.epoch == AWAY {
                self.go_away(id, out);
                return Ok(reply);
            }
        }
        if !self.members.contains_key(id) {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID.into());
        }
        self.fence(id, out);
        self.without_them(topics, out);
        Ok(reply)
    }

    /// The member of this instance, if it is `id`.
    pub(super) fn check_instance(&self, instance: &str, id: &str) -> Result<(), Refusal> {
        match self.statics.get(instance) {
            None => Err(Refusal::new(
                ErrorCode::UNKNOWN_MEMBER_ID,
                format!("Instance id {instance} is unknown."),
            )),
            Some(current) if current != id => Err(Refusal::new(
                ErrorCode::FENCED_INSTANCE_ID,
                format!("Member {id} with instance id {instance} was fenced by member {current}."),
            )),
            Some(_) => Ok(()),
        }
    }

    /// A static member stops and says that it comes back: it keeps its partitions until its session ends.
    fn go_away(&mut self, id: &str, out: &mut Vec<Change>) {
        let Some(before) = self.members.get(id).cloned() else {
            return;
        };
        let mut after = before.clone();
        after.epoch = AWAY;
        after.revoking = Assignment::default();
        // What it had to give up it has: it stopped.
        if after.state == MemberState::Unrevoked {
            after.state = MemberState::Stable;
        }
        after.revoke_deadline_ms = None;
        out.push(Change::Current(id.to_owned(), Some(after.current())));
        self.settle_owner(id, Some(&before), Some(&after));
        self.members.insert(id.to_owned(), after);
    }

    /// Takes a member out.
    pub(super) fn fence(&mut self, id: &str, out: &mut Vec<Change>) {
        let Some(member) = self.members.remove(id) else {
            return;
        };
        self.settle_owner(id, Some(&member), None);
        if let Some(instance) = &member.profile.instance_id
            && self.statics.get(instance).is_some_and(|held| held == id)
        {
            self.statics.remove(instance);
        }
        out.push(Change::Current(id.to_owned(), None));
        if self.target.remove(id).is_some() {
            out.push(Change::Target(id.to_owned(), None));
        }
        out.push(Change::Member(id.to_owned(), None));
    }

    /// Members were taken out; the others get what they had at their next heartbeats.
    pub(super) fn without_them(&mut self, topics: &dyn Topics, out: &mut Vec<Change>) {
        if self.is_classic() {
            // It passes back as it is: those who are left know this epoch as their generation.
            return;
        }
        self.drop_unused_regexes(out);
        self.refresh_metadata(topics);
        self.bump(out);
    }

    /// Lets everything happen that is due.
    pub fn tick(&mut self, now: Now, topics: &dyn Topics) -> Vec<Change> {
        let mut out = Vec::new();
        if now.mono_ms < self.wake_ms {
            return out;
        }
        let due: Vec<_> = self
            .members
            .values()
            .filter(|member| member.next_deadline_ms() <= now.mono_ms)
            .map(|member| member.id.clone())
            .collect();
        for id in &due {
            tracing::info!(
                group = self.id,
                member = id,
                "a member was silent for too long"
            );
            self.fence(id, &mut out);
        }
        if !due.is_empty() {
            self.without_them(topics, &mut out);
        }
        self.refresh_wake();
        out
    }
}
