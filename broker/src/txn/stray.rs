//! Ends what a lossy move left open in the partitions.
//!
//! A partition is promoted with the transactions that were open at its end. The coordinator's log was cut elsewhere in
//! their lives, so it may know nothing of them, and nobody would ever end them. Each new leader therefore aborts what
//! began below the promotion offset, in the epoch found there, unless a coordinator has decided to commit it: then the
//! coordinator's markers come.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use whimbrel_fleet::{Node, NodeId, naming::TRANSACTION_STATE};
use whimbrel_runtime::Backoff;
use whimbrel_wire::{
    ErrorCode,
    messages::list_transactions::{Request, Response},
};

use super::{
    machine::{Producer, State},
    markers::{self, Marker},
};
use crate::{
    api::list_transactions, broker::Broker, group::offsets::TopicPartition, partition::Partition,
    peers,
};

/// The version in which brokers ask each other.
const BY_BROKERS: i16 = 0;

/// Partitions with the promotion offset of their newest lossy move, led here from now on.
pub fn end(broker: &Arc<Broker>, mut cut: Vec<(Arc<Partition>, i64)>) {
    cut.retain(|(partition, promotion)| !open(partition, *promotion).is_empty());
    if cut.is_empty() {
        return;
    }
    let this = Arc::clone(broker);
    broker.tasks.spawn_ok("stray transactions", async move {
        let shutdown = this.tasks.shutdown();
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        loop {
            let ended = shutdown.unless(abort(&this, &mut cut)).await;
            if ended.is_none() || cut.is_empty() {
                return;
            }
            shutdown.unless(this.clock.sleep(backoff.next())).await;
        }
    });
}

/// Transactions that began below the offset and are open still, with the epoch of the coordinator that the partition
/// heard of last.
fn open(partition: &Partition, below: i64) -> Vec<(Producer, i32)> {
    let producers = partition.log.producers().into_iter();
    let began = producers.filter(|known| {
        known
            .current_txn_first_offset
            .is_some_and(|first| first < below)
    });
    began
        .map(|known| {
            let who = Producer {
                id: known.producer_id,
                epoch: known.producer_epoch,
            };
            (who, known.coordinator_epoch.max(0))
        })
        .collect()
}

/// Aborts what may be, and keeps the partitions where something is left to do.
async fn abort(broker: &Arc<Broker>, cut: &mut Vec<(Arc<Partition>, i64)>) {
    let decided = match decided(broker).await {
        Ok(decided) => decided,
        Err(error) => {
            tracing::debug!(%error, "not every transaction coordinator has answered yet");
            return;
        }
    };
    for (partition, promotion) in &*cut {
        for (producer, coordinator_epoch) in open(partition, *promotion) {
            if decided.contains(&producer.id) {
                continue;
            }
            let marker = Marker {
                producer,
                commit: false,
                coordinator_epoch,
                strict: false,
            };
            let at = TopicPartition {
                topic: partition.log.topic().to_owned(),
                partition: partition.at.partition,
            };
            tracing::info!(
                topic = at.topic,
                partition = at.partition,
                producer = producer.id,
                "a transaction that a move cut off is aborted"
            );
            markers::write(broker, marker, [(at, 0)]).await;
        }
    }
    cut.retain(|(partition, promotion)| {
        partition.leads().is_some() && !open(partition, *promotion).is_empty()
    });
}

/// Producers whose transaction is committed and waits for its markers, from every coordinator.
async fn decided(broker: &Arc<Broker>) -> Result<HashSet<i64>, ErrorCode> {
    let catalog = broker.catalog();
    let Some(topic) = catalog.topic(TRANSACTION_STATE) else {
        return Ok(HashSet::new());
    };
    let mut coordinators: BTreeMap<NodeId, &Node> = BTreeMap::new();
    for partition in 0..i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX) {
        let (node, _) = catalog
            .leader(topic, partition)
            .ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
        coordinators.insert(node.id, node);
    }
    let mut decided = HashSet::new();
    for node in coordinators.into_values() {
        let request = Request {
            state_filters: vec![State::PrepareCommit.name().to_owned()],
            ..Request::default()
        };
        let answer: Response = if node.id == broker.node {
            let coordinator = broker
                .coordination
                .transactions()
                .ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
            list_transactions::handle(coordinator, request, broker.clock.wall_ms())
        } else {
            peers::ask(broker, node, BY_BROKERS, &request).await?
        };
        if answer.error_code.is_error() {
            return Err(answer.error_code);
        }
        decided.extend(
            answer
                .transaction_states
                .iter()
                .map(|state| state.producer_id),
        );
    }
    Ok(decided)
}
