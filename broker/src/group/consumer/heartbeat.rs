//! The heartbeat: who the member is, what the group then looks like, what the member has.

use std::collections::BTreeMap;

use whimbrel_wire::ErrorCode;

use super::{
    Assignment, Change, Group, Heartbeat, Member, Now, Profile, Refusal, Reply, assignor,
    member::AWAY, subscription,
};
use crate::group::store::Topics;

impl Group {
    /// A heartbeat. The answer may be given once the changes are durable.
    ///
    /// # Errors
    /// [`Refusal`]; nothing has changed then.
    pub fn heartbeat(
        &mut self,
        now: Now,
        request: Heartbeat,
        topics: &dyn Topics,
    ) -> Result<(Reply, Vec<Change>), Refusal> {
        let mut out = Vec::new();
        if request.epoch < 0 {
            let reply = self.leave(&request, topics, &mut out)?;
            return Ok((reply, out));
        }
        self.check(&request)?;
        let joins = request.epoch == 0;
        let held = self.step(now, &request, topics, &mut out)?;
        Ok((self.reply(now, &request, joins, held.as_ref()), out))
    }

    /// Takes over what a member says, and brings the group and the member as far as that allows. What it had before.
    pub(super) fn step(
        &mut self,
        now: Now,
        request: &Heartbeat,
        topics: &dyn Topics,
        out: &mut Vec<Change>,
    ) -> Result<Option<Assignment>, Refusal> {
        let id = &request.member_id;
        self.admit(request, out)?;
        let held = self.members.get(id).map(|member| member.assigned.clone());

        let mut bump = self.update(now, request, topics, out)?;
        bump |= self.refresh_regexes(now, request, topics, out);
        if bump || self.seen != Some(topics.version()) {
            bump |= self.refresh_metadata(topics);
        }
        if bump {
            self.bump(out);
        }
        if self.epoch > self.target_epoch {
            self.retarget(out);
        }
        self.reconcile(now, id, request.owned.as_ref(), out);
        Ok(held)
    }

    /// Everything that can be refused, before anything changes.
    pub(super) fn check(&self, request: &Heartbeat) -> Result<(), Refusal> {
        let id = &request.member_id;
        let texts = [
            &request.instance_id,
            &request.rack_id,
            &request.regex,
            &request.assignor,
        ];
        let names = request.topics.iter().flatten().map(String::len);
        let classic = request
            .classic
            .iter()
            .flat_map(|classic| &classic.protocols);
        let classic = classic.map(|p| p.name.len().saturating_add(p.metadata.len()));
        let bytes: usize = texts
            .iter()
            .filter_map(|text| text.as_ref().map(String::len))
            .chain(names)
            .chain(classic)
            .chain([id.len(), request.client_id.len()])
            .sum();
        if bytes > self.rules.max_profile_bytes {
            return Err(Refusal::new(
                ErrorCode::INVALID_REQUEST,
                "The subscription is too large.",
            ));
        }
        if self.members.len() >= self.rules.max_size && !self.members.contains_key(id) {
            return Err(Refusal::new(
                ErrorCode::GROUP_MAX_SIZE_REACHED,
                format!(
                    "The consumer group has reached its maximum capacity of {} members.",
                    self.rules.max_size
                ),
            ));
        }
        if let Some(pattern) = request.regex.as_ref().filter(|text| !text.is_empty())
            && !self.regexes.contains_key(pattern)
        {
            subscription::compile(pattern)?;
        }
        self.check_member(request)
    }

