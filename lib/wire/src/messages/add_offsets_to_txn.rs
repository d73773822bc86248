//! AddOffsetsToTxn, key 25: add a group to a transaction.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 3;

    /// The group whose positions will be committed.
    pub struct Request versions 0-4 {
        transactional_id: String, 0+;
        producer_id: i64, 0+;
        producer_epoch: i16, 0+;
        group_id: String, 0+;
    }

    /// Outcome.
    pub struct Response versions 0-4 {
        throttle_time_ms: i32, 0+;
        error_code: ErrorCode, 0+;
    }
}
