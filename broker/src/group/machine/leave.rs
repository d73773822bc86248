//! LeaveGroup.

use whimbrel_wire::ErrorCode;

use super::{Effect, Group, Leaver, Now, State};

impl Group {
    /// Members leave, in one round; one code for each.
    pub fn leave(&mut self, now: Now, leavers: &[Leaver]) -> (Vec<ErrorCode>, Vec<Effect>) {
        let mut out = Vec::new();
        let codes = leavers
            .iter()
            .map(|leaver| self.leave_one(now, leaver, &mut out))
            .collect();
        self.try_complete_join(now, &mut out);
        self.refresh_wake();
        (codes, out)
    }

    fn leave_one(&mut self, now: Now, leaver: &Leaver, out: &mut Vec<Effect>) -> ErrorCode {
        if self.state == State::Dead {
            return ErrorCode::COORDINATOR_NOT_AVAILABLE;
        }
        let member_id = match (&leaver.instance_id, leaver.member_id.is_empty()) {
            (Some(instance), true) => match self.statics.get(instance) {
                Some(current) => current.clone(),
                None => return ErrorCode::UNKNOWN_MEMBER_ID,
            },
            _ => leaver.member_id.clone(),
        };
        if self.pending.remove(&member_id).is_some() {
            return ErrorCode::NONE;
        }
        if let Err(error) = self.known(&member_id, leaver.instance_id.as_deref()) {
            return error;
        }
        self.remove_and_rebalance(&member_id, now, out);
        ErrorCode::NONE
    }
}
