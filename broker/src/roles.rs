//! Follows the fleet's view: creates and deletes logs, and gives each partition its role.
//!
//! Order matters. Who loses leadership stops first; new leaders have their epoch on disk before they
//! answer anything; the catalog is published before partitions open, so that whoever is told of a leader
//! finds one. Leadership belongs to the incarnation: a view that still names an earlier start of this
//! process makes nobody a leader.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use whimbrel_fleet::{
    FailoverGroup, MoveMode, NodeId, Position, Topic, TopicId, TopicPartition, View,
};
use whimbrel_log::{Disk, Health, Log};

use crate::{
    broker::Broker,
    catalog::Catalog,
    early_acks, fence,
    partition::{AckSet, Feed, Now, Partition, Role, Terms},
    topic_config,
    txn::stray,
};

pub async fn run(broker: Arc<Broker>, logs: Vec<Arc<Log>>) {
    let (shutdown, mut view) = (broker.tasks.shutdown(), broker.controller.view());
    let mut found: BTreeMap<TopicPartition, Arc<Log>> = logs
        .into_iter()
        .map(|log| (TopicPartition::new(log.topic_id(), log.partition()), log))
        .collect();
    loop {
        let now = Arc::clone(&view.borrow_and_update());
        if now.version > 0 {
            apply(&broker, now, &mut found).await;
        }
        match shutdown.unless(view.changed()).await {
            Some(Ok(())) => {}
            _ => return,
        }
    }
}

/// A view's topics by their ids; what is asked for each of thousands of partitions must not walk all topics.
type Topics<'a> = HashMap<TopicId, &'a Topic>;

async fn apply(
    broker: &Arc<Broker>,
    view: Arc<View>,
    found: &mut BTreeMap<TopicPartition, Arc<Log>>,
) {
    let before = broker.catalog();
    let topics: Topics<'_> = view.topics.values().map(|t| (t.id, t)).collect();
    let mut local = HashMap::with_capacity(before.locals().len());
    // First: a topic of the same name may have come in the same view, and its logs would stand in the way.
    for (at, partition) in before.locals() {
        if !topics.contains_key(&at.topic_id) {
            delete(broker, partition, "the topic was deleted").await;
        }
    }
    for topic in view.topics.values() {
        place(broker, &before, (&view, topic), found, &mut local).await;
    }
    early_acks::bound(broker, &topics, &local).await;
    for (at, partition) in before.locals() {
        if topics.contains_key(&at.topic_id) && !local.contains_key(at) {
            delete(broker, partition, "a reassignment took it from this broker").await;
        }
    }
    let registered = is_registered(broker, &view);
    // A fenced broker leads nothing: others may be about to take over.
    let alive = registered && !view.fenced.contains(&broker.node);
    if registered {
        // Logs of topics that were deleted while this broker was away.
        for (_, log) in std::mem::take(found) {
            remove(broker, log).await;
        }
    }
    let mut led = Vec::new();
    for group in view.groups.values() {
        led.extend(demote(broker, (&view, &topics), group, &local, alive));
    }
    let led = begin_epochs(broker, led).await;
    broker.replace_catalog(Catalog::new(Arc::clone(&view), local));
    for group in view.groups.values() {
        promote(broker, &view, group, &led);
    }
    broker.view_is_applied();
    fence::obey(broker);
    broker.report.notify_one();
}

