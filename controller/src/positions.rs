//! The newest report of each broker, in the leader's memory.
//!
//! A new leader begins with none; brokers report every second. A report counts only for the incarnation
//! that is registered now.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::watch;
use whimbrel_fleet::{GroupName, Incarnation, Node, NodeId, RegionEpoch, TopicPartition, View};
use whimbrel_rpc::controller::{PartitionPosition, PositionReport};

#[derive(Clone, Debug)]
pub(crate) struct Kept {
    incarnation: Incarnation,
    pub(crate) partitions: BTreeMap<TopicPartition, PartitionPosition>,
    pub(crate) seals: BTreeMap<GroupName, RegionEpoch>,
    pub(crate) behind_ms: BTreeMap<GroupName, u64>,
    /// When it came, on CLOCK_BOOTTIME here.
    pub(crate) at_ns: u64,
}

impl Kept {
    pub(crate) fn age_ms(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.at_ns) / 1_000_000
    }

    pub(crate) fn is_sealed(&self, group: &GroupName, epoch: RegionEpoch) -> bool {
        self.seals.get(group).is_some_and(|sealed| *sealed >= epoch)
    }
}

/// Reports of registered incarnations at one instant.
pub(crate) type Reports = BTreeMap<NodeId, Kept>;

#[derive(Debug)]
pub(crate) struct Positions {
    kept: Mutex<Reports>,
    changed: watch::Sender<u64>,
}

impl Default for Positions {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl Positions {
    /// False when the report is of an incarnation that is not the registered one.
    pub(crate) fn take(&self, report: PositionReport, view: &View, now_ns: u64) -> bool {
        if view
            .nodes
            .get(&report.node)
            .is_none_or(|n| n.incarnation != report.incarnation)
        {
            return false;
        }
        let kept = Kept {
            incarnation: report.incarnation,
            partitions: report.partitions.into_iter().map(|p| (p.at, p)).collect(),
            seals: report
                .seals
                .into_iter()
                .map(|s| (s.group, s.epoch))
                .collect(),
            behind_ms: report.behind_ms,
            at_ns: now_ns,
        };
        self.kept.lock().insert(report.node, kept);
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
        true
    }

    pub(crate) fn reports(&self, view: &View) -> Reports {
        let current = |id: &NodeId, kept: &Kept| {
            view.nodes
                .get(id)
                .is_some_and(|n: &Node| n.incarnation == kept.incarnation)
        };
        self.kept
            .lock()
            .iter()
            .filter(|(id, kept)| current(id, kept))
            .map(|(id, kept)| (*id, kept.clone()))
            .collect()
    }

    /// Leadership is new: what an earlier one was told is old.
    pub(crate) fn clear(&self) {
        self.kept.lock().clear();
    }

    pub(crate) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
