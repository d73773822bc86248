//! SaslHandshake, key 17: choose a SASL mechanism.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible never;

    /// The mechanism the client wants.
    pub struct Request versions 0-1 {
        mechanism: String, 0+;
    }

    /// The mechanisms on offer.
    pub struct Response versions 0-1 {
        error_code: ErrorCode, 0+;
        mechanisms: Vec<String>, 0+;
    }
}
