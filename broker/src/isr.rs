//! Ack sets of the partitions led here: proposes who leaves and who joins.
//!
//! Asked again until the view answers; a proposal that was overtaken is passed over by the controller.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use whimbrel_fleet::{IsrChange, LeaderEpoch, NodeId};

use crate::broker::Broker;

/// How often laggards are looked for. A joiner is proposed at once.
const TICK: Duration = Duration::from_millis(250);
/// Proposals are collected for so long: a broker that comes back joins many sets at once.
const GATHER: Duration = Duration::from_millis(5);
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
    let change = |partition: &Arc<crate::partition::Partition>| {
        let proposal = partition.propose_isr(now_ns, lag_ns)?;
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
        })
    };
    catalog.partitions().filter_map(change).collect()
}
