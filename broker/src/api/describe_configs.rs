//! DescribeConfigs: all configs of a topic with their defaults, and what a broker runs with.

use std::sync::Arc;

use whimbrel_fleet::{
    Topic,
    naming::is_valid_topic,
    topic_config::{ENTRIES, Entry},
};
use whimbrel_wire::{
    ErrorCode,
    messages::describe_configs::{
        DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResult,
        DescribeConfigsSynonym, Request, Response,
    },
};

use super::alter_configs::resource;
use crate::{broker::Broker, broker_config};

const SOURCE_TOPIC: i8 = 1;
const SOURCE_STATIC_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;

/// Where a topic's config comes from, as Kafka numbers it.
pub fn source(set: bool) -> i8 {
    if set { SOURCE_TOPIC } else { SOURCE_DEFAULT }
}

/// What is told besides names and values.
#[derive(Clone, Copy)]
struct Details {
    synonyms: bool,
    documentation: bool,
}

pub fn handle(broker: &Arc<Broker>, request: Request) -> Response {
    let details = Details {
        synonyms: request.include_synonyms,
        documentation: request.include_documentation,
    };
    let results =
        request
            .resources
            .into_iter()
            .map(|resource| match describe(broker, &resource, details) {
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
    configs: Configs,
) -> DescribeConfigsResult {
    DescribeConfigsResult {
        error_code,
        error_message,
        resource_type: resource.resource_type,
        resource_name: resource.resource_name,
        configs,
    }
}

type Configs = Vec<DescribeConfigsResourceResult>;

fn describe(
    broker: &Broker,
    resource: &DescribeConfigsResource,
    details: Details,
) -> Result<Configs, (ErrorCode, String)> {
    let wanted = |config: &DescribeConfigsResourceResult| {
        let keys = resource.configuration_keys.as_ref();
        keys.is_none_or(|keys| keys.is_empty() || keys.contains(&config.name))
    };
    let name = resource.resource_name.as_str();
    let mut configs = match resource.resource_type {
        resource::TOPIC => of_topic(broker, name, details)?,
        // The defaults of all brokers that can be changed: there are none.
        resource::BROKER if name.is_empty() => Vec::new(),
        resource::BROKER if name == broker.node.0.to_string() => of_broker(broker, details),
        resource::BROKER => {
            let why = format!("this is broker {}, not {name:.40}", broker.node);
            return Err((ErrorCode::INVALID_REQUEST, why));
        }
        other => {
            let why = format!("resource type {other} has no configs here");
            return Err((ErrorCode::INVALID_REQUEST, why));
        }
    };
    configs.retain(wanted);
    Ok(configs)
}

fn of_topic(broker: &Broker, name: &str, details: Details) -> Result<Configs, (ErrorCode, String)> {
    let refuse = |code, why: &str| Err((code, why.to_owned()));
    if !is_valid_topic(name) {
        return refuse(
            ErrorCode::INVALID_TOPIC_EXCEPTION,
            "no topic can have this name",
        );
    }
    let catalog = broker.catalog();
    let Some(topic) = catalog.topic(name) else {
        return refuse(
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            "there is no such topic",
        );
    };
    Ok(ENTRIES
        .iter()
        .map(|entry| topic_config(topic, entry, details))
        .collect())
}

fn topic_config(topic: &Topic, entry: &Entry, details: Details) -> DescribeConfigsResourceResult {
    let set = topic.configs.get(entry.name);
    let synonym = |name: &str, value: &str, set: bool| DescribeConfigsSynonym {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        source: source(set),
    };
    let own = set.map(|value| synonym(entry.name, value, true));
    let default = entry
        .broker_name
        .map(|name| synonym(name, entry.default, false));
    DescribeConfigsResourceResult {
        name: entry.name.to_owned(),
        value: Some(set.map_or(entry.default, String::as_str).to_owned()),
        config_source: source(set.is_some()),
        synonyms: if details.synonyms {
            own.into_iter().chain(default).collect()
        } else {
            Vec::new()
        },
        config_type: entry.kind as i8,
        documentation: details.documentation.then(|| entry.doc.to_owned()),
        ..DescribeConfigsResourceResult::default()
    }
}

fn of_broker(broker: &Broker, details: Details) -> Configs {
    let described = broker_config::all(&broker.options)
        .into_iter()
        .map(|config| {
            let config_source = if config.set {
                SOURCE_STATIC_BROKER
            } else {
                SOURCE_DEFAULT
            };
            let synonym = DescribeConfigsSynonym {
                name: config.name.to_owned(),
                value: Some(config.value.clone()),
                source: config_source,
            };
            DescribeConfigsResourceResult {
                name: config.name.to_owned(),
                value: Some(config.value),
                read_only: true,
                config_source,
                synonyms: if details.synonyms {
                    vec![synonym]
                } else {
                    Vec::new()
                },
                config_type: config.kind as i8,
                documentation: details.documentation.then(|| config.doc.to_owned()),
                ..DescribeConfigsResourceResult::default()
            }
        });
    described.collect()
}