    fn check_member(&self, request: &Heartbeat) -> Result<(), Refusal> {
        let id = &request.member_id;
        let Some(instance) = &request.instance_id else {
            return match self.members.get(id) {
                Some(member) => check_epoch(member, request),
                None if request.epoch == 0 => Ok(()),
                None => Err(ErrorCode::UNKNOWN_MEMBER_ID.into()),
            };
        };
        if request.epoch != 0 {
            self.check_instance(instance, id)?;
            return self
                .members
                .get(id)
                .map_or(Ok(()), |member| check_epoch(member, request));
        }
        let holder = self
            .statics
            .get(instance)
            .and_then(|holder| self.members.get(holder));
        match holder {
            // One of the classic protocol has no word for going away for a while.
            Some(holder) if holder.epoch != AWAY && !holder.is_classic() => Err(Refusal::new(
                ErrorCode::UNRELEASED_INSTANCE_ID,
                format!(
                    "Member {id} cannot join: instance id {instance} is owned by member {}.",
                    holder.id
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Makes sure that the member is there.
    fn admit(&mut self, request: &Heartbeat, out: &mut Vec<Change>) -> Result<(), Refusal> {
        let id = &request.member_id;
        let away = request
            .instance_id
            .as_ref()
            .filter(|_| request.epoch == 0)
            .and_then(|instance| self.statics.get(instance).cloned());
        if let Some(old) = away {
            self.replace(&old, id, out);
        } else if !self.members.contains_key(id) {
            self.members.insert(id.clone(), Member::new(id));
        }
        if let Some(instance) = &request.instance_id {
            self.statics.insert(instance.clone(), id.clone());
        }
        Ok(())
    }

    /// A static member came back under another id: it takes its place, with what it had.
    fn replace(&mut self, old: &str, id: &str, out: &mut Vec<Change>) {
        let Some(before) = self.members.remove(old) else {
            return;
        };
        self.settle_owner(old, Some(&before), None);
        let mut after = Member {
            id: id.to_owned(),
            epoch: 0,
            previous_epoch: 0,
            ..before
        };
        after.revoke_deadline_ms = None;
        let target = self.target.remove(old).unwrap_or_default();
        if old != id {
            out.push(Change::Current(old.to_owned(), None));
            out.push(Change::Target(old.to_owned(), None));
            out.push(Change::Member(old.to_owned(), None));
        }
        out.push(Change::Member(id.to_owned(), Some(after.profile.clone())));
        out.push(Change::Target(id.to_owned(), Some(target.clone())));
        out.push(Change::Current(id.to_owned(), Some(after.current())));
        self.settle_owner(id, None, Some(&after));
        self.target.insert(id.to_owned(), target);
        self.members.insert(id.to_owned(), after);
    }

    /// Takes over what the member says of itself; true if it reads something else now.
    fn update(
        &mut self,
        now: Now,
        request: &Heartbeat,
        topics: &dyn Topics,
        out: &mut Vec<Change>,
    ) -> Result<bool, Refusal> {
        let id = &request.member_id;
        if let Some(pattern) = request.regex.as_ref().filter(|text| !text.is_empty()) {
            self.add_regex(now, pattern, (topics, &request.sight), out)?;
        }
        let Some(member) = self.members.get_mut(id) else {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID.into());
        };
        let before = member.profile.clone();
        apply(&mut member.profile, request);
        let after = member.profile.clone();
        let reads_else = before.topics != after.topics || before.regex != after.regex;
        let is_new = member.epoch == 0 && member.previous_epoch == 0;
        if before != after {
            out.push(Change::Member(id.clone(), Some(after)));
        }
        if reads_else {
            self.drop_unused_regexes(out);
        }
        // A member without any subscription is one more to count all the same.
        Ok(reads_else || (is_new && !self.target.contains_key(id)))
    }

    /// Computes who is to have what, and writes down what is new.
    fn retarget(&mut self, out: &mut Vec<Change>) {
        let members: BTreeMap<&str, assignor::Subscriber<'_>> = self
            .members
            .values()
            .map(|member| {
                let subscriber = assignor::Subscriber {
                    instance_id: member.profile.instance_id.as_deref(),
                    topics: self.topics_of(member),
                    held: self.target.get(&member.id),
                };
                (member.id.as_str(), subscriber)
            })
            .collect();
        let mut target = assignor::preferred(self.members.values()).assign(&members);
        let mut changed = Vec::new();
        for id in self.members.keys() {
            let new = target.remove(id).unwrap_or_default();
            if self.target.get(id) != Some(&new) {
                changed.push((id.clone(), new));
            }
        }
        for (id, new) in changed {
            out.push(Change::Target(id.clone(), Some(new.clone())));
            self.target.insert(id, new);
        }
        self.target_epoch = self.epoch;
        out.push(Change::TargetEpoch(Some(self.target_epoch)));
    }

    fn reply(
        &mut self,
        now: Now,
        request: &Heartbeat,
        joins: bool,
        held: Option<&Assignment>,
    ) -> Reply {
        let full = joins
            || (request.rebalance_timeout_ms.is_some()
                && (request.topics.is_some() || request.regex.is_some())
                && request.owned.is_some());
        let mut reply = Reply {
            member_id: request.member_id.clone(),
            epoch: 0,
            heartbeat_interval_ms: self.rules.heartbeat_interval_ms,
            assignment: None,
        };
        if let Some(member) = self.members.get_mut(&request.member_id) {
            member.begin_session(now, &self.rules);
            self.wake_ms = self.wake_ms.min(member.next_deadline_ms());
            reply.epoch = member.epoch;
            if full || held != Some(&member.assigned) {
                reply.assignment = Some(member.assigned.clone());
            }
        }
        reply
    }
}

/// The member's epoch, or the one before if the answer that raised it may have been lost. With 0 it joins anew, whatever
/// is known of it: a fenced one has given everything up and has no other way back.
fn check_epoch(member: &Member, request: &Heartbeat) -> Result<(), Refusal> {
    let subset = || {
        request.owned.as_ref().is_some_and(|owned| {
            owned
                .iter()
                .all(|(topic, partition)| member.assigned.contains(topic, partition))
        })
    };
    let known = request.epoch == 0
        || request.epoch == member.epoch
        || (request.epoch < member.epoch && request.epoch == member.previous_epoch && subset());
    if known {
        return Ok(());
    }
    Err(Refusal::new(
        ErrorCode::FENCED_MEMBER_EPOCH,
        format!(
            "The member has epoch {} and the coordinator knows it with {}. It must abandon all its partitions and rejoin.",
            request.epoch, member.epoch
        ),
    ))
}

fn apply(profile: &mut Profile, request: &Heartbeat) {
    if let Some(instance) = &request.instance_id {
        profile.instance_id = Some(instance.clone());
    }
    if let Some(rack) = &request.rack_id {
        profile.rack_id = Some(rack.clone());
    }
    if let Some(timeout_ms) = request.rebalance_timeout_ms {
        profile.rebalance_timeout_ms = timeout_ms;
    }
    if let Some(assignor) = &request.assignor {
        profile.assignor = Some(assignor.clone());
    }
    if let Some(topics) = &request.topics {
        profile.topics = topics.iter().cloned().collect();
    }
    if let Some(regex) = &request.regex {
        profile.regex = Some(regex.clone()).filter(|text| !text.is_empty());
    }
    if request.epoch == 0 || request.classic.is_some() {
        profile.classic.clone_from(&request.classic);
    }
    profile.client_id.clone_from(&request.client_id);
    profile.client_host.clone_from(&request.client_host);
}
