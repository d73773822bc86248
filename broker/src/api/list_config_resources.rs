//! ListConfigResources: topics, brokers, and the groups that have configs of their own.

use std::sync::Arc;

use whimbrel_wire::{
    ErrorCode,
    messages::list_config_resources::{ConfigResource, Request, Response},
};

use super::alter_configs::resource;
use crate::broker::Broker;

/// First version that says which types are wanted; before, only client metrics (KIP-714) were meant.
const TYPES: i16 = 1;
/// What Kafka lists.
const KNOWN: [i8; 5] = [
    resource::TOPIC,
    resource::BROKER,
    resource::BROKER_LOGGER,
    resource::CLIENT_METRICS,
    resource::GROUP,
];

pub fn handle(broker: &Arc<Broker>, request: &Request, version: i16) -> Response {
    let asked: &[i8] = match request.resource_types.as_slice() {
        _ if version < TYPES => &[resource::CLIENT_METRICS],
        [] => &KNOWN,
        asked => asked,
    };
    if asked.iter().any(|kind| !KNOWN.contains(kind)) {
        return Response {
            error_code: ErrorCode::UNSUPPORTED_VERSION,
            ..Response::default()
        };
    }
    let catalog = broker.catalog();
    let mut config_resources = Vec::new();
    let mut list = |resource_type: i8, resource_name: String| {
        if asked.contains(&resource_type) {
            config_resources.push(ConfigResource {
                resource_name,
                resource_type,
            });
        }
    };
    for name in catalog.view.topics.keys() {
        list(resource::TOPIC, name.clone());
    }
    for name in catalog.view.configs.groups.keys() {
        list(resource::GROUP, name.clone());
    }
    for node in catalog.view.listed_brokers() {
        list(resource::BROKER, node.id.to_string());
    }
    Response {
        config_resources,
        ..Response::default()
    }
}
