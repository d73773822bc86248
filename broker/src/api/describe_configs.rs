//! DescribeConfigs: all configs of a topic with their defaults; a few of a broker.

use std::sync::Arc;

use whimbrel_wire::{
    ErrorCode,
    messages::describe_configs::{
        DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResult,
        DescribeConfigsSynonym, Request, Response,
    },
};

use crate::{
    broker::Broker,
    topic_config::{ENTRIES, Kind},
};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SOURCE_TOPIC: i8 = 1;
const SOURCE_STATIC_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;

/// Where a topic's config comes from, as Kafka numbers it.
pub fn source(set: bool) -> i8 {
    if set { SOURCE_TOPIC } else { SOURCE_DEFAULT }
}

pub fn handle(broker: &Arc<Broker>, request: Request) -> Response {
    let synonyms = request.include_synonyms;
    let results =
        request
            .resources
            .into_iter()
            .map(|resource| match describe(broker, &resource, synonyms) {
                Ok(configs) => result(resource, ErrorCode::NONE, None, configs),
                Err((code, why)) => result(resource, code, Some(why), Vec::new()),
            });
    Response {
        results: results.collect(),
        ..Response::default()
    }
}

fn result(
    resource: DescribeConfigsResource,
    error_code: ErrorCode,
    error_message: Option<String>,
    configs: Vec<DescribeConfigsResourceResult>,
) -> DescribeConfigsResult {
    let DescribeConfigsResource {
        resource_type,
        resource_name,
        ..
    } = resource;
    DescribeConfigsResult {
        error_code,
        error_message,
        resource_type,
        resource_name,
        configs,
    }
}

fn describe(
    broker: &Broker,
    resource: &DescribeConfigsResource,
    synonyms: bool,
) -> Result<Vec<DescribeConfigsResourceResult>, (ErrorCode, String)> {
    let wanted = |name: &str| {
        resource
            .configuration_keys
            .as_ref()
            .is_none_or(|keys| keys.iter().any(|k| k == name))
    };
    match resource.resource_type {
        TOPIC => {
            let catalog = broker.catalog();
            let topic = catalog.topic(&resource.resource_name).ok_or_else(|| {
                (
                    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                    "there is no such topic".to_owned(),
                )
            })?;
            let entries = ENTRIES.iter().filter(|entry| wanted(entry.name));
            Ok(entries
                .map(|entry| {
                    config(
                        entry.name,
                        topic
                            .configs
                            .get(entry.name)
                            .map_or(entry.default, String::as_str),
                        entry.kind,
                        source(topic.configs.contains_key(entry.name)),
                        synonyms,
                    )
                })
                .collect())
        }
        BROKER
            if resource.resource_name.is_empty()
                || resource.resource_name == broker.node.0.to_string() =>
        {
            let options = &broker.options;
            let all = [
                (
                    "auto.create.topics.enable",
                    options.auto_create_topics.to_string(),
                    Kind::Boolean,
                ),
                ("broker.id", options.node_id.to_string(), Kind::Int),
                ("broker.rack", options.region.to_string(), Kind::String),
                ("default.replication.factor", "1".to_owned(), Kind::Int),
                (
                    "fetch.max.bytes",
                    options.limits.fetch_bytes.0.to_string(),
                    Kind::Int,
                ),
                ("log.cleanup.policy", "delete".to_owned(), Kind::List),
                ("message.max.bytes", "1048588".to_owned(), Kind::Int),
                (
                    "num.partitions",
                    options.default_partitions.to_string(),
                    Kind::Int,
                ),
                ("offsets.topic.num.partitions", "50".to_owned(), Kind::Int),
                (
                    "offsets.topic.replication.factor",
                    "1".to_owned(),
                    Kind::Int,
                ),
                (
                    "socket.request.max.bytes",
                    options.limits.request_bytes.0.to_string(),
                    Kind::Int,
                ),
            ];
            Ok(all
                .iter()
                .filter(|(name, ..)| wanted(name))
                .map(|(name, value, kind)| DescribeConfigsResourceResult {
                    read_only: true,
                    ..config(name, value, *kind, SOURCE_STATIC_BROKER, synonyms)
                })
                .collect())
        }
        BROKER => Err((
            ErrorCode::INVALID_REQUEST,
            "ask that broker itself".to_owned(),
        )),
        other => Err((
            ErrorCode::INVALID_REQUEST,
            format!("resource type {other} has no configs here"),
        )),
    }
}

fn config(
    name: &str,
    value: &str,
    kind: Kind,
    config_source: i8,
    synonyms: bool,
) -> DescribeConfigsResourceResult {
    let synonym = DescribeConfigsSynonym {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        source: config_source,
    };
    DescribeConfigsResourceResult {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        config_source,
        synonyms: if synonyms { vec![synonym] } else { Vec::new() },
        config_type: kind as i8,
        documentation: None,
        ..DescribeConfigsResourceResult::default()
    }
}
