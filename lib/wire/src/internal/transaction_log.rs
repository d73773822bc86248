//! A transactional id's state, as `__transaction_state` keeps it.
//!
//! The schemas are those in Kafka's `transaction-coordinator/src/main/resources/common/message`.

use crate::message::message;

message! {
    flexible never;

    /// Which transactional id.
    pub struct TransactionLogKey versions 0-0 {
        transactional_id: String, 0+;
    }
}

message! {
    flexible 1;

    /// Its state. Version 1 came with KIP-890.
    pub struct TransactionLogValue versions 0-1 {
        producer_id: i64, 0+;
        previous_producer_id: i64, 1+, tag 0, default -1;
        next_producer_id: i64, 1+, tag 1, default -1;
        producer_epoch: i16, 0+;
        transaction_timeout_ms: i32, 0+;
        transaction_status: i8, 0+;
        transaction_partitions: Option<Vec<PartitionsSchema>>, 0+, null 0+, default Some(Vec::new());
        transaction_last_update_timestamp_ms: i64, 0+;
        transaction_start_timestamp_ms: i64, 0+;
        client_transaction_version: i16, 1+, tag 2;
        next_producer_epoch: i16, 1+, tag 3, default -1;
    }

    /// An element of `transaction_partitions` in [`TransactionLogValue`].
    pub struct PartitionsSchema {
        topic: String, 0+;
        partition_ids: Vec<i32>, 0+;
    }
}
