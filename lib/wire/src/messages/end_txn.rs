//! EndTxn, key 26: commit or abort.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 3;

    /// Which transaction, and how it ends.
    pub struct Request versions 0-5 {
        transactional_id: String, 0+;
        producer_id: i64, 0+;
        producer_epoch: i16, 0+;
        committed: bool, 0+;
    }

    /// Outcome, and from version 5 the id and epoch to go on with (KIP-890).
    pub struct Response versions 0-5 {
        throttle_time_ms: i32, 0+;
        error_code: ErrorCode, 0+;
        producer_id: i64, 5+, default -1;
        producer_epoch: i16, 5+, default -1;
    }
}
