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

type Configs = Vec<DescribeConfigsResourceResult>;

fn describe(
    broker: &Broker,
    resource: &DescribeConfigsResource,
    synonyms: bool,
) -> Result<Configs, (ErrorCode, String)> {
    let wanted = |name: &str| {
        let keys = resource.configuration_keys.as_ref();
        keys.is_none_or(|keys| keys.iter().any(|k| k == name))
    };
    let name = resource.resource_name.as_str();
    let mut configs = match resource.resource_type {
        TOPIC => of_topic(broker, name, synonyms)?,
        BROKER if name.is_empty() || name == broker.node.0.to_string() => {
            of_broker(broker, synonyms)
        }
        BROKER => {
            return Err((
                ErrorCode::INVALID_REQUEST,
                "ask that broker itself".to_owned(),
            ));
        }
        other => {
            let why = format!("resource type {other} has no configs here");
            return Err((ErrorCode::INVALID_REQUEST, why));
        }
    };
    configs.retain(|config| wanted(&config.name));
    Ok(configs)
}

fn of_topic(broker: &Broker, name: &str, synonyms: bool) -> Result<Configs, (ErrorCode, String)> {
    let catalog = broker.catalog();
    let topic = catalog.topic(name).ok_or_else(|| {
        let why = "there is no such topic".to_owned();
        (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, why)
    })?;
    let described = ENTRIES.iter().map(|entry| {
        let set = topic.configs.get(entry.name);
        let value = set.map_or(entry.default, String::as_str);
        config(
            entry.name,
            value,
            entry.kind,
            source(set.is_some()),
            synonyms,
        )
    });
    Ok(described.collect())
}

fn of_broker(broker: &Broker, synonyms: bool) -> Configs {
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
    let described = all
        .iter()
        .map(|(name, value, kind)| DescribeConfigsResourceResult {
            read_only: true,
            ..config(name, value, *kind, SOURCE_STATIC_BROKER, synonyms)
        });
    described.collect()
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
