//! Produce, key 0: append record batches.
//!
//! Version 13 names topics by id. An unanswered request (`acks` 0) has no response at all.

use bytes::Bytes;
use uuid::Uuid;

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 9;

    /// Batches to append.
    pub struct Request versions 3-13 {
        transactional_id: Option<String>, 3+, null 3+;
        acks: i16, 3+;
        timeout_ms: i32, 3+;
        topic_data: Vec<TopicProduceData>, 3+;
    }

    /// An element of `topic_data` in [`Request`].
    pub struct TopicProduceData {
        name: String, 3-12;
        topic_id: Uuid, 13+;
        partition_data: Vec<PartitionProduceData>, 3+;
    }

    /// An element of `partition_data` in [`TopicProduceData`].
    pub struct PartitionProduceData {
        index: i32, 3+;
        records: Option<Bytes>, 3+, null 3+, default Some(Bytes::new());
    }

    /// Where each batch went, or why not.
    pub struct Response versions 3-13 {
        responses: Vec<TopicProduceResponse>, 3+;
        throttle_time_ms: i32, 3+;
        node_endpoints: Vec<NodeEndpoint>, 10+, tag 0;
    }

    /// An element of `responses` in [`Response`].
    pub struct TopicProduceResponse {
        name: String, 3-12;
        topic_id: Uuid, 13+;
        partition_responses: Vec<PartitionProduceResponse>, 3+;
    }

    /// An element of `partition_responses` in [`TopicProduceResponse`].
    pub struct PartitionProduceResponse {
        index: i32, 3+;
        error_code: ErrorCode, 3+;
        base_offset: i64, 3+;
        log_append_time_ms: i64, 3+, default -1;
        log_start_offset: i64, 5+, default -1;
        record_errors: Vec<BatchIndexAndErrorMessage>, 8+;
        error_message: Option<String>, 8+, null 8+;
        current_leader: LeaderIdAndEpoch, 10+, tag 0;
    }

    /// An element of `record_errors` in [`PartitionProduceResponse`].
    pub struct BatchIndexAndErrorMessage {
        batch_index: i32, 8+;
        batch_index_error_message: Option<String>, 8+, null 8+;
    }

    /// The value of `current_leader` in [`PartitionProduceResponse`].
    pub struct LeaderIdAndEpoch {
        leader_id: i32, 10+, default -1;
        leader_epoch: i32, 10+, default -1;
    }

    /// An element of `node_endpoints` in [`Response`].
    pub struct NodeEndpoint {
        node_id: i32, 10+;
        host: String, 10+;
        port: i32, 10+;
        rack: Option<String>, 10+, null 10+;
    }
}
