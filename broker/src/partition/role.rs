//! Who a partition is to this broker, and the transitions between roles.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
};

use whimbrel_fleet::{NodeId, Position, RegionEpoch, RegionName, Standing};
use whimbrel_rpc::controller::LeaseHolder;
use whimbrel_wire::ErrorCode;

use super::{AckSet, Now, Partition};

/// Under what a leader leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    pub leader_epoch: i32,
    pub region_epoch: RegionEpoch,
    /// Log end when the epoch began: below it the high watermark is not yet known to be the old leader's.
    pub epoch_start: i64,
    /// False while group positions are being clamped after a move, or writes are parked before one.
    pub open: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    None,
    Leader(Terms),
    /// Takes batches from the replica stream.
    Follower {
        region_epoch: RegionEpoch,
        feed: Feed,
    },
}

/// Where a follower's batches come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// From the home, through the mirror: this broker is its region's head.
    Home,
    /// From this broker of the same region: at home the leader, elsewhere the head.
    Node(NodeId),
}

impl Partition {
    pub fn role(&self) -> Role {
        self.state.lock().role
    }

    pub fn leads(&self) -> Option<Terms> {
        match self.role() {
            Role::Leader(terms) => Some(terms),
            _ => None,
        }
    }

    /// Leads from now on. `position` is the group's, all led logs included; `standing` is what was recorded of other
    /// regions' copies. The log has begun the epoch.
    pub fn lead(
        &self,
        terms: Terms,
        position: Position,
        acks: (AckSet, &BTreeSet<RegionName>),
        lossy_promotion: Option<i64>,
        now: Now,
        standing: &BTreeMap<RegionName, Standing>,
    ) {
        let mut state = self.state.lock();
        let (ack_set, sync_set) = acks;
        if !matches!(state.role, Role::Leader(_)) {
            state.insync.begin(now.boot_ns);
        }
        state.insync.set(ack_set);
        state.fail_acks(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        state.uncovered.clear();
        state.early.begin();
        let end = self.log.offsets().log_end;
        // What an earlier leader wrote counts as written by this one: it must be covered before it goes out.
        let shown = self.high_watermark();
        self.stream_end.store(shown, Ordering::Release);
        if end > shown {
            state.uncovered.push_back((end, position));
        }
        state.role = Role::Leader(terms);
        state.draining = false;
        state.sealed = false;
        state.remote.clear();
        state.elsewhere.begin(now, standing);
        state.sync_set.clone_from(sync_set);
        state.lossy_promotion = lossy_promotion;
        drop(state);
        self.role_changed.notify_waiters();
    }

    /// Other partitions joined or left the sum that positions are measured by, or other copies are waited
    /// for. True when acks may have become possible by that.
    pub fn restamp(&self, ack_set: AckSet, sync_set: &BTreeSet<RegionName>) -> bool {
        let mut state = self.state.lock();
        // The sum as it is now, not as it began anew: what came in since stands higher.
        let position = self.home.position();
        for (_, at) in &mut state.uncovered {
            *at = position;
        }
        let mut changed = state.insync.set(ack_set);
        if state.sync_set != *sync_set {
            state.sync_set.clone_from(sync_set);
            changed = true;
        }
        changed
    }

    /// Takes writes from now on.
    pub fn open(&self) {
        self.set_open(true);
    }

    /// Parks writes; acks under way are not answered any more but with an error.
    pub fn park(&self, draining: bool) {
        let mut state = self.state.lock();
        if let Role::Leader(terms) = &mut state.role {
            terms.open = false;
        }
        state.draining = draining;
    }

    /// Whether a follower refuses (or takes again) replica batches.
    pub fn seal(&self, sealed: bool) {
        self.state.lock().sealed = sealed;
    }

    /// True when nothing is appended here any more in the present role.
    pub fn is_sealed(&self) -> bool {
        let state = self.state.lock();
        match state.role {
            Role::Leader(terms) => !terms.open,
            Role::Follower { .. } => state.sealed,
            Role::None => true,
        }
    }

    fn set_open(&self, open: bool) {
        if let Role::Leader(terms) = &mut self.state.lock().role {
            terms.open = open;
        }
        self.role_changed.notify_waiters();
    }

    /// Another broker leads: parked acks and writes are answered, no client's batch comes in after this.
    pub fn follow(&self, region_epoch: RegionEpoch, feed: Feed, boot_ns: u64) {
        self.leave(Role::Follower { region_epoch, feed });
        self.following.begin(boot_ns);
    }

    /// Neither leads nor follows.
    pub fn resign(&self) {
        self.leave(Role::None);
    }

    fn leave(&self, role: Role) {
        let mut state = self.state.lock();
        self.broke_off();
        state.role = role;
        state.draining = false;
        state.sealed = false;
        state.uncovered.clear();
        state.fail_acks(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        drop(state);
        self.role_changed.notify_waiters();
        self.waiters.wake();
    }

    /// Answers the parked acks when the lease is gone: nothing will cover them in this epoch.
    pub fn fail_unleased(&self, lease: &LeaseHolder) {
        let mut state = self.state.lock();
        if let Role::Leader(terms) = state.role
            && !terms.held(lease, &self.home)
        {
            state.fail_acks(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
    }

    /// The log was cut: what was visible above the cut is gone.
    pub fn truncated(&self) {
        let _state = self.state.lock();
        self.broke_off();
        let end = self.log.offsets().log_end;
        self.high_watermark.fetch_min(end, Ordering::AcqRel);
        self.stream_end.fetch_min(end, Ordering::AcqRel);
        self.log.set_high_watermark(self.high_watermark());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;
    use whimbrel_fleet::GroupName;
    use whimbrel_log::{Disk, DiskOptions, LogConfig};

    use super::*;
    use crate::home::Home;

    fn at(records: u64) -> Position {
        Position {
            records,
            bytes: 100 * records,
        }
    }

    #[test]
    fn what_is_appended_while_the_sums_begin_anew_is_not_stamped_lower_than_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let options = DiskOptions {
            root: dir.path().to_owned(),
            cluster_id: "fleet".to_owned(),
            node_id: 1,
        };
        let (disk, _) = Disk::open(options, 0).unwrap();
        let log = disk
            .create("t", Uuid::from_u128(1), 0, LogConfig::default())
            .unwrap();
        let home = Home::new(GroupName::default_group());
        let partition = Partition::new(log, Arc::clone(&home), 0);
        let appended = |end| {
            let position = home.add(1, 100);
            let mut state = partition.state.lock();
            state.uncovered.push_back((end, position));
        };
        let stamps = || {
            let state = partition.state.lock();
            state.uncovered.iter().copied().collect::<Vec<_>>()
        };
        home.rebase(|| at(70), |_| ());
        appended(1);
        assert_eq!(stamps(), [(1, at(71))]);
        // Another partition, with most of the records, is deleted, and before this one hears of it, more comes in.
        home.rebase(|| at(1), |_| ());
        appended(2);
        partition.restamp(AckSet::default(), &BTreeSet::new());
        assert_eq!(stamps(), [(1, at(2)), (2, at(2))]);
    }
}
