//! Tells the controller where this broker's copies end: about once a second when something changed, at
//! once when a fence appears, and every few milliseconds while one stands.

use std::{sync::Arc, time::Duration};

use whimbrel_fleet::{GroupName, Lineage};
use whimbrel_rpc::controller::{PartitionPosition, PositionReport};

use crate::{broker::Broker, fence, partition::Partition, partition::Role};

const PERIOD: Duration = Duration::from_secs(1);
/// A drain ends when the controller sees equal ends on both sides: this is how fast it can see it.
const FENCED_PERIOD: Duration = Duration::from_millis(20);

pub async fn run(broker: Arc<Broker>) {
    let shutdown = broker.tasks.shutdown();
    let mut last = None;
    while !shutdown.requested() {
        let report = report(&broker);
        // Lag in time is news every time, even when nothing moved.
        if last.as_ref() != Some(&report) || !report.behind_ms.is_empty() {
            match shutdown
                .unless(broker.controller.report_positions(report.clone()))
                .await
            {
                Some(Ok(true)) => last = Some(report),
                Some(Ok(false)) | None => last = None,
                Some(Err(error)) => {
                    tracing::debug!(%error, "positions were not reported");
                    last = None;
                }
            }
        }
        let pause = if fence::stands(&broker) {
            FENCED_PERIOD
        } else {
            PERIOD
        };
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            () = broker.report.notified() => {}
            () = broker.clock.sleep(pause) => {}
        }
    }
}

fn report(broker: &Broker) -> PositionReport {
    let catalog = broker.catalog();
    // Seals first: a position read after them is not older than they are.
    let seals = fence::seals(broker);
    let mut report = PositionReport::new(broker.node, broker.incarnation);
    report.partitions = catalog.partitions().map(|p| position(p)).collect();
    report.partitions.sort_by_key(|p| p.at);
    report.seals = seals;
    report.behind_ms = behind_ms(broker).collect();
    report
}

fn position(partition: &Partition) -> PartitionPosition {
    let durable_end = partition.log.offsets().durable_end;
    let bytes = partition.log.durable_bytes();
    PartitionPosition {
        at: partition.at,
        end_offset: durable_end,
        last_epoch: lineage(partition, durable_end).last_epoch(),
        bytes,
    }
}

/// The log's lineage up to `end_offset`.
pub fn lineage(partition: &Partition, end_offset: i64) -> Lineage {
    let epochs = partition.log.lineage();
    let epochs = epochs
        .into_iter()
        .map(|e| whimbrel_fleet::EpochStart {
            epoch: e.epoch,
            start_offset: e.start_offset,
        })
        .collect();
    Lineage { epochs, end_offset }
}

/// How far each group that is not at home here is behind, by its slowest partition.
pub fn behind_ms(broker: &Broker) -> impl Iterator<Item = (GroupName, u64)> {
    let catalog = broker.catalog();
    let now_ns = broker.clock.boot_ns();
    let mut slowest = std::collections::BTreeMap::<GroupName, u64>::new();
    for partition in catalog
        .partitions()
        .filter(|p| matches!(p.role(), Role::Follower { .. }))
        // At home a follower that is behind leaves the ack set; no mirror has to do with it.
        .filter(|p| {
            let group = catalog.view.groups.get(&p.home.group);
            group.is_some_and(|g| g.home != broker.region)
        })
    {
        let behind_ms = slowest.entry(partition.home.group.clone()).or_default();
        *behind_ms = (*behind_ms).max(partition.following.behind_ms(now_ns));
    }
    slowest.into_iter()
}
