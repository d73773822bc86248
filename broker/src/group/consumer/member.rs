//! A member of a group of the consumer protocol.

use uuid::Uuid;

use super::{Assignment, Current, Now, Profile, Rules};

/// How far a member is on its way to the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemberState {
    /// It has what its epoch gives it.
    #[default]
    Stable,
    /// It still has to give up partitions.
    Unrevoked,
    /// Others still hold some of what it is to have.
    Unreleased,
}

/// The epoch of a static member that is away for a while.
pub const AWAY: i32 = -2;

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: String,
    pub profile: Profile,
    /// 0 while it joins, [`AWAY`] for a static member that left for a while.
    pub epoch: i32,
    pub previous_epoch: i32,
    pub state: MemberState,
    /// What it may use.
    pub assigned: Assignment,
    /// What it must give up.
    pub revoking: Assignment,
    /// When its session ends (monotone ms).
    pub(super) session_deadline_ms: i64,
    /// Since it was last heard it was given time to be heard once more.
    pub(super) was_spared: bool,
    /// By when it must have given up what it is asked to; one of the classic protocol, joined or synced (monotone ms).
    pub(super) revoke_deadline_ms: Option<i64>,
}

impl Member {
    pub(super) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            profile: Profile::default(),
            epoch: 0,
            previous_epoch: 0,
            state: MemberState::Stable,
            assigned: Assignment::default(),
            revoking: Assignment::default(),
            session_deadline_ms: i64::MAX,
            was_spared: false,
            revoke_deadline_ms: None,
        }
    }

    /// Whether it has all that the target of this epoch gives it.
    #[must_use]
    pub fn is_at(&self, target_epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == target_epoch
    }

    /// Each partition that nobody else may have.
    pub(super) fn held(&self) -> impl Iterator<Item = (Uuid, i32)> + '_ {
        self.assigned.iter().chain(self.revoking.iter())
    }

    pub(super) fn current(&self) -> Current {
        Current {
            epoch: self.epoch,
            previous_epoch: self.previous_epoch,
            state: self.state,
            assigned: self.assigned.clone(),
            revoking: self.revoking.clone(),
        }
    }

    /// Whether it joined by the classic protocol.
    #[must_use]
    pub fn is_classic(&self) -> bool {
        self.profile.classic.is_some()
    }

    /// It was heard.
    pub(super) fn begin_session(&mut self, now: Now, rules: &Rules) {
        let session_ms = i64::from(self.session_ms(rules));
        self.session_deadline_ms = now.mono_ms.saturating_add(session_ms);
        self.was_spared = false;
    }

    /// How long it may be silent.
    pub(super) fn session_ms(&self, rules: &Rules) -> i32 {
        let classic = self.profile.classic.as_ref();
        classic.map_or(rules.session_timeout_ms, |c| c.session_timeout_ms)
    }

    pub(super) fn begin_revoking(&mut self, now: Now) {
        let patience_ms = i64::from(self.profile.rebalance_timeout_ms.max(0));
        self.revoke_deadline_ms = Some(now.mono_ms.saturating_add(patience_ms));
    }

    pub(super) fn next_deadline_ms(&self) -> i64 {
        let revoke_ms = self.revoke_deadline_ms.unwrap_or(i64::MAX);
        self.session_deadline_ms.min(revoke_ms)
    }
}
