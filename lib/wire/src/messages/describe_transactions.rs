//! DescribeTransactions, key 65: the state of transactional ids, from their coordinator.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 0;

    /// Transactional ids asked for.
    pub struct Request versions 0-0 {
        transactional_ids: Vec<String>, 0+;
    }

    /// The state of each.
    pub struct Response versions 0-0 {
        throttle_time_ms: i32, 0+;
        transaction_states: Vec<TransactionState>, 0+;
    }

    /// An element of `transaction_states` in [`Response`].
    pub struct TransactionState {
        error_code: ErrorCode, 0+;
        transactional_id: String, 0+;
        transaction_state: String, 0+;
        transaction_timeout_ms: i32, 0+;
        transaction_start_time_ms: i64, 0+;
        producer_id: i64, 0+;
        producer_epoch: i16, 0+;
        topics: Vec<TopicData>, 0+;
    }

    /// An element of `topics` in [`TransactionState`].
    pub struct TopicData {
        topic: String, 0+;
        partitions: Vec<i32>, 0+;
    }
}