/// Partitions of `topic` that have a replica here: taken over, found on disk, or created.
async fn place(
    broker: &Arc<Broker>,
    before: &Catalog,
    (view, topic): (&View, &Topic),
    found: &mut BTreeMap<TopicPartition, Arc<Log>>,
    local: &mut HashMap<TopicPartition, Arc<Partition>>,
) {
    let config = topic_config::log_config(&view.configs_of(topic));
    let mut missing = Vec::new();
    for (index, partition) in (0_i32..).zip(&topic.partitions) {
        let at = TopicPartition::new(topic.id, index);
        if !partition
            .replicas
            .get(&broker.region)
            .is_some_and(|nodes| nodes.contains(&broker.node))
        {
            continue;
        }
        if let Some(known) = before.local(at) {
            if *known.log.config() != config {
                known.log.set_config(config.clone());
            }
            local.insert(at, Arc::clone(known));
            continue;
        }
        match found.remove(&at) {
            Some(log) => {
                log.set_config(config.clone());
                local.insert(at, partition_of(broker, topic, log));
            }
            None => missing.push(index),
        }
    }
    if missing.is_empty() {
        return;
    }
    for log in create(broker, topic, missing, config, found).await {
        let at = TopicPartition::new(topic.id, log.partition());
        local.insert(at, partition_of(broker, topic, log));
    }
}

fn partition_of(broker: &Broker, topic: &Topic, log: Arc<Log>) -> Arc<Partition> {
    Partition::new(log, broker.home(&topic.group), broker.clock.boot_ns())
}

/// Makes the logs of these partitions; what cannot be made is missing in the answer.
async fn create(
    broker: &Arc<Broker>,
    topic: &Topic,
    partitions: Vec<i32>,
    config: whimbrel_log::LogConfig,
    found: &mut BTreeMap<TopicPartition, Arc<Log>>,
) -> Vec<Arc<Log>> {
    // A deleted topic's log of the same name stands in the way: its topic id is in no view any more.
    let stale: Vec<_> = found
        .iter()
        .filter(|(_, log)| {
            log.topic() == topic.name && partitions.binary_search(&log.partition()).is_ok()
        })
        .map(|(at, _)| *at)
        .collect();
    for at in stale {
        if let Some(log) = found.remove(&at) {
            remove(broker, log).await;
        }
    }
    let (disk, name, id) = (Arc::clone(&broker.disk), topic.name.clone(), topic.id);
    let created = broker.tasks.blocking(move || {
        let made = disk.create_all(&name, id, &partitions, &config);
        partitions.into_iter().zip(made).collect::<Vec<_>>()
    });
    let mut logs = Vec::new();
    for (partition, made) in created.await {
        match made {
            Ok(log) => logs.push(log),
            Err(error) => {
                tracing::error!(topic = topic.name, partition, %error, "a log cannot be created");
            }
        }
    }
    logs
}

async fn delete(broker: &Arc<Broker>, partition: &Arc<Partition>, why: &str) {
    partition.resign();
    tracing::info!(
        topic = partition.log.topic(),
        partition = partition.at.partition,
        why,
        "a log goes"
    );
    remove(broker, Arc::clone(&partition.log)).await;
}

async fn remove(broker: &Arc<Broker>, log: Arc<Log>) {
    let disk: Arc<Disk> = Arc::clone(&broker.disk);
    let name = format!("{}-{}", log.topic(), log.partition());
    if let Err(error) = broker.tasks.blocking(move || disk.delete(&log)).await {
        tracing::error!(log = name, %error, "a deleted topic's log cannot be removed");
    }
}

/// A partition that is to lead in a new epoch.
struct Rise {
    partition: Arc<Partition>,
    leader_epoch: i32,
}

