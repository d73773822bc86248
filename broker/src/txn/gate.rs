//! Lets transactional batches in only as part of a transaction that its coordinator knows.
//!
//! Clients up to Produce version 11 have added the partition themselves, which is verified; later ones leave that to
//! the broker, which adds it (KIP-890). Only the first batch of a transaction in a partition is asked about.

use std::sync::Arc;

use whimbrel_wire::ErrorCode;

use super::{
    admissions::Admission,
    machine::{BUMPS_EPOCH, Producer},
};
use crate::{broker::Broker, group::offsets::TopicPartition, partition::Partition};

/// Who wants to write as part of what.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    pub transactional_id: &'a str,
    pub who: Producer,
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
    let Some(admission) = partition.admit(claim.who) else {
        return Ok(None);
    };
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
    let coordinator = broker
        .coordination
        .transactions()
        .ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
    let id = claim.transactional_id;
    if claim.adds {
        coordinator
            .add(id, claim.who, [at].into(), BUMPS_EPOCH)
            .await
    } else {
        coordinator.verify(id, claim.who, &at)
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
        ErrorCode::TRANSACTION_ABORTABLE if !abortable => ErrorCode::INVALID_TXN_STATE,
        other => other,
    }
}
