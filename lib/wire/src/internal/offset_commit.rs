//! A committed position.

use crate::message::message;

message! {
    flexible never;

    /// Whose position, and where.
    pub struct OffsetCommitKey versions 0-1 {
        group: String, 0+;
        topic: String, 0+;
        partition: i32, 0+;
    }
}

message! {
    flexible 4;

    /// The position. `expire_timestamp` stands only in version 1, which brokers before 2.1 wrote.
    pub struct OffsetCommitValue versions 0-4 {
        offset: i64, 0+;
        leader_epoch: i32, 3+, default -1;
        metadata: String, 0+;
        commit_timestamp: i64, 0+;
        expire_timestamp: i64, 1-1, default -1;
    }
}
