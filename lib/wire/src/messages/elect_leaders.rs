//! ElectLeaders, key 43: preferred or unclean elections.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 2;

    /// Partitions, null for all. `election_type` is 0 for the preferred leader, 1 for an unclean election.
    pub struct Request versions 0-2 {
        election_type: i8, 1+;
        topic_partitions: Option<Vec<TopicPartitions>>, 0+, null 0+, default Some(Vec::new());
        timeout_ms: i32, 0+, default 60_000;
    }

    /// An element of `topic_partitions` in [`Request`].
    pub struct TopicPartitions {
        topic: String, 0+;
        partitions: Vec<i32>, 0+;
    }

    /// Outcome for each partition.
    pub struct Response versions 0-2 {
        throttle_time_ms: i32, 0+;
        error_code: ErrorCode, 1+;
        replica_election_results: Vec<ReplicaElectionResult>, 0+;
    }

    /// An element of `replica_election_results` in [`Response`].
    pub struct ReplicaElectionResult {
        topic: String, 0+;
        partition_result: Vec<PartitionResult>, 0+;
    }

    /// An element of `partition_result` in [`ReplicaElectionResult`].
    pub struct PartitionResult {
        partition_id: i32, 0+;
        error_code: ErrorCode, 0+;
        error_message: Option<String>, 0+, null 0+, default Some(String::new());
    }
}
