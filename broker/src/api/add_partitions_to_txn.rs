//! AddPartitionsToTxn: partitions take part in a transaction, all of a request or none of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use whimbrel_wire::{
    ErrorCode,
    messages::add_partitions_to_txn::{
        AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopic,
        AddPartitionsToTxnTopicResult, AddPartitionsToTxnTransaction, Request, Response,
    },
};

use super::{fenced, refusal};
use crate::{
    broker::Broker,
    group::offsets::TopicPartition,
    txn::{Places, Producer, machine::BUMPS_EPOCH},
};

/// First version that knows PRODUCER_FENCED.
const FENCED: i16 = 2;
/// First version with several transactions, for brokers.
const BY_BROKERS: i16 = 4;

/// `ends`: where the logs of partitions that are verified end, as far as another broker says.
pub async fn handle(
    broker: &Arc<Broker>,
    request: Request,
    version: i16,
    ends: &Places,
) -> Response {
    if version < BY_BROKERS {
        let transaction = AddPartitionsToTxnTransaction {
            transactional_id: request.v3_and_below_transactional_id,
            producer_id: request.v3_and_below_producer_id,
            producer_epoch: request.v3_and_below_producer_epoch,
            verify_only: false,
            topics: request.v3_and_below_topics,
        };
        return Response {
            results_by_topic_v3_and_below: one(broker, transaction, 0, version, ends).await,
            ..Response::default()
        };
    }
    let mut results_by_transaction = Vec::with_capacity(request.transactions.len());
    for transaction in request.transactions {
        results_by_transaction.push(AddPartitionsToTxnResult {
            transactional_id: transaction.transactional_id.clone(),
            topic_results: one(broker, transaction, BUMPS_EPOCH, version, ends).await,
        });
    }
    Response {
        results_by_transaction,
        ..Response::default()
    }
}

async fn one(
    broker: &Arc<Broker>,
    mut transaction: AddPartitionsToTxnTransaction,
    client_version: i16,
    version: i16,
    ends: &Places,
) -> Vec<AddPartitionsToTxnTopicResult> {
    for topic in &mut transaction.topics {
        topic.name = refusal::short(std::mem::take(&mut topic.name));
    }
    let who = Producer {
        id: transaction.producer_id,
        epoch: transaction.producer_epoch,
    };
    let id = &transaction.transactional_id;
    let Some(coordinator) = broker.coordination.transactions() else {
        return results(&transaction.topics, |_| {
            ErrorCode::COORDINATOR_NOT_AVAILABLE
        });
    };
    if transaction.verify_only {
        return results(&transaction.topics, |at| {
            let verified = coordinator.verify(id, who, at, ends.get(at).copied().unwrap_or(0));
            fenced(verified.err().unwrap_or(ErrorCode::NONE), version >= FENCED)
        });
    }
    let bad = refused(broker, id, &transaction.topics);
    if !bad.is_empty() {
        return results(&transaction.topics, |at| {
            let own = bad.get(at).copied();
            own.unwrap_or(ErrorCode::OPERATION_NOT_ATTEMPTED)
        });
    }
    let added = coordinator.add(
        id,
        who,
        places(&transaction.topics).collect(),
        client_version,
    );
    let error = fenced(
        added.await.err().unwrap_or(ErrorCode::NONE),
        version >= FENCED,
    );
    results(&transaction.topics, |_| error)
}

/// Partitions that do not exist, or that are of another failover group than the transactional id: such a
/// transaction could not move as a whole.
fn refused(
    broker: &Broker,
    id: &str,
    topics: &[AddPartitionsToTxnTopic],
) -> BTreeMap<TopicPartition, ErrorCode> {
    let catalog = broker.catalog();
    let group = catalog
        .view
        .transaction_partition(id)
        .map(|(group, _)| &group.name);
    let judge = |at: TopicPartition| {
        let error = match catalog.topic(&at.topic) {
            Some(topic) if Some(&topic.group) != group => ErrorCode::POLICY_VIOLATION,
            Some(topic)
                if usize::try_from(at.partition).is_ok_and(|p| p < topic.partitions.len()) =>
            {
                return None;
            }
            _ => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        };
        Some((at, error))
    };
    places(topics)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .filter_map(judge)
        .collect()
}

fn places(topics: &[AddPartitionsToTxnTopic]) -> impl Iterator<Item = TopicPartition> {
    topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| TopicPartition {
            topic: topic.name.clone(),
            partition: *partition,
        })
    })
}

fn results(
    topics: &[AddPartitionsToTxnTopic],
    code: impl Fn(&TopicPartition) -> ErrorCode,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let of_topic = |topic: &AddPartitionsToTxnTopic| AddPartitionsToTxnTopicResult {
        name: topic.name.clone(),
        results_by_partition: places(std::slice::from_ref(topic))
            .map(|at| AddPartitionsToTxnPartitionResult {
                partition_index: at.partition,
                partition_error_code: code(&at),
            })
            .collect(),
    };
    topics.iter().map(of_topic).collect()
}
