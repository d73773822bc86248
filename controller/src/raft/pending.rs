//! Fences and registrations that are in this voter's log but not applied yet.
//!
//! A lease is refused from the moment a fence is *appended*: a majority of voters holds it then, and any
//! majority that could grant a lease meets that one. What is applied is the state's business. Entries
//! are noted before they are written, and forgotten after the state that includes them is published, so
//! that whoever reads this index first and the state second misses none.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use whimbrel_fleet::{GroupName, Incarnation, NodeId, RegionEpoch};

use super::Entry;

#[derive(Debug, Default)]
pub(crate) struct Pending {
    by_index: Mutex<BTreeMap<u64, (GroupName, RegionEpoch)>>,
    /// Brokers fenced, or registered at a new start, which is the only one that may go on.
    nodes: Mutex<BTreeMap<u64, (NodeId, Option<Incarnation>)>>,
}

impl Pending {
    pub(crate) fn note(&self, entry: &Entry) {
        let openraft::EntryPayload::Normal(command) = &entry.payload else {
            return;
        };
        let index = entry.log_id.index;
        if let Some((group, epoch)) = command.fences() {
            self.by_index.lock().insert(index, (group.clone(), epoch));
        }
        if let Some(node) = command.fenced_node() {
            self.nodes.lock().insert(index, (node, None));
        }
        if let Some((node, start)) = command.started_node() {
            self.nodes.lock().insert(index, (node, Some(start)));
        }
    }

    /// The log was cut from `index` on: another leader's entries take the place.
    pub(crate) fn truncate(&self, index: u64) {
        self.by_index.lock().split_off(&index);
        self.nodes.lock().split_off(&index);
    }

    /// The published state includes everything up to `index`.
    pub(crate) fn applied(&self, index: u64) {
        let mut entries = self.by_index.lock();
        let later = entries.split_off(&index.saturating_add(1));
        *entries = later;
        drop(entries);
        let mut nodes = self.nodes.lock();
        let later = nodes.split_off(&index.saturating_add(1));
        *nodes = later;
    }

    /// True while an entry that is not applied yet fences this start of the broker.
    pub(crate) fn fences(&self, node: NodeId, incarnation: Incarnation) -> bool {
        let nodes = self.nodes.lock();
        nodes
            .values()
            .any(|(n, start)| *n == node && *start != Some(incarnation))
    }

    /// The highest epoch that an entry of `group` forbids leases below.
    pub(crate) fn floor(&self, group: &GroupName) -> Option<RegionEpoch> {
        self.by_index
            .lock()
            .values()
            .filter(|(g, _)| g == group)
            .map(|(_, epoch)| *epoch)
            .max()
    }
}

#[cfg(test)]
mod tests {
    use openraft::{CommittedLeaderId, EntryPayload};

    use super::*;
    use crate::{raft::LogId, state::Command};

    fn abort(index: u64, epoch: u32) -> Entry {
        let command = Command::AbortMove {
            group: "default".into(),
            epoch: RegionEpoch(epoch),
            reason: String::new(),
            fence_ms: 0,
            at_ms: 0,
        };
        Entry {
            log_id: LogId::new(CommittedLeaderId::new(1, 1), index),
            payload: EntryPayload::Normal(command),
        }
    }

    #[test]
    fn appended_fences_count_until_applied_or_cut_off() {
        let pending = Pending::default();
        let group = GroupName::default_group();
        pending.note(&abort(5, 2));
        pending.note(&abort(7, 4));
        assert_eq!(pending.floor(&group), Some(RegionEpoch(5)));
        pending.truncate(7);
        assert_eq!(pending.floor(&group), Some(RegionEpoch(3)));
        pending.applied(4);
        assert_eq!(pending.floor(&group), Some(RegionEpoch(3)));
        pending.applied(5);
        assert_eq!(pending.floor(&group), None);
    }
}
