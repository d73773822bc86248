//! ListTransactions, key 66: the transactional ids that a broker coordinates.
//!
//! Version 1 can leave out transactions younger than a duration, version 2 ids that a pattern (RE2) does not match.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 0;

    /// What to leave out; empty filters leave out nothing.
    pub struct Request versions 0-2 {
        state_filters: Vec<String>, 0+;
        producer_id_filters: Vec<i64>, 0+;
        duration_filter: i64, 1+, default -1;
        transactional_id_pattern: Option<String>, 2+, null 2+;
    }

    /// Transactional ids with their states.
    pub struct Response versions 0-2 {
        throttle_time_ms: i32, 0+;
        error_code: ErrorCode, 0+;
        unknown_state_filters: Vec<String>, 0+;
        transaction_states: Vec<TransactionState>, 0+;
    }

    /// An element of `transaction_states` in [`Response`].
    pub struct TransactionState {
        transactional_id: String, 0+;
        producer_id: i64, 0+;
        transaction_state: String, 0+;
    }
}
