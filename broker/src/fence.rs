//! What a broker does while a failover group's fence stands in the view.
//!
//! The old home of a planned move parks writes unappended, gives up its lease, waits until what it holds
//! is fsynced and seals its positions. The target of an unplanned one takes no replica batches any more
//! and seals. A fence that goes away without a move leaves everything as the view then says.

use whimbrel_fleet::{FailoverGroup, MoveMode};
use whimbrel_rpc::controller::Seal;

use crate::{broker::Broker, partition::Role};

/// Called after every view: parks, seals and gives up what a fence forbids, opens what it no longer does.
pub fn obey(broker: &Broker) {
    let catalog = broker.catalog();
    for group in catalog.view.groups.values() {
        let of_group = catalog.partitions().filter(|p| p.home.group == group.name);
        if group.home != broker.region {
            let sealed = group
                .fence
                .as_ref()
                .is_some_and(|f| f.mode == MoveMode::Failover && f.to == broker.region);
            of_group.for_each(|p| p.seal(sealed));
            continue;
        }
        match &group.fence {
            Some(fence) => {
                broker.lease.drop_group(&group.name);
                for partition in of_group.filter(|p| p.leads().is_some()) {
                    // Parked acks are answered at once: their outcome is the new home's to tell.
                    partition.park(fence.mode != MoveMode::Failover);
                    partition.fail_unleased(&broker.lease);
                    broker.flusher.list(partition);
                }
            }
            None if broker.coordination.clamping(&group.name) => {}
            None => of_group
                .filter(|p| p.leads().is_some_and(|t| !t.open))
                .for_each(|p| p.open()),
        }
    }
}

/// Groups whose positions here are final in their fence's epoch.
pub fn seals(broker: &Broker) -> Vec<Seal> {
    let catalog = broker.catalog();
    let sealed = |group: &FailoverGroup| {
        let fence = group.fence.as_ref()?;
        let concerned = if group.home == broker.region {
            fence.mode != MoveMode::Failover
        } else {
            fence.mode == MoveMode::Failover && fence.to == broker.region
        };
        let settled = catalog
            .partitions()
            .filter(|p| p.home.group == group.name)
            // At home only leaders hold what counts; their followers go on copying.
            .filter(|p| group.home != broker.region || !matches!(p.role(), Role::Follower { .. }))
            .all(|p| {
                let sealed = p.is_sealed();
                let offsets = p.log.offsets();
                sealed && offsets.durable_end == offsets.log_end
            });
        (concerned && settled).then(|| Seal {
            group: group.name.clone(),
            epoch: fence.epoch,
        })
    };
    catalog.view.groups.values().filter_map(sealed).collect()
}

/// True while any group is fenced: positions are reported often then, so that a drain is seen to end.
pub fn stands(broker: &Broker) -> bool {
    broker
        .catalog()
        .view
        .groups
        .values()
        .any(|g| g.fence.is_some())
}
