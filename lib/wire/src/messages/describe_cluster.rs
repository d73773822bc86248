//! DescribeCluster, key 60: the cluster's brokers.

use crate::error_code::ErrorCode;
use crate::message::message;

message! {
    flexible 0;

    /// What to include.
    pub struct Request versions 0-2 {
        include_cluster_authorized_operations: bool, 0+;
        endpoint_type: i8, 1+, default 1;
        include_fenced_brokers: bool, 2+;
    }

    /// Cluster id, controller and brokers.
    pub struct Response versions 0-2 {
        throttle_time_ms: i32, 0+;
        error_code: ErrorCode, 0+;
        error_message: Option<String>, 0+, null 0+;
        endpoint_type: i8, 1+, default 1;
        cluster_id: String, 0+;
        controller_id: i32, 0+, default -1;
        brokers: Vec<DescribeClusterBroker>, 0+;
        cluster_authorized_operations: i32, 0+, default -2147483648;
    }

    /// An element of `brokers` in [`Response`].
    pub struct DescribeClusterBroker {
        broker_id: i32, 0+;
        host: String, 0+;
        port: i32, 0+;
        rack: Option<String>, 0+, null 0+;
        is_fenced: bool, 2+;
    }
}
