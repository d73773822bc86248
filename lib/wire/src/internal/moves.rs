//! Our own kind of record: how far the positions of a partition of `__consumer_offsets` were set back.
//!
//! Its number is `WB` in ASCII, far above those that Kafka gives to kinds of its own.

use crate::message::message;

message! {
    flexible never;

    /// The failover group that moved; never the one that the partition itself belongs to.
    pub struct MoveKey versions 22338-22338 {
        failover_group: String, 22338+;
    }
}

message! {
    flexible never;

    /// The newest of its lossy moves that the positions were set back to, by the region epoch that it began.
    pub struct MoveValue versions 0-0 {
        region_epoch: i64, 0+;
    }
}
