//! The group's timers: sessions, ids not used, members that did not sync, the join phase.

use super::{Effect, Group, Now, State};

impl Group {
    /// Lets everything happen that is due.
    pub fn tick(&mut self, now: Now) -> Vec<Effect> {
        let mut out = Vec::new();
        if now.mono_ms < self.wake_ms || self.state == State::Dead {
            return out;
        }
        self.pending
            .retain(|_, deadline_ms| *deadline_ms > now.mono_ms);
        let gone: Vec<_> = self
            .members
            .values()
            .filter(|member| member.expires_at_ms().is_some_and(|at| at <= now.mono_ms))
            .map(|member| member.id.clone())
            .collect();
        for id in gone {
            self.remove_and_rebalance(&id, now, &mut out);
        }
        if self.sync_deadline_ms.is_some_and(|at| at <= now.mono_ms) {
            self.sync_deadline_ms = None;
            for id in std::mem::take(&mut self.unsynced) {
                self.remove_and_rebalance(&id, now, &mut out);
            }
        }
        self.try_complete_join(now, &mut out);
        let due = self.join_deadline_ms.is_some_and(|at| at <= now.mono_ms);
        if self.state == State::PreparingRebalance && due {
            self.join_deadline_passed(now, &mut out);
        }
        self.refresh_wake();
        out
    }

    /// For this long, until now, nobody could be heard: it does not count in any timer. A member that may have spoken in
    /// vain has half a session to speak again, but once only until it does: however often the lease is lost, a dead one
    /// goes after one and a half sessions in which it could have been heard.
    pub fn stood_still(&mut self, now: Now, for_ms: i64) {
        for member in self.members.values_mut() {
            let half_ms = i64::from(member.session_timeout_ms / 2);
            spare(
                &mut member.deadline_ms,
                &mut member.was_spared,
                (now, for_ms),
                half_ms,
            );
        }
        let timers = self.pending.values_mut();
        let rounds = [&mut self.sync_deadline_ms, &mut self.join_deadline_ms];
        for at in timers.chain(rounds.into_iter().flatten()) {
            *at = at.saturating_add(for_ms);
        }
        self.refresh_wake();
    }

    pub(super) fn refresh_wake(&mut self) {
        let sessions = self
            .members
            .values()
            .filter_map(super::Member::expires_at_ms);
        let timers = self
            .pending
            .values()
            .copied()
            .chain(self.sync_deadline_ms)
            .chain(self.join_deadline_ms);
        self.wake_ms = sessions.chain(timers).min().unwrap_or(i64::MAX);
    }
}

/// A session's end after time stood still for so long until now; `least_ms` of it are left, if that was not given before.
pub(crate) fn spare(
    deadline_ms: &mut i64,
    was_spared: &mut bool,
    (now, for_ms): (Now, i64),
    least_ms: i64,
) {
    *deadline_ms = deadline_ms.saturating_add(for_ms);
    let spared_ms = now.mono_ms.saturating_add(least_ms);
    if !*was_spared && *deadline_ms < spared_ms {
        *deadline_ms = spared_ms;
        *was_spared = true;
    }
}
