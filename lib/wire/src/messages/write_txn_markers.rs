//! WriteTxnMarkers, key 27: end transactions in partitions.
//!
//! Version 2 says by which rules the producer's epoch is to be judged (KIP-890).

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 1;

    /// Markers to write.
    pub struct Request versions 1-2 {
        markers: Vec<WritableTxnMarker>, 1+;
    }

    /// An element of `markers` in [`Request`].
    pub struct WritableTxnMarker {
        producer_id: i64, 1+;
        producer_epoch: i16, 1+;
        transaction_result: bool, 1+;
        topics: Vec<WritableTxnMarkerTopic>, 1+;
        coordinator_epoch: i32, 1+;
        transaction_version: i8, 2+;
    }

    /// An element of `topics` in [`WritableTxnMarker`].
    pub struct WritableTxnMarkerTopic {
        name: String, 1+;
        partition_indexes: Vec<i32>, 1+;
    }

    /// Outcome for each partition.
    pub struct Response versions 1-2 {
        markers: Vec<WritableTxnMarkerResult>, 1+;
    }

    /// An element of `markers` in [`Response`].
    pub struct WritableTxnMarkerResult {
        producer_id: i64, 1+;
        topics: Vec<WritableTxnMarkerTopicResult>, 1+;
    }

    /// An element of `topics` in [`WritableTxnMarkerResult`].
    pub struct WritableTxnMarkerTopicResult {
        name: String, 1+;
        partitions: Vec<WritableTxnMarkerPartitionResult>, 1+;
    }

    /// An element of `partitions` in [`WritableTxnMarkerTopicResult`].
    pub struct WritableTxnMarkerPartitionResult {
        partition_index: i32, 1+;
        error_code: ErrorCode, 1+;
    }
}
