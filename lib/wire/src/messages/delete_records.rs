//! DeleteRecords, key 21: move log starts.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 2;

    /// The new log start of each partition; -1 is its high watermark.
    pub struct Request versions 0-2 {
        topics: Vec<DeleteRecordsTopic>, 0+;
        timeout_ms: i32, 0+;
    }

    /// An element of `topics` in [`Request`].
    pub struct DeleteRecordsTopic {
        name: String, 0+;
        partitions: Vec<DeleteRecordsPartition>, 0+;
    }

    /// An element of `partitions` in [`DeleteRecordsTopic`].
    pub struct DeleteRecordsPartition {
        partition_index: i32, 0+;
        offset: i64, 0+;
    }

    /// The log start each partition has now.
    pub struct Response versions 0-2 {
        throttle_time_ms: i32, 0+;
        topics: Vec<DeleteRecordsTopicResult>, 0+;
    }

    /// An element of `topics` in [`Response`].
    pub struct DeleteRecordsTopicResult {
        name: String, 0+;
        partitions: Vec<DeleteRecordsPartitionResult>, 0+;
    }

    /// An element of `partitions` in [`DeleteRecordsTopicResult`].
    pub struct DeleteRecordsPartitionResult {
        partition_index: i32, 0+;
        low_watermark: i64, 0+;
        error_code: ErrorCode, 0+;
    }
}
