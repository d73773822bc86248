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
