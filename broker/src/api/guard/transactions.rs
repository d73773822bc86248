//! APIs of transactional producers.

use std::sync::Arc;

use whimbrel_fleet::acl::{Operation, ResourceType};
use whimbrel_wire::{
    ErrorCode,
    messages::{
        add_offsets_to_txn, add_partitions_to_txn, describe_transactions, end_txn,
        init_producer_id, list_transactions, txn_offset_commit,
    },
};

use super::{Ask, Guarded, Verdict, allowed, sift, whole};

/// First version of AddPartitionsToTxn that brokers send for several producers.
const BY_BROKERS: i16 = 4;

impl Guarded for init_producer_id::Request {
    fn guard(&mut self, ask: &Ask) -> Verdict<Self::Response> {
        let may = match &self.transactional_id {
            Some(id) => ask.transactional_id(Operation::Write, id),
            // Whoever may write anywhere may do so without repeating itself.
            None => ask.cluster(Operation::IdempotentWrite).or_else(|error| {
                let view = &ask.catalog.view;
                let can = ask
                    .caller
                    .can_any(view, Operation::Write, ResourceType::Topic);
                allowed(can, error)
            }),
        };
        whole(may, |error_code| init_producer_id::Response {
            error_code,
            producer_id: -1,
            producer_epoch: -1,
            ..init_producer_id::Response::default()
        })
    }
}

fn results(
    topics: Vec<add_partitions_to_txn::AddPartitionsToTxnTopic>,
    error_of: impl Fn(&str) -> ErrorCode,
) -> Vec<add_partitions_to_txn::AddPartitionsToTxnTopicResult> {
    use add_partitions_to_txn::{AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult};
    let of_topic = |topic: add_partitions_to_txn::AddPartitionsToTxnTopic| {
        let partition_error_code = error_of(&topic.name);
        let partitions = topic.partitions.into_iter();
        AddPartitionsToTxnTopicResult {
            name: topic.name,
            results_by_partition: partitions
                .map(|partition_index| AddPartitionsToTxnPartitionResult {
                    partition_index,
                    partition_error_code,
                })
                .collect(),
        }
    };
    topics.into_iter().map(of_topic).collect()
}

impl Guarded for add_partitions_to_txn::Request {
    /// One topic that may not be written keeps all from being added.
    fn guard(&mut self, ask: &Ask) -> Verdict<Self::Response> {
        use add_partitions_to_txn::Response;
        if ask.version >= BY_BROKERS {
            return whole(ask.cluster(Operation::ClusterAction), |error_code| {
                Response {
                    error_code,
                    ..Response::default()
                }
            });
        }
        let of_id = ask.transactional_id(Operation::Write, &self.v3_and_below_transactional_id);
        let topics = &mut self.v3_and_below_topics;
        let refused = |topic: &str| ask.topic(Operation::Write, topic).err();
        if of_id.is_ok() && topics.iter().all(|topic| refused(&topic.name).is_none()) {
            return Verdict::Granted;
        }
        let error_of = |topic: &str| match of_id {
            Err(error) => error,
            Ok(()) => refused(topic).unwrap_or(ErrorCode::OPERATION_NOT_ATTEMPTED),
        };
        Verdict::Refused(Response {
            results_by_topic_v3_and_below: results(std::mem::take(topics), error_of),
            ..Response::default()
        })
    }
}

impl Guarded for add_offsets_to_txn::Request {
    fn guard(&mut self, ask: &Ask) -> Verdict<Self::Response> {
        let of_id = ask.transactional_id(Operation::Write, &self.transactional_id);
        let may = of_id.and_then(|()| ask.group(Operation::Read, &self.group_id));
        whole(may, |error_code| add_offsets_to_txn::Response {
            error_code,
            ..add_offsets_to_txn::Response::default()
        })
    }
}

impl Guarded for end_txn::Request {
    fn guard(&mut self, ask: &Ask) -> Verdict<Self::Response> {
        let may = ask.transactional_id(Operation::Write, &self.transactional_id);
        whole(may, |error_code| end_txn::Response {
            error_code,
            ..end_txn::Response::default()
        })
    }
}

impl Guarded for txn_offset_commit::Request {
    fn guard(&mut self, ask: &Ask) -> Verdict<Self::Response> {
        use txn_offset_commit::{
            Response, TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
        };
        let of_id = ask.transactional_id(Operation::Write, &self.transactional_id);
        let first = of_id.and_then(|()| ask.group(Operation::Read, &self.group_id));
        sift(
            &mut self.topics,
            |topic| first.and_then(|()| ask.topic(Operation::Read, &topic.name)),
            |response: &mut Response, refused| {
                response
                    .topics
                    .extend(refused.into_iter().map(|(topic, error_code)| {
                        let partitions = topic.partitions.into_iter();
                        TxnOffsetCommitResponseTopic {
                            name: topic.name,
                            partitions: partitions
                                .map(|p| TxnOffsetCommitResponsePartition {
                                    partition_index: p.partition_index,
                                    error_code,
                                })
                                .collect(),
                        }
                    }));
            },
        )
    }
}

impl Guarded for describe_transactions::Request {
    /// Of a transaction's topics those are told that the caller may describe.
    fn guard(&mut self, ask: &Ask) -> Verdict<Self::Response> {
        use describe_transactions::{Response, TransactionState};
        let mut refused = Vec::new();
        for id in std::mem::take(&mut self.transactional_ids) {
            match ask.transactional_id(Operation::Describe, &id) {
                Ok(()) => self.transactional_ids.push(id),
                Err(error) => refused.push((id, error)),
            }
        }
        let (caller, catalog) = (Arc::clone(&ask.caller), Arc::clone(&ask.catalog));
        Verdict::Partly(Box::new(move |response: &mut Response| {
            for state in &mut response.transaction_states {
                state.topics.retain(|data| {
                    let (describe, of) = (Operation::Describe, ResourceType::Topic);
                    caller.can(&catalog.view, describe, of, &data.topic)
                });
            }
            let refused =
                refused
                    .into_iter()
                    .map(|(transactional_id, error_code)| TransactionState {
                        transactional_id,
                        error_code,
                        ..TransactionState::default()
                    });
            response.transaction_states.extend(refused);
        }))
    }
}

impl Guarded for list_transactions::Request {
    fn guard(&mut self, ask: &Ask) -> Verdict<Self::Response> {
        let (caller, catalog) = (Arc::clone(&ask.caller), Arc::clone(&ask.catalog));
        Verdict::Partly(Box::new(
            move |response: &mut list_transactions::Response| {
                response.transaction_states.retain(|state| {
                    let (describe, of) = (Operation::Describe, ResourceType::TransactionalId);
                    caller.can(&catalog.view, describe, of, &state.transactional_id)
                });
            },
        ))
    }
}
