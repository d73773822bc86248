//! Lets transactional batches in only as part of a transaction that its coordinator knows.
//!
//! Clients up to Produce version 11 have added the partition themselves, which is verified; later ones leave that to
//! the broker, which adds it (KIP-890). Only the first batch of a transaction in a partition is asked about.

use std::sync::Arc;

use whimbrel_fleet::{Node, naming::TRANSACTION_STATE};
use whimbrel_wire::{
    ErrorCode,
    messages::add_partitions_to_txn::{
        AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction, Request,
    },
};

use super::{
    Places,
    admissions::Admission,
    machine::{BUMPS_EPOCH, Producer},
};
use crate::{broker::Broker, group::offsets::TopicPartition, partition::Partition, peers};

/// The version in which brokers ask each other.
const BY_BROKERS: i16 = 5;

/// Who wants to write as part of what.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    pub transactional_id: &'a str,
    pub who: Producer,
    /// The first sequence of the batch.
    pub sequence: i32,
    /// Where the partition's log ended when nothing of the transaction was in it yet; 0 if that is not known.
    pub log_end: i64,
    /// The client leaves it to the broker to add the partition.
    pub adds: bool,
    /// The client knows TRANSACTION_ABORTABLE.
    pub abortable: bool,
}

/// Asks the coordinator, if it has to be asked. The admission goes with the append.
pub async fn admit(
    broker: &Arc<Broker>,
    claim: Claim<'_>,
    partition: &Partition,
) -> Result<Option<Admission>, ErrorCode> {
    let Some((admission, log_end)) = partition.admit(claim.who, claim.sequence) else {
        return Ok(None);
    };
    let claim = Claim { log_end, ..claim };
    let at = TopicPartition {
        topic: partition.log.topic().to_owned(),
        partition: partition.at.partition,
    };
    match ask(broker, claim, at).await {
        Ok(()) => Ok(Some(admission)),
        Err(error) => {
            partition.reject(claim.who, admission);
            Err(told(error, claim.abortable))
        }
    }
}

/// Adds or verifies one partition with the coordinator, wherever that is.
///
/// # Errors
/// The coordinator's code.
pub async fn ask(
    broker: &Arc<Broker>,
    claim: Claim<'_>,
    at: TopicPartition,
) -> Result<(), ErrorCode> {
    let id = claim.transactional_id;
    let catalog = broker.catalog();
    let (group, partition) = catalog
        .view
        .transaction_partition(id)
        .ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
    // A transaction over several failover groups could not move as a whole.
    if catalog
        .topic(&at.topic)
        .is_some_and(|topic| topic.group != group.name)
    {
        return Err(ErrorCode::POLICY_VIOLATION);
    }
    let leader = catalog
        .topic(TRANSACTION_STATE)
        .and_then(|topic| catalog.leader(topic, partition));
    let (leader, _) = leader.ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
    if leader.id != broker.node {
        return ask_peer(broker, leader, claim, at).await;
    }
    let coordinator = broker
        .coordination
        .transactions()
        .ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
    if claim.adds {
        coordinator
            .add(id, claim.who, [at].into(), BUMPS_EPOCH)
            .await
    } else {
        coordinator.verify(id, claim.who, &at, claim.log_end)
    }
}

async fn ask_peer(
    broker: &Arc<Broker>,
    coordinator: &Node,
    claim: Claim<'_>,
    at: TopicPartition,
) -> Result<(), ErrorCode> {
    let places = Places::from([(at.clone(), claim.log_end)]);
    let topic = AddPartitionsToTxnTopic {
        name: at.topic,
        partitions: vec![at.partition],
    };
    let transaction = AddPartitionsToTxnTransaction {
        transactional_id: claim.transactional_id.to_owned(),
        producer_id: claim.who.id,
        producer_epoch: claim.who.epoch,
        verify_only: !claim.adds,
        topics: vec![topic],
    };
    let request = Request {
        transactions: vec![transaction],
        ..Request::default()
    };
    let answer = peers::ask_about(broker, coordinator, BY_BROKERS, &request, &places).await?;
    let results = answer
        .results_by_transaction
        .first()
        .and_then(|of| of.topic_results.first());
    let own = results.and_then(|of| of.results_by_partition.first());
    match own.map_or(answer.error_code, |own| own.partition_error_code) {
        ErrorCode::NONE if own.is_some() => Ok(()),
        ErrorCode::NONE => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
        error => Err(error),
    }
}

/// What the producer is told: what will pass, it tries again.
fn told(error: ErrorCode, abortable: bool) -> ErrorCode {
    match error {
        ErrorCode::CONCURRENT_TRANSACTIONS
        | ErrorCode::NOT_COORDINATOR
        | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
        | ErrorCode::COORDINATOR_NOT_AVAILABLE
        | ErrorCode::REQUEST_TIMED_OUT
        | ErrorCode::NETWORK_EXCEPTION => ErrorCode::NOT_ENOUGH_REPLICAS,
        ErrorCode::PRODUCER_FENCED => ErrorCode::INVALID_PRODUCER_EPOCH,
        // The id is stale after a lossy move: new clients abort and go on, old ones begin as a new producer.
        ErrorCode::UNKNOWN_PRODUCER_ID if abortable => ErrorCode::TRANSACTION_ABORTABLE,
        ErrorCode::TRANSACTION_ABORTABLE if !abortable => ErrorCode::INVALID_TXN_STATE,
        other => other,
    }
}
