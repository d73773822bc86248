//! DescribeLogDirs, key 35: sizes on disk.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 2;

    /// Partitions asked for, null for all.
    pub struct Request versions 1-4 {
        topics: Option<Vec<DescribableLogDirTopic>>, 1+, null 1+, default Some(Vec::new());
    }

    /// An element of `topics` in [`Request`].
    pub struct DescribableLogDirTopic {
        topic: String, 1+;
        partitions: Vec<i32>, 1+;
    }

    /// Directories, with what each partition takes there.
    pub struct Response versions 1-4 {
        throttle_time_ms: i32, 1+;
        error_code: ErrorCode, 3+;
        results: Vec<DescribeLogDirsResult>, 1+;
    }

    /// An element of `results` in [`Response`].
    pub struct DescribeLogDirsResult {
        error_code: ErrorCode, 1+;
        log_dir: String, 1+;
        topics: Vec<DescribeLogDirsTopic>, 1+;
        total_bytes: i64, 4+, default -1;
        usable_bytes: i64, 4+, default -1;
    }

    /// An element of `topics` in [`DescribeLogDirsResult`].
    pub struct DescribeLogDirsTopic {
        name: String, 1+;
        partitions: Vec<DescribeLogDirsPartition>, 1+;
    }

    /// An element of `partitions` in [`DescribeLogDirsTopic`].
    pub struct DescribeLogDirsPartition {
        partition_index: i32, 1+;
        partition_size: i64, 1+;
        offset_lag: i64, 1+;
        is_future_key: bool, 1+;
    }
}
