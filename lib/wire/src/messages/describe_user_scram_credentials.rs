//! DescribeUserScramCredentials, key 50: who has a password for which SCRAM mechanism, never the credential itself.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 0;

    /// Users asked for, null or none for all.
    pub struct Request versions 0-0 {
        users: Option<Vec<UserName>>, 0+, null 0+, default Some(Vec::new());
    }

    /// An element of `users` in [`Request`].
    pub struct UserName {
        name: String, 0+;
    }

    /// What each user has.
    pub struct Response versions 0-0 {
        throttle_time_ms: i32, 0+;
        error_code: ErrorCode, 0+;
        error_message: Option<String>, 0+, null 0+, default Some(String::new());
        results: Vec<DescribeUserScramCredentialsResult>, 0+;
    }

    /// An element of `results` in [`Response`].
    pub struct DescribeUserScramCredentialsResult {
        user: String, 0+;
        error_code: ErrorCode, 0+;
        error_message: Option<String>, 0+, null 0+, default Some(String::new());
        credential_infos: Vec<CredentialInfo>, 0+;
    }

    /// An element of `credential_infos`; mechanism 1 is SCRAM-SHA-256, 2 is SCRAM-SHA-512.
    pub struct CredentialInfo {
        mechanism: i8, 0+;
        iterations: i32, 0+;
    }
}
