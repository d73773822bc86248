//! Joins the coordinators to the partitions of `__consumer_offsets` and `__transaction_state` led here, and holds data
//! partitions shut after a lossy move until group positions are clamped. Coordinators of groups that belong to another
//! failover group than the one that moved are not waited for: they follow its moves by themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;
use whimbrel_fleet::{
    Clamp, FailoverGroup, GroupName, Move, RegionEpoch,
    naming::{CONSUMER_OFFSETS, TRANSACTION_STATE},
};
use whimbrel_runtime::Backoff;

use crate::{
    broker::Broker,
    catalog::Catalog,
    group::{Clamped, Coordinator, Limit, Limits, MoveId},
    txn,
};

#[derive(Debug, Default)]
pub struct Coordination {
    coordinator: OnceLock<Arc<Coordinator>>,
    transactions: OnceLock<Arc<txn::Coordinator>>,
    /// The newest region epoch of each group that began with a lossy move, and whether its clamps are done.
    clamps: Mutex<BTreeMap<GroupName, (RegionEpoch, bool)>>,
    /// Lossy moves of other failover groups than the coordinator's that it was told of, and those whose clamps were or are
    /// being reported.
    elsewhere: Mutex<Elsewhere>,
}

#[derive(Debug, Default)]
struct Elsewhere {
    told: BTreeSet<MoveId>,
    reported: BTreeSet<MoveId>,
}

impl Coordination {
    /// Once, before any view is followed.
    pub fn set(&self, coordinator: Arc<Coordinator>, transactions: Arc<txn::Coordinator>) {
        let _ = self.coordinator.set(coordinator);
        let _ = self.transactions.set(transactions);
    }

    pub fn coordinator(&self) -> Option<&Arc<Coordinator>> {
        self.coordinator.get()
    }

    pub fn transactions(&self) -> Option<&Arc<txn::Coordinator>> {
        self.transactions.get()
    }

    /// A partition of `topic` is no longer led here.
    pub fn resign(&self, topic: &str, partition: i32) {
        match topic {
            CONSUMER_OFFSETS => {
                if let Some(coordinator) = self.coordinator.get() {
                    coordinator.resign(partition);
                }
            }
            TRANSACTION_STATE => {
                if let Some(transactions) = self.transactions.get() {
                    transactions.resign(partition);
                }
            }
            _ => {}
        }
    }

    /// This partition of `__transaction_state` is led from now on, in this leader epoch. `stale_below`: where the
    /// newest lossy move cut it.
    pub fn lead_transactions(&self, partition: i32, leader_epoch: i32, stale_below: Option<i64>) {
        if let Some(transactions) = self.transactions.get() {
            transactions.lead(partition, leader_epoch, stale_below);
        }
    }

    pub fn topics_deleted(&self, names: &[String]) {
        if let Some(coordinator) = self.coordinator.get() {
            coordinator.topics_deleted(names);
        }
    }

    /// True while data partitions of the group wait for positions to be clamped.
    pub fn clamping(&self, group: &GroupName) -> bool {
        self.clamps.lock().get(group).is_some_and(|(_, done)| !done)
    }

    /// True once the positions were clamped to the move that began the group's present epoch.
    pub fn is_clamped(&self, group: &FailoverGroup) -> bool {
        self.clamps.lock().get(&group.name) == Some(&(group.epoch, true))
    }

    /// The offsets partitions in `led` (with their leader epochs) are led from now on. After a lossy move
    /// they are clamped to it first, and the group's data partitions open only after that.
    pub fn lead(
        &self,
        broker: &Arc<Broker>,
        group: &FailoverGroup,
        led: Vec<(i32, i32)>,
        lossy: Option<&Move>,
    ) {
        let Some(coordinator) = self.coordinator.get() else {
            return;
        };
        let catalog = broker.catalog();
        let coordinates = catalog
            .topic(CONSUMER_OFFSETS)
            .is_some_and(|topic| topic.group == group.name);
        if coordinates {
            self.follow(coordinator, &catalog, !led.is_empty());
        }
        let limits = lossy.map(|m| Arc::new(limits(&catalog, &group.name, m)));
        for &(partition, leader_epoch) in &led {
            coordinator.lead(partition, leader_epoch, limits.clone());
        }
        if coordinates {
            self.report_elsewhere(broker, coordinator, &catalog);
        }
        let Some(lossy) = lossy.cloned() else { return };
        {
            let mut clamps = self.clamps.lock();
            if clamps
                .get(&group.name)
                .is_some_and(|(epoch, _)| *epoch >= group.epoch)
            {
                return;
            }
            clamps.insert(group.name.clone(), (group.epoch, false));
        }
        let (broker_, coordinator) = (Arc::clone(broker), Arc::clone(coordinator));
        let (group, shutdown) = (group.name.clone(), broker.tasks.shutdown());
        broker
            .tasks
            .spawn_ok(format!("clamps {group}"), async move {
                let _ = shutdown
                    .unless(clamp(&broker_, &coordinator, &group, &lossy, led))
                    .await;
            });
    }

