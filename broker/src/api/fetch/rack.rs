//! Who names where it stands is sent to a copy that stands there too (KIP-392).
//!
//! Clients take that answer only for a broker that Metadata lists among the partition's replicas and not
//! among the offline ones, read from it for minutes, and come back to the leader with any refusal. So the
//! leader sends nobody to a copy that would refuse: one that it does not feed, or that lacks what is asked
//! for next while the leader has it.

use whimbrel_fleet::{NodeId, Topic};

use crate::{catalog::Catalog, partition::Partition};

/// The copy beside a reader that has most of what follows `offset`; `None` where the leader serves it
/// itself. `partition` is the leader's.
pub fn preferred(
    catalog: &Catalog,
    topic: &Topic,
    partition: &Partition,
    offset: i64,
    rack: &str,
) -> Option<NodeId> {
    let index = usize::try_from(partition.at.partition).ok()?;
    let placed = topic.partitions.get(index)?;
    let leader = catalog.listed(placed.leader?)?;
    if leader.is_beside(rack) {
        return None;
    }
    let home = catalog.view.group_of(topic).map(|g| &g.home);
    // As Metadata shows them: elsewhere the heads alone.
    let shown = placed.replicas.iter().flat_map(|(region, nodes)| {
        let most = if Some(region) == home { nodes.len() } else { 1 };
        nodes.iter().take(most)
    });
    let high_watermark = partition.high_watermark();
    shown
        .filter(|id| **id != leader.id && catalog.view.is_live(**id))
        .filter_map(|id| catalog.listed(*id))
        .filter(|node| node.is_beside(rack))
        .filter_map(|node| Some((partition.copy_end(node)?, node.id)))
        .filter(|(end, _)| offset < *end || offset == *end && *end >= high_watermark)
        .max()
        .map(|(_, id)| id)
}
