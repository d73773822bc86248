//! Ack sets of the partitions led here: proposes who leaves and who joins. Tells beside that which heads of other
//! regions keep up, so that all brokers show the same, and which of their copies stand still, so that the next
//! leader knows.
//!
//! Asked again until the view answers; a proposal that was overtaken is passed over by the controller.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use whimbrel_fleet::{IsrChange, LeaderEpoch, NodeId, Partition as Placed, RegionName, Standing};

use crate::{
    broker::Broker,
    partition::{Now, Partition},
};

/// How often laggards are looked for. A joiner is proposed at once.
const TICK: Duration = Duration::from_millis(250);
/// Proposals are collected for so long: a broker that comes back joins many sets at once.
const GATHER: Duration = Duration::from_millis(5);
/// Since when a copy stands still is recorded to within such a part of what it is waited for: three hours of a week.
const PARTS_OF_PATIENCE: u32 = 64;
/// Changes in one request.
const MOST_CHANGES: usize = 1_000;

pub async fn run(broker: Arc<Broker>) {
    let shutdown = broker.tasks.shutdown();
    loop {
        tokio::select! {
            biased;
            () = shutdown.wait() => return,
            () = broker.isr.notified() => broker.clock.sleep(GATHER).await,
            () = broker.clock.sleep(TICK) => {}
        }
        let changes = wanted(&broker);
        for part in changes.chunks(MOST_CHANGES) {
            let asked = broker
                .controller
                .alter_isr(broker.node, broker.incarnation, part);
            match shutdown.unless(asked).await {
                None => return,
                Some(Ok(version)) => {
                    tracing::debug!(changes = part.len(), version, "ack sets proposed");
                }
                Some(Err(error)) => {
                    tracing::debug!(changes = part.len(), %error, "ack sets not proposed");
                    break;
                }
            }
        }
    }
}

fn wanted(broker: &Broker) -> Vec<IsrChange> {
    let catalog = broker.catalog();
    let lag = broker.options.replica_lag_time.0;
    let lag_ns = u64::try_from(lag.as_nanos()).unwrap_or(u64::MAX);
    let now_ns = broker.clock.boot_ns();
    let change = |partition: &Arc<Partition>| {
        let terms = partition.leads()?;
        let (_, placed) = catalog.placed(partition.at)?;
        let heads = keeping_up(broker, partition, placed, (now_ns, lag_ns));
        let heads = (heads != placed.keeping_up).then_some(heads);
        let standing = standing(broker, partition, placed);
        let Some(proposal) = partition.propose_isr(now_ns, lag_ns) else {
            return (heads.is_some() || standing.is_some()).then(|| IsrChange {
                at: partition.at,
                leader_epoch: LeaderEpoch(terms.leader_epoch),
                version: placed.version,
                isr: placed.isr.clone(),
                heads,
                standing,
            });
        };
        let isr: BTreeSet<NodeId> = proposal
            .followers
            .into_iter()
            .chain([broker.node])
            .collect();
        tracing::info!(
            topic = partition.log.topic(),
            partition = partition.at.partition,
            ?isr,
            "ack set to be changed"
        );
        Some(IsrChange {
            at: partition.at,
            leader_epoch: LeaderEpoch(proposal.leader_epoch),
            version: proposal.version,
            isr: isr.into_iter().collect(),
            heads,
            standing,
        })
    };
    catalog.partitions().filter_map(change).collect()
}

/// Copies in other regions that stand still, where compaction has to do with it and something is to be recorded.
fn standing(
    broker: &Broker,
    partition: &Partition,
    placed: &Placed,
) -> Option<BTreeMap<RegionName, Standing>> {
    let others = placed.replicas.iter();
    let others = others.filter(|(r, nodes)| **r != broker.region && !nodes.is_empty());
    let compacts = || partition.log.config().cleanup_policy.compact;
    if others.clone().next().is_none() || !compacts() {
        let nothing = !placed.standing.is_empty();
        return nothing.then(BTreeMap::new);
    }
    let coarse = broker.options.cleaner.region_patience.0 / PARTS_OF_PATIENCE;
    let now = Now::of(&broker.clock);
    partition.standing(&placed.standing, others.map(|(r, _)| r), now, coarse)
}

/// The heads of other regions that keep up, in the view's order.
fn keeping_up(
    broker: &Broker,
    partition: &Partition,
    placed: &Placed,
    (now_ns, lag_ns): (u64, u64),
) -> Vec<NodeId> {
    let others = placed.replicas.iter().filter(|(r, _)| **r != broker.region);
    let head = |(region, nodes): (&RegionName, &Vec<NodeId>)| {
        let head = *nodes.first()?;
        let did = placed.keeping_up.contains(&head);
        let does = partition.is_kept_up_with(region, did, now_ns, lag_ns);
        does.then_some(head)
    };
    others.filter_map(head).collect()
}
