//! AddPartitionsToTxn, key 24: add partitions to transactions.
//!
//! Up to version 3 from clients, about one transaction; from 4 on from brokers, about several (KIP-890).

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 3;

    /// Partitions to add.
    pub struct Request versions 0-5 {
        transactions: Vec<AddPartitionsToTxnTransaction>, 4+;
        v3_and_below_transactional_id: String, 0-3;
        v3_and_below_producer_id: i64, 0-3;
        v3_and_below_producer_epoch: i16, 0-3;
        v3_and_below_topics: Vec<AddPartitionsToTxnTopic>, 0-3;
    }

    /// An element of `transactions` in [`Request`].
    pub struct AddPartitionsToTxnTransaction {
        transactional_id: String, 4+;
        producer_id: i64, 4+;
        producer_epoch: i16, 4+;
        verify_only: bool, 4+;
        topics: Vec<AddPartitionsToTxnTopic>, 4+;
    }

    /// An element of `topics` in [`AddPartitionsToTxnTransaction`].
    pub struct AddPartitionsToTxnTopic {
        name: String, 0+;
        partitions: Vec<i32>, 0+;
    }

    /// Outcome for each partition.
    pub struct Response versions 0-5 {
        throttle_time_ms: i32, 0+;
        error_code: ErrorCode, 4+;
        results_by_transaction: Vec<AddPartitionsToTxnResult>, 4+;
        results_by_topic_v3_and_below: Vec<AddPartitionsToTxnTopicResult>, 0-3;
    }

    /// An element of `results_by_transaction` in [`Response`].
    pub struct AddPartitionsToTxnResult {
        transactional_id: String, 4+;
        topic_results: Vec<AddPartitionsToTxnTopicResult>, 4+;
    }

    /// An element of `topic_results` in [`AddPartitionsToTxnResult`].
    pub struct AddPartitionsToTxnTopicResult {
        name: String, 0+;
        results_by_partition: Vec<AddPartitionsToTxnPartitionResult>, 0+;
    }

    /// An element of `results_by_partition` in [`AddPartitionsToTxnTopicResult`].
    pub struct AddPartitionsToTxnPartitionResult {
        partition_index: i32, 0+;
        partition_error_code: ErrorCode, 0+;
    }
}
