//! A group passes from the classic protocol to this one, and back, with all its members.

use super::{
    Assignment, Change, Classic, Current, Epoch, Group, Now, Profile, Rules, Stored, classic,
};
use crate::group::{
    embedded::{CONSUMER, Given, Subscription},
    machine::{self, GroupRecord, MemberRecord},
    store::Topics,
};

/// Assignors of Kafka's clients. What they note in an assignment is not needed to read it: librdkafka's sticky ones send
/// each member its own words back. (Kafka refuses a group with any note.)
const ASSIGNORS: [&str; 4] = ["range", "roundrobin", "sticky", "cooperative-sticky"];

impl Group {
    /// A classic group as one of this protocol, and what makes it one in the log. None if it is no group of consumers,
    /// has too many members, or if one of them says what this protocol cannot keep.
    #[must_use]
    pub fn from_classic(
        old: &machine::Group,
        rules: Rules,
        topics: &dyn Topics,
        now: Now,
    ) -> Option<(Self, Vec<Change>)> {
        if old.protocol_type() != Some(CONSUMER) || old.members().count() > rules.max_size {
            return None;
        }
        let epoch = old.generation().max(1);
        let mut members = Vec::new();
        let (mut targets, mut currents) = (Vec::new(), Vec::new());
        for member in old.members() {
            let (profile, assigned) = passed_over(member, old.protocol(), topics)?;
            let id = member.id.clone();
            let current = Current {
                epoch,
                previous_epoch: epoch,
                assigned: assigned.clone(),
                ..Current::default()
            };
            members.push(Change::Member(id.clone(), Some(profile)));
            targets.push(Change::Target(id.clone(), Some(assigned)));
            currents.push(Change::Current(id, Some(current)));
        }
        let metadata_hash = 0;
        let mut changes = members;
        changes.push(Change::Epoch(Some(Epoch {
            epoch,
            metadata_hash,
        })));
        changes.append(&mut targets);
        changes.push(Change::TargetEpoch(Some(epoch)));
        changes.append(&mut currents);
        let mut stored = Stored::default();
        changes
            .iter()
            .cloned()
            .for_each(|change| stored.apply(change));
        Some((Self::restore(old.id(), rules, stored, now), changes))
    }

    /// This group, which has none but members of the classic protocol, as one of that, and the changes that take it
    /// off the log.
    #[must_use]
    pub fn to_classic(&self, topics: &dyn Topics, now: Now) -> (GroupRecord, Vec<Change>) {
        let spoken: Vec<&Classic> = self
            .members
            .values()
            .filter_map(|member| member.profile.classic.as_ref())
            .collect();
        let offered = spoken.iter().flat_map(|classic| &classic.protocols);
        let protocol = offered
            .map(|p| &p.name)
            .find(|name| spoken.iter().all(|classic| classic.offers(name)))
            .cloned();
        let members = self.members.values().filter_map(|member| {
            let said = member.profile.classic.as_ref()?;
            let name = protocol.as_deref().unwrap_or_default();
            let metadata = said.protocols.iter().find(|p| p.name == name);
            Some(MemberRecord {
                member_id: member.id.clone(),
                instance_id: member.profile.instance_id.clone(),
                client_id: member.profile.client_id.clone(),
                client_host: member.profile.client_host.clone(),
                rebalance_timeout_ms: member.profile.rebalance_timeout_ms,
                session_timeout_ms: said.session_timeout_ms,
                subscription: metadata.map(|p| p.metadata.clone()).unwrap_or_default(),
                assignment: classic::assignment(&self.target(&member.id), said, topics),
            })
        });
        let record = GroupRecord {
            protocol_type: CONSUMER.to_owned(),
            generation: self.epoch,
            leader: self.members.keys().next().cloned(),
            state_since_ms: now.wall_ms,
            members: members.collect(),
            protocol,
        };
        let mut changes = Vec::new();
        for id in self.members.keys() {
            changes.push(Change::Current(id.clone(), None));
            changes.push(Change::Target(id.clone(), None));
            changes.push(Change::Member(id.clone(), None));
        }
        changes.extend(self.removal());
        (record, changes)
    }
}

/// Who a member of a classic group is, and what it was given.
fn passed_over(
    member: &machine::Member,
    protocol: Option<&str>,
    topics: &dyn Topics,
) -> Option<(Profile, Assignment)> {
    let chosen = protocol.and_then(|name| member.metadata(name));
    let metadata = chosen.or_else(|| member.protocols.first().map(|p| p.metadata.clone()))?;
    let subscription = Subscription::read(&metadata)?;
    let given = Given::read(&member.assignment)?;
    // Notes of an assignor that nobody here knows may mean something to its members, and would be lost.
    if given.has_notes && !protocol.is_some_and(|name| ASSIGNORS.contains(&name)) {
        return None;
    }
    let assigned = given
        .places
        .iter()
        .filter_map(|(topic, partition)| Some((topics.id(topic)?, *partition)));
    let profile = Profile {
        instance_id: member.instance_id.clone(),
        rack_id: subscription.rack_id,
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        topics: subscription.topics.into_iter().collect(),
        regex: None,
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        assignor: None,
        classic: Some(Classic {
            session_timeout_ms: member.session_timeout_ms,
            protocols: member.protocols.clone(),
        }),
    };
    Some((profile, assigned.collect()))
}
