//! One step of a member towards its target.

use super::{Assignment, Change, Group, Member, MemberState, Now};

impl Group {
    /// Brings a member as far towards its target as what it holds and what others hold allows.
    pub(super) fn reconcile(
        &mut self,
        now: Now,
        id: &str,
        owned: Option<&Assignment>,
        out: &mut Vec<Change>,
    ) {
        let Some(before) = self.members.get(id).cloned() else {
            return;
        };
        if before.is_at(self.target_epoch) {
            return;
        }
        let mut after = match before.state {
            MemberState::Stable if before.epoch == self.target_epoch => return,
            MemberState::Unrevoked if still_owns(owned, &before.revoking) => return,
            // What was to be given up is; the next epoch is its own, even if the target has gone on meanwhile.
            MemberState::Unrevoked => self.next(&before, before.epoch.saturating_add(1), owned),
            MemberState::Stable | MemberState::Unreleased => {
                self.next(&before, before.epoch, owned)
            }
        };
        if after == before {
            return;
        }
        if after.state == MemberState::Unrevoked {
            after.begin_revoking(now);
        } else {
            after.revoke_deadline_ms = None;
        }
        out.push(Change::Current(id.to_owned(), Some(after.current())));
        self.settle_owner(id, Some(&before), Some(&after));
        self.wake_ms = self.wake_ms.min(after.next_deadline_ms());
        self.members.insert(id.to_owned(), after);
    }

    fn next(&self, member: &Member, epoch: i32, owned: Option<&Assignment>) -> Member {
        let nothing = Assignment::default();
        let target = self.target.get(&member.id).unwrap_or(&nothing);
        let (mut assigned, mut revoking) = (Assignment::default(), Assignment::default());
        for (topic, partition) in member.assigned.iter() {
            if target.contains(topic, partition) {
                assigned.insert(topic, partition);
            } else {
                revoking.insert(topic, partition);
            }
        }
        let mut after = member.clone();
        after.previous_epoch = member.epoch;
        if !revoking.is_empty() && still_owns(owned, &revoking) {
            after.state = MemberState::Unrevoked;
            after.epoch = epoch;
            after.assigned = assigned;
            after.revoking = revoking;
            return after;
        }
        let mut waits = false;
        for (topic, partition) in target.iter() {
            if assigned.contains(topic, partition) {
                continue;
            }
            if self.owners.contains_key(&(topic, partition)) {
                waits = true;
            } else {
                assigned.insert(topic, partition);
            }
        }
        after.state = if waits {
            MemberState::Unreleased
        } else {
            MemberState::Stable
        };
        after.epoch = self.target_epoch;
        after.assigned = assigned;
        after.revoking = Assignment::default();
        after
    }
}

/// Whether the member may still hold any of `partitions`; who does not say what it holds may hold all.
fn still_owns(owned: Option<&Assignment>, partitions: &Assignment) -> bool {
    owned.is_none_or(|owned| {
        partitions
            .iter()
            .any(|(topic, partition)| owned.contains(topic, partition))
    })
}
