//! DescribeTransactions: the state of transactional ids coordinated here.

use whimbrel_wire::{
    ErrorCode,
    messages::describe_transactions::{Request, Response, TopicData, TransactionState},
};

use super::once;
use crate::txn::{Coordinator, machine::Record};

pub fn handle(coordinator: &Coordinator, mut request: Request) -> Response {
    once::each(&mut request.transactional_ids);
    let states = request.transactional_ids.into_iter().map(|id| {
        let found = coordinator.describe(&id);
        match found.and_then(|found| found.ok_or(ErrorCode::TRANSACTIONAL_ID_NOT_FOUND)) {
            Ok(record) => described(id, &record),
            Err(error_code) => TransactionState {
                error_code,
                transactional_id: id,
                ..TransactionState::default()
            },
        }
    });
    Response {
        throttle_time_ms: 0,
        transaction_states: states.collect(),
    }
}

fn described(transactional_id: String, record: &Record) -> TransactionState {
    let mut topics: Vec<TopicData> = Vec::new();
    for at in &record.partitions {
        match topics.last_mut().filter(|topic| topic.topic == at.topic) {
            Some(topic) => topic.partitions.push(at.partition),
            None => topics.push(TopicData {
                topic: at.topic.clone(),
                partitions: vec![at.partition],
            }),
        }
    }
    TransactionState {
        error_code: ErrorCode::NONE,
        transactional_id,
        transaction_state: record.state.name().to_owned(),
        transaction_timeout_ms: record.timeout_ms,
        transaction_start_time_ms: record.started_ms,
        producer_id: record.producer.id,
        producer_epoch: record.producer.epoch,
        topics,
    }
}
