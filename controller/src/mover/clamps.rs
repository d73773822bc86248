//! How many coordinators have reported their clamps after a move, so that its report can be closed.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::watch;
use whimbrel_fleet::{GroupName, RegionEpoch};

#[derive(Debug)]
pub(crate) struct ClampReports {
    counts: Mutex<BTreeMap<GroupName, (RegionEpoch, usize)>>,
    changed: watch::Sender<u64>,
}

impl Default for ClampReports {
    fn default() -> Self {
        Self {
            counts: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl ClampReports {
    pub(crate) fn count(&self, group: &GroupName, epoch: RegionEpoch) {
        {
            let mut counts = self.counts.lock();
            let entry = counts.entry(group.clone()).or_insert((epoch, 0));
            if entry.0 > epoch {
                return;
            }
            if entry.0 < epoch {
                *entry = (epoch, 0);
            }
            entry.1 = entry.1.saturating_add(1);
        }
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    pub(crate) fn counted(&self, group: &GroupName, epoch: RegionEpoch) -> usize {
        self.counts
            .lock()
            .get(group)
            .filter(|(e, _)| *e == epoch)
            .map_or(0, |(_, n)| *n)
    }

    pub(crate) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
