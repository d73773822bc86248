//! A group as the log tells it, record by record.

use std::collections::BTreeMap;

use super::{
    Assignment, Change, Current, Epoch, Group, Member, MemberState, Now, Profile, Regex, Rules,
};

/// What the records of a group say so far, in whatever order compaction left them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    epoch: Option<Epoch>,
    target_epoch: Option<i32>,
    members: BTreeMap<String, Profile>,
    targets: BTreeMap<String, Assignment>,
    currents: BTreeMap<String, Current>,
    regexes: BTreeMap<String, Regex>,
}

impl Stored {
    /// The next record.
    pub fn apply(&mut self, change: Change) {
        fn set<T>(held: &mut BTreeMap<String, T>, key: String, value: Option<T>) {
            match value {
                Some(value) => drop(held.insert(key, value)),
                None => drop(held.remove(&key)),
            }
        }
        match change {
            Change::Epoch(epoch) => self.epoch = epoch,
            Change::TargetEpoch(epoch) => self.target_epoch = epoch,
            Change::Member(id, profile) => set(&mut self.members, id, profile),
            Change::Target(id, target) => set(&mut self.targets, id, target),
            Change::Current(id, current) => set(&mut self.currents, id, current),
            Change::Regex(pattern, regex) => set(&mut self.regexes, pattern, regex),
        }
    }

    /// Takes out the members that are `old`, and tells what says so. The group stays, with its epoch.
    pub fn let_go(&mut self, old: impl Fn(&str) -> bool) -> Vec<Change> {
        let mut changes = Vec::new();
        for id in self.members.keys().filter(|id| old(id)) {
            if self.currents.contains_key(id) {
                changes.push(Change::Current(id.clone(), None));
            }
            if self.targets.contains_key(id) {
                changes.push(Change::Target(id.clone(), None));
            }
            changes.push(Change::Member(id.clone(), None));
        }
        for change in &changes {
            self.apply(change.clone());
        }
        changes
    }

    /// Whether a member reads such a topic, or a regular expression of theirs stands for one.
    pub fn reads(&self, topic: impl Fn(&str) -> bool) -> bool {
        let named = self.members.values().flat_map(|member| &member.topics);
        let matched = self.regexes.values().flat_map(|regex| &regex.topics);
        named.chain(matched).any(|name| topic(name))
    }

    /// Whether there is nothing left of the group.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.epoch.is_none() && self.members.is_empty()
    }
}

impl Group {
    /// A group as the log tells it; its members' sessions begin now.
    #[must_use]
    pub fn restore(id: &str, rules: Rules, stored: Stored, now: Now) -> Self {
        let mut group = Self::new(id, rules);
        let epoch = stored.epoch.unwrap_or_default();
        group.metadata_hash = epoch.metadata_hash;
        group.target_epoch = stored.target_epoch.unwrap_or_default();
        group.epoch = epoch.epoch.max(group.target_epoch);
        group.regexes = stored.regexes;
        let mut currents = stored.currents;
        let mut targets = stored.targets;
        for (id, profile) in stored.members {
            let current = currents.remove(&id).unwrap_or_default();
            let mut member = Member {
                profile,
                epoch: current.epoch,
                previous_epoch: current.previous_epoch,
                state: current.state,
                assigned: current.assigned,
                revoking: current.revoking,
                ..Member::new(&id)
            };
            member.begin_session(now, &group.rules);
            if member.state == MemberState::Unrevoked {
                member.begin_revoking(now);
            }
            if let Some(instance) = &member.profile.instance_id {
                group.statics.insert(instance.clone(), id.clone());
            }
            if let Some(target) = targets.remove(&id) {
                group.target.insert(id.clone(), target);
            }
            group.settle_owner(&id, None, Some(&member));
            group.members.insert(id, member);
        }
        group.refresh_wake();
        group
    }
}
