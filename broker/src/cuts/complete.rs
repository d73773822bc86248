//! The newest cut of each group that is wholly durable in this region, found by the broker that fills the region's copy of
//! the group's partition of `__whimbrel_cuts`.
//!
//! What the brokers of the region hold is asked for each time: a cut that was complete may be so no more after a lossy
//! move.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use parking_lot::Mutex;
use serde::Serialize;
use whimbrel_fleet::{
    FailoverGroup, GroupName, RegionEpoch, TopicPartition,
    cut::{Cut, Known, Standing, format},
    naming::{self, CUTS},
};
use whimbrel_rpc::proto::peer::Part;
use whimbrel_wire::{Batches, codec, record};

use super::{peer::Peer, standing};
use crate::{
    broker::Broker,
    catalog::Catalog,
    partition::{Partition, Role},
};

/// Until a broker of the region has to have said what it holds.
const PATIENCE: Duration = Duration::from_secs(2);
/// So many of the newest cuts are looked at one by one; of older ones each twice as far back as the one before. A region
/// that is so far behind is told a cut that it holds, and the newest of them when it has caught up.
const ONE_BY_ONE: i64 = 16;

/// A cut that a region holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Complete {
    /// Of its record.
    pub offset: i64,
    pub region_epoch: RegionEpoch,
    pub taken_ms: i64,
    /// That it names.
    pub partitions: usize,
}

/// What was found last, for those groups whose cuts this broker looks at.
#[derive(Debug, Default)]
pub struct Newest(Mutex<BTreeMap<GroupName, Complete>>);

impl Newest {
    pub fn all(&self) -> BTreeMap<GroupName, Complete> {
        self.0.lock().clone()
    }

    fn set(&self, group: &GroupName, found: Option<Complete>) {
        let mut all = self.0.lock();
        match found {
            Some(found) => drop(all.insert(group.clone(), found)),
            None => drop(all.remove(group)),
        }
    }
}

/// Looks for the group's newest complete cut, if that is this broker's to do.
pub async fn look(broker: &Arc<Broker>, group: &FailoverGroup) {
    let found = find(broker, group).await;
    broker.cuts.set(&group.name, found);
}

async fn find(broker: &Arc<Broker>, group: &FailoverGroup) -> Option<Complete> {
    let catalog = broker.catalog();
    let partition = filled(broker, &catalog, group)?;
    let upto = match partition.role() {
        Role::Leader(_) => partition.high_watermark(),
        _ => partition.log.offsets().durable_end,
    };
    let start = partition.log.offsets().log_start;
    if upto <= start {
        return None;
    }
    // Before the cuts are read: what they name is looked for in what is surely there.
    let here = standings(broker, &catalog, &group.name).await;
    let known = |cut: &Cut, at: TopicPartition| match here.get(&at) {
        Some(standing) => Known::Stands(standing),
        None if catalog.view.version >= cut.view_version
            && catalog.topic_by_id(at.topic_id).is_none() =>
        {
            Known::Deleted
        }
        None => Known::Unknown,
    };
    let mut back = 1_i64;
    while upto.saturating_sub(back) >= start {
        let offset = upto.saturating_sub(back);
        if let Some(cut) = read(&partition, offset, upto)
            && cut.is_complete(|at| known(&cut, at))
        {
            return Some(Complete {
                offset,
                region_epoch: cut.region_epoch,
                taken_ms: cut.taken_ms,
                partitions: cut.ends.len(),
            });
        }
        back = back.saturating_add(if back < ONE_BY_ONE { 1 } else { back });
        // Vectors may be long.
        tokio::task::yield_now().await;
    }
    None
}

/// The group's partition of cuts, if this broker fills the region's copy of it.
fn filled(broker: &Broker, catalog: &Catalog, group: &FailoverGroup) -> Option<Arc<Partition>> {
    let topic = catalog.topic(CUTS)?;
    let at = TopicPartition::new(topic.id, naming::cuts_partition(group.offsets));
    let (_, placed) = catalog.placed(at)?;
    let is_home = group.home == broker.region;
    if placed.source_in(&broker.region, is_home) != Some(broker.node) {
        return None;
    }
    catalog.local(at).cloned()
}

async fn standings(
    broker: &Arc<Broker>,
    catalog: &Catalog,
    group: &GroupName,
) -> HashMap<TopicPartition, Standing> {
    let peers = Peer::all(broker, catalog);
    let mut asked = Vec::with_capacity(peers.len());
    for peer in &peers {
        asked.push(peer.ends(group, Part::All, false, PATIENCE));
    }
    let replies = join_all(asked).await;
    let ends = replies.iter().flatten().flat_map(|reply| &reply.partitions);
    ends.filter_map(standing::of).collect()
}

/// The cut of the record at `offset`; none if it cannot be read as one.
fn read(partition: &Partition, offset: i64, upto: i64) -> Option<Cut> {
    let slice = partition.log.read(offset, 1, true, upto).ok()?;
    for batch in Batches::new(slice.records) {
        let batch = batch.ok()?;
        for found in record::records(&batch, codec::Limits::default()).ok()? {
            let found = found.ok()?;
            if found.offset == offset {
                return format::decode(&found.key?, &found.value?).ok();
            }
        }
    }
    None
}
