//! SaslAuthenticate, key 36: authenticate.

use bytes::Bytes;

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 2;

    /// A token of the client's mechanism.
    pub struct Request versions 0-2 {
        auth_bytes: Bytes, 0+;
    }

    /// The broker's token, and how long the session lasts.
    pub struct Response versions 0-2 {
        error_code: ErrorCode, 0+;
        error_message: Option<String>, 0+, null 0+, default Some(String::new());
        auth_bytes: Bytes, 0+;
        session_lifetime_ms: i64, 1+;
    }
}