    /// Tells the coordinator which lossy moves of other failover groups there were. `anew`: it comes to lead more.
    fn follow(&self, coordinator: &Coordinator, catalog: &Catalog, anew: bool) {
        let moves: Vec<_> = lossy_elsewhere(catalog).collect();
        let ids: BTreeSet<_> = moves.iter().map(|(id, _)| id.clone()).collect();
        {
            let mut elsewhere = self.elsewhere.lock();
            if !anew && ids.is_subset(&elsewhere.told) {
                return;
            }
            elsewhere.told = ids;
        }
        let limits = moves
            .into_iter()
            .map(|(id, lossy)| Arc::new(limits(catalog, &id.group, lossy)));
        coordinator.follow(limits.collect());
    }

    /// Reports what the newest moves of other failover groups set back in the partitions led here, once.
    fn report_elsewhere(
        &self,
        broker: &Arc<Broker>,
        coordinator: &Arc<Coordinator>,
        catalog: &Catalog,
    ) {
        let led = coordinator.led();
        if led.is_empty() {
            return;
        }
        let is_newest = |id: &MoveId| {
            let group = catalog.view.groups.get(&id.group);
            group.is_some_and(|group| group.epoch == id.epoch)
        };
        for (id, _) in lossy_elsewhere(catalog).filter(|(id, _)| is_newest(id)) {
            if !self.elsewhere.lock().reported.insert(id.clone()) {
                continue;
            }
            let (broker_, coordinator) = (Arc::clone(broker), Arc::clone(coordinator));
            let (led, shutdown) = (led.clone(), broker.tasks.shutdown());
            let name = format!("clamps {} elsewhere", id.group);
            broker.tasks.spawn_ok(name, async move {
                let followed = follow_to_the_end(&broker_, &coordinator, &id, led);
                let _ = shutdown.unless(followed).await;
            });
        }
    }
}

/// The lossy moves of failover groups that the coordinators do not move with.
fn lossy_elsewhere(catalog: &Catalog) -> impl Iterator<Item = (MoveId, &Move)> {
    let own = catalog.topic(CONSUMER_OFFSETS).map(|topic| &topic.group);
    let groups = catalog.view.groups.values();
    let others = groups.filter(move |group| own.is_some_and(|own| *own != group.name));
    others.flat_map(|group| {
        let lossy = group.moves.iter().filter(|m| m.lossy);
        lossy.map(|m| (id_of(&group.name, m), m))
    })
}

fn id_of(group: &GroupName, moved: &Move) -> MoveId {
    MoveId {
        group: group.clone(),
        epoch: moved.epoch,
    }
}

async fn follow_to_the_end(broker: &Broker, coordinator: &Coordinator, id: &MoveId, led: Vec<i32>) {
    let mut clamps = Vec::new();
    for partition in led {
        // None: no longer led here, so its new leader does it.
        let followed = coordinator.followed(partition, id).await;
        clamps.extend(followed.unwrap_or_default().into_iter().map(clamp_of));
    }
    tracing::info!(group = %id.group, epoch = %id.epoch, clamped = clamps.len(), "group positions clamped in what another failover group moved");
    report(broker, id, &clamps).await;
}

async fn clamp(
    broker: &Arc<Broker>,
    coordinator: &Coordinator,
    group: &GroupName,
    lossy: &Move,
    led: Vec<(i32, i32)>,
) {
    let mut clamps = Vec::new();
    let coordinates = !led.is_empty();
    for (partition, _) in led {
        // None: no longer led here, so its new leader does it.
        clamps.extend(
            coordinator
                .clamped(partition)
                .await
                .unwrap_or_default()
                .into_iter()
                .map(clamp_of),
        );
    }
    broker
        .coordination
        .clamps
        .lock()
        .insert(group.clone(), (lossy.epoch, true));
    let catalog = broker.catalog();
    let moved = catalog
        .view
        .groups
        .get(group)
        .is_some_and(|g| g.epoch == lossy.epoch && g.fence.is_none());
    if moved {
        catalog
            .partitions()
            .filter(|p| p.home.group == *group)
            .for_each(|p| p.open());
    }
    tracing::info!(%group, epoch = %lossy.epoch, clamped = clamps.len(), "group positions clamped; partitions open");
    // Who coordinates nothing has nothing to report.
    if coordinates {
        report(broker, &id_of(group, lossy), &clamps).await;
    }
}

async fn report(broker: &Broker, id: &MoveId, clamps: &[Clamp]) {
    let mut pause = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    while let Err(error) = broker
        .controller
        .report_clamps(&id.group, id.epoch, clamps)
        .await
    {
        tracing::warn!(group = %id.group, %error, "clamps were not reported; trying again");
        broker.clock.sleep(pause.next()).await;
    }
}

fn clamp_of(clamped: Clamped) -> Clamp {
    Clamp {
        consumer_group: clamped.group,
        topic: clamped.topic,
        partition: clamped.partition,
        from: clamped.from,
        to: clamped.to,
    }
}

fn limits(catalog: &Catalog, group: &GroupName, lossy: &Move) -> Limits {
    let mut positions = Vec::new();
    let mut offsets = Vec::new();
    for moved in &lossy.partitions {
        let Some(topic) = catalog.topic_by_id(moved.at.topic_id) else {
            continue;
        };
        if topic.name == CONSUMER_OFFSETS {
            offsets.push((moved.at.partition, moved.promotion.offset));
            continue;
        }
        positions.push(Limit {
            topic: topic.name.clone(),
            partition: moved.at.partition,
            promotion_offset: moved.promotion.offset,
            leader_epoch: moved.promotion.epoch.0,
            opened: moved.opened.map(|epoch| epoch.0),
        });
    }
    Limits::new(id_of(group, lossy), positions, offsets)
}
