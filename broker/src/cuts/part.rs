//! This broker's part in a cut, whoever takes it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use whimbrel_fleet::{
    GroupName,
    naming::{CONSUMER_OFFSETS, CUTS, TRANSACTION_STATE},
};
use whimbrel_rpc::proto::peer::{EndsReply, EpochStart, Part, PartitionEnd};

use crate::{
    broker::Broker,
    catalog::Catalog,
    partition::{Partition, Role},
    reports,
};

/// Keeps the markers of the transactions coordinated here back; true once none is under way.
pub async fn hold(broker: &Arc<Broker>, token: u64, span: Duration) -> bool {
    match broker.coordination.transactions() {
        Some(transactions) => transactions.gate().hold(token, span).await,
        None => false,
    }
}

/// Lets them through; true if none came through meanwhile.
pub fn release(broker: &Broker, token: u64) -> bool {
    let transactions = broker.coordination.transactions();
    transactions.is_some_and(|transactions| transactions.gate().release(token))
}

/// Where the group's logs here end. With `led` those that are led here under a lease, else those that this broker fills
/// for its region: at home the led ones too, up to where the whole ack set is.
pub fn ends(broker: &Broker, group: &GroupName, part: Part, led: bool) -> EndsReply {
    let catalog = broker.catalog();
    let of_group = catalog
        .partitions()
        .filter(|partition| partition.home.group == *group && is_part(partition, part));
    let partitions = of_group
        .filter_map(|partition| {
            if led {
                led_end(broker, partition)
            } else {
                region_end(broker, &catalog, partition)
            }
        })
        .collect();
    EndsReply {
        // A newer one than before the ends were read tells whoever asked that it may have missed something.
        view_version: broker.catalog().view.version,
        partitions,
    }
}

fn is_part(partition: &Partition, part: Part) -> bool {
    let of_topic = match partition.log.topic() {
        TRANSACTION_STATE => Part::Transactions,
        CONSUMER_OFFSETS => Part::Positions,
        CUTS => return false,
        _ => Part::Records,
    };
    part == Part::All || part == of_topic
}

fn led_end(broker: &Broker, partition: &Partition) -> Option<PartitionEnd> {
    let Role::Leader(terms) = partition.role() else {
        return None;
    };
    let durable_end = partition.log.offsets().durable_end;
    let end = end(partition, terms.leader_epoch, durable_end);
    // Asked last: nobody else can have taken anything before.
    terms.held(&broker.lease, &partition.home).then_some(end)
}

fn region_end(broker: &Broker, catalog: &Catalog, partition: &Partition) -> Option<PartitionEnd> {
    let (topic, placed) = catalog.placed(partition.at)?;
    let is_home = catalog.view.group_of(topic)?.home == broker.region;
    let fills = placed.source_in(&broker.region, is_home);
    let durable_end = partition.log.offsets().durable_end;
    let upto = match partition.role() {
        Role::Leader(_) => partition.high_watermark().min(durable_end),
        _ => durable_end,
    };
    (fills == Some(broker.node)).then(|| end(partition, -1, upto))
}

fn end(partition: &Partition, leader_epoch: i32, end: i64) -> PartitionEnd {
    let lineage = reports::lineage(partition, end);
    PartitionEnd {
        topic_id: Bytes::copy_from_slice(partition.at.topic_id.as_bytes()),
        partition: partition.at.partition,
        leader_epoch,
        log_start: partition.log.offsets().log_start,
        end,
        epochs: lineage
            .epochs
            .into_iter()
            .filter(|start| start.start_offset < end)
            .map(|start| EpochStart {
                epoch: start.epoch,
                start_offset: start.start_offset,
            })
            .collect(),
    }
}
