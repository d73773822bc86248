//! AlterUserScramCredentials, key 51: give users passwords, or take them away.

use bytes::Bytes;

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 0;

    /// Who loses and who gets a credential.
    pub struct Request versions 0-0 {
        deletions: Vec<ScramCredentialDeletion>, 0+;
        upsertions: Vec<ScramCredentialUpsertion>, 0+;
    }

    /// An element of `deletions` in [`Request`]; mechanism 1 is SCRAM-SHA-256, 2 is SCRAM-SHA-512.
    pub struct ScramCredentialDeletion {
        name: String, 0+;
        mechanism: i8, 0+;
    }

    /// An element of `upsertions` in [`Request`]. The salted password is as good as the password.
    pub struct ScramCredentialUpsertion {
        name: String, 0+;
        mechanism: i8, 0+;
        iterations: i32, 0+;
        salt: Bytes, 0+;
        salted_password: Bytes, 0+;
    }

    /// Outcome for each user.
    pub struct Response versions 0-0 {
        throttle_time_ms: i32, 0+;
        results: Vec<AlterUserScramCredentialsResult>, 0+;
    }

    /// An element of `results` in [`Response`].
    pub struct AlterUserScramCredentialsResult {
        user: String, 0+;
        error_code: ErrorCode, 0+;
        error_message: Option<String>, 0+, null 0+, default Some(String::new());
    }
}
