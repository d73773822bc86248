//! InitProducerId, key 22: get a producer id.
//!
//! Version 6 belongs to KIP-939 and is marked unstable by Kafka.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 2;

    /// The transactional id, if any, and what the producer was before.
    pub struct Request versions 0-6 {
        transactional_id: Option<String>, 0+, null 0+, default Some(String::new());
        transaction_timeout_ms: i32, 0+;
        producer_id: i64, 3+, default -1;
        producer_epoch: i16, 3+, default -1;
        enable_2pc: bool, 6+;
        keep_prepared_txn: bool, 6+;
    }

    /// Producer id and epoch.
    pub struct Response versions 0-6 {
        throttle_time_ms: i32, 0+;
        error_code: ErrorCode, 0+;
        producer_id: i64, 0+, default -1;
        producer_epoch: i16, 0+;
        ongoing_txn_producer_id: i64, 6+, default -1;
        ongoing_txn_producer_epoch: i16, 6+, default -1;
    }
}