/// Takes leadership away where the view does, and names who is to lead anew.
fn demote(
    broker: &Broker,
    (view, topics): (&View, &Topics<'_>),
    group: &FailoverGroup,
    local: &HashMap<TopicPartition, Arc<Partition>>,
    alive: bool,
) -> Vec<Rise> {
    let home_here = group.home == broker.region;
    let mut rising = Vec::new();
    for partition in local.values() {
        let index = usize::try_from(partition.at.partition).unwrap_or(usize::MAX);
        let Some((topic, placed)) = topics
            .get(&partition.at.topic_id)
            .and_then(|topic| Some((topic, topic.partitions.get(index)?)))
        else {
            continue;
        };
        if topic.group != group.name {
            continue;
        }
        let role = partition.role();
        if home_here && alive && placed.leader == Some(broker.node) {
            let same = matches!(role, Role::Leader(t) if t.leader_epoch == placed.leader_epoch.0 && t.region_epoch == group.epoch);
            if !same {
                rising.push(Rise {
                    partition: Arc::clone(partition),
                    leader_epoch: placed.leader_epoch.0,
                });
            }
            continue;
        }
        if matches!(role, Role::Leader(_)) {
            broker
                .coordination
                .resign(&topic.name, partition.at.partition);
        }
        let region_epoch = group.epoch;
        match feed(broker, placed, home_here) {
            Some(feed) if role == (Role::Follower { region_epoch, feed }) => {}
            Some(feed) => partition.follow(region_epoch, feed, broker.clock.boot_ns()),
            None if role == Role::None => {}
            None => partition.resign(),
        }
    }
    if !home_here || !is_registered(broker, view) {
        broker.lease.drop_group(&group.name);
    }
    rising
}

/// Where a replica that does not lead is filled from.
fn feed(broker: &Broker, placed: &whimbrel_fleet::Partition, home_here: bool) -> Option<Feed> {
    match placed.source_in(&broker.region, home_here)? {
        node if node != broker.node => Some(Feed::Node(node)),
        _ if home_here => None,
        _ => Some(Feed::Home),
    }
}

/// The view knows this very start of the process.
fn is_registered(broker: &Broker, view: &View) -> bool {
    let known = view.nodes.get(&broker.node);
    known.is_some_and(|n| n.incarnation == broker.incarnation)
}

/// Which copies the acks of a led partition wait for.
fn ack_set(broker: &Broker, catalog: &Catalog, partition: &Partition) -> AckSet {
    let Some((topic, placed)) = catalog.placed(partition.at) else {
        return AckSet::default();
    };
    let other = |n: &NodeId| *n != broker.node;
    let replicas = placed.replicas.get(&broker.region);
    let candidates = replicas.into_iter().flatten().copied();
    AckSet {
        isr: placed.isr.iter().copied().filter(other).collect(),
        candidates: candidates
            .filter(|n| other(n) && catalog.view.is_live(*n))
            .collect(),
        version: placed.version,
        min: catalog.view.min_insync_replicas(topic),
    }
}

/// Writes the epochs of all new leaders with one sync. A log that cannot begin its epoch does not lead.
async fn begin_epochs(broker: &Arc<Broker>, rising: Vec<Rise>) -> Vec<Rise> {
    let mut able = Vec::new();
    for rise in rising {
        match rise.partition.log.health() {
            Health::Good => able.push(rise),
            Health::Damaged { reason } => {
                let (topic, partition) = (rise.partition.log.topic(), rise.partition.at.partition);
                tracing::error!(code = "WB-108", topic, partition, %reason, "a damaged log does not lead");
            }
        }
    }
    if able.is_empty() {
        return able;
    }
    let epochs: Vec<_> = able
        .iter()
        .map(|r| (Arc::clone(&r.partition.log), r.leader_epoch))
        .collect();
    let disk = Arc::clone(&broker.disk);
    let all = broker
        .tasks
        .blocking(move || disk.begin_epochs(&epochs))
        .await;
    let Err(error) = all else { return able };
    tracing::error!(%error, "leader epochs cannot be begun together; trying one by one");
    let mut led = Vec::new();
    for rise in able {
        let (log, epoch) = (Arc::clone(&rise.partition.log), rise.leader_epoch);
        match broker.tasks.blocking(move || log.begin_epoch(epoch)).await {
            Ok(()) => led.push(rise),
            Err(error) => {
                tracing::error!(topic = rise.partition.log.topic(), partition = rise.partition.at.partition, %error, "does not lead");
            }
        }
    }
    led
}

/// Holds the lease, gives the new leaders their terms and opens them, at once or after the clamps.
fn promote(broker: &Arc<Broker>, view: &View, group: &FailoverGroup, led: &[Rise]) {
    if group.home != broker.region {
        return;
    }
    let catalog = broker.catalog();
    let home = broker.home(&group.name);
    let of_group = |p: &&Arc<Partition>| p.home.group == group.name;
    let rising: BTreeSet<_> = led
        .iter()
        .filter(|r| r.partition.home.group == group.name)
        .map(|r| r.partition.at)
        .collect();
    let leading: Vec<_> = catalog
        .partitions()
        .filter(of_group)
        .filter(|p| p.leads().is_some() || rising.contains(&p.at))
        .collect();
    if group.fence.is_none() && is_registered(broker, view) {
        broker
            .lease
            .hold(&group.name, group.epoch, group.lease_ms, group.loss_mode);
    }
    let tell = |position| {
        broker
            .lease
            .rebase_position(&group.name, position, view.version);
    };
    let position = home.rebase(|| sum(&leading), tell);
    let staying = leading.iter().filter(|p| !rising.contains(&p.at));
    staying.for_each(|p| restamp(broker, &catalog, group, p));
    let lossy = group
        .moves
        .last()
        .filter(|m| m.epoch == group.epoch && m.lossy && m.to == broker.region);
    let clamps = lossy.is_some() && !broker.coordination.is_clamped(group);
    let planned = group
        .fence
        .as_ref()
        .is_some_and(|f| f.mode != MoveMode::Failover);
    let mut offsets = Vec::new();
    for rise in led.iter().filter(|r| rising.contains(&r.partition.at)) {
        let partition = &rise.partition;
        let placed = catalog.placed(partition.at).map(|(_, placed)| placed);
        let is_offsets = partition.log.topic() == whimbrel_fleet::naming::CONSUMER_OFFSETS;
        let terms = Terms {
            leader_epoch: rise.leader_epoch,
            region_epoch: group.epoch,
            epoch_start: partition.log.offsets().log_end,
            open: group.fence.is_none() && (!clamps || is_offsets),
        };
        partition.lead(
            terms,
            position,
            (ack_set(broker, &catalog, partition), &group.sync_set),
            group.lossy_promotion(partition.at),
            Now::of(&broker.clock),
            placed.map_or(&BTreeMap::new(), |placed| &placed.standing),
        );
        if planned {
            partition.park(true);
        }
        broker.flusher.list(partition);
        if is_offsets {
            offsets.push((partition.at.partition, rise.leader_epoch));
        }
    }
    broker.coordination.lead(broker, group, offsets, lossy);
    let risen = led.iter().filter(|r| rising.contains(&r.partition.at));
    lead_transactions(broker, group, risen);
}

/// Tells the transaction coordinator what it coordinates, and ends what a lossy move left open in the new leaders.
fn lead_transactions<'a>(
    broker: &Arc<Broker>,
    group: &FailoverGroup,
    risen: impl Iterator<Item = &'a Rise>,
) {
    let mut cut = Vec::new();
    for rise in risen {
        let partition = &rise.partition;
        let promotion = group.lossy_promotion(partition.at);
        if partition.log.topic() == whimbrel_fleet::naming::TRANSACTION_STATE {
            broker.coordination.lead_transactions(
                partition.at.partition,
                rise.leader_epoch,
                promotion,
            );
        }
        cut.extend(promotion.map(|promotion| (Arc::clone(partition), promotion)));
    }
    stray::end(broker, cut);
}

/// For a partition that goes on being led here: the sums are other ones, and perhaps the ack set.
fn restamp(broker: &Broker, catalog: &Catalog, group: &FailoverGroup, partition: &Arc<Partition>) {
    let acks = ack_set(broker, catalog, partition);
    if partition.restamp(acks, &group.sync_set) {
        broker.flusher.advance(partition);
    }
}

fn sum(partitions: &[&Arc<Partition>]) -> Position {
    partitions
        .iter()
        .map(|p| p.position())
        .fold(Position::default(), |sum, own| Position {
            records: sum.records.saturating_add(own.records),
            bytes: sum.bytes.saturating_add(own.bytes),
        })
}
