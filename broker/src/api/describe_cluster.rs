//! DescribeCluster: cluster id and brokers.

use std::sync::Arc;

use whimbrel_wire::{
    ErrorCode,
    messages::describe_cluster::{DescribeClusterBroker, Request, Response},
};

use crate::broker::Broker;

/// `endpoint_type`: brokers, the only ones clients reach.
const BROKERS: i8 = 1;

pub fn handle(broker: &Arc<Broker>, request: &Request) -> Response {
    if request.endpoint_type != BROKERS {
        return Response {
            error_code: ErrorCode::MISMATCHED_ENDPOINT_TYPE,
            ..Response::default()
        };
    }
    let catalog = broker.catalog();
    let brokers = catalog
        .view
        .listed_brokers()
        .map(|node| DescribeClusterBroker {
            broker_id: node.id.0,
            host: node.kafka.host.clone(),
            port: i32::from(node.kafka.port),
            rack: Some(node.rack().to_owned()),
            is_fenced: false,
        });
    Response {
        cluster_id: broker.fleet_id.clone(),
        controller_id: broker.node.0,
        brokers: brokers.collect(),
        ..Response::default()
    }
}
