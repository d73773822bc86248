//! DescribeConfigs: all configs of a topic or group with their defaults, what a broker runs with, and what was set on it.
//! Loggers have none, and subscriptions to clients' metrics their defaults: nothing can be set on either.

mod brokers;
mod client_metrics;
mod groups;

use std::sync::Arc;

use whimbrel_fleet::{
    Topic, View,
    naming::is_valid_topic,
    resource_config::{self, Values},
    topic_config::{ENTRIES, Entry, Kind},
};
use whimbrel_wire::{
    ErrorCode,
    messages::describe_configs::{
        DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResult,
        DescribeConfigsSynonym, Request, Response,
    },
};

use super::{
    alter_configs::{broker_named, group_named, no_configs, resource},
    once,
};
use crate::broker::Broker;

const SOURCE_TOPIC: i8 = 1;
const SOURCE_BROKER: i8 = 2;
const SOURCE_BROKERS: i8 = 3;
const SOURCE_STATIC_BROKER: i8 = 4;
pub const SOURCE_DEFAULT: i8 = 5;
const SOURCE_GROUP: i8 = 8;

/// What is told besides names and values.
#[derive(Clone, Copy)]
struct Details {
    synonyms: bool,
    documentation: bool,
}

pub fn handle(broker: &Arc<Broker>, mut request: Request) -> Response {
    let resources = &mut request.resources;
    let keys = resources.iter();
    let marked = once::firsts(keys.map(|r| (r.resource_type, r.resource_name.as_str())));
    once::keep(resources, &marked);
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

/// Where a value comes from: its name there, the value, and the source as Kafka numbers it. The first one counts.
pub type Origin = (&'static str, String, i8);

/// A config as it is told.
fn described(
    name: &'static str,
    origins: Vec<Origin>,
    (kind, doc): (Kind, &'static str),
    details: Details,
) -> DescribeConfigsResourceResult {
    let (value, config_source) = origins
        .first()
        .map_or((String::new(), SOURCE_DEFAULT), |(_, value, source)| {
            (value.clone(), *source)
        });
    let synonyms = origins
        .into_iter()
        .filter(|_| details.synonyms)
        .map(|(name, value, source)| DescribeConfigsSynonym {
            name: name.to_owned(),
            value: Some(value),
            source,
        });
    DescribeConfigsResourceResult {
        name: name.to_owned(),
        value: Some(value),
        config_source,
        synonyms: synonyms.collect(),
        config_type: kind as i8,
        documentation: details.documentation.then(|| doc.to_owned()),
        ..DescribeConfigsResourceResult::default()
    }
}

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
        resource::BROKER => brokers::describe(broker, &broker_named(broker, name)?, details),
        resource::GROUP => {
            group_named(name)?;
            groups::describe(broker, name, details)
        }
        resource::BROKER_LOGGER => {
            logging(broker, name)?;
            Vec::new()
        }
        resource::CLIENT_METRICS => client_metrics::describe(name, details)?,
        other => return Err(no_configs(other)),
    };
    configs.retain(wanted);
    Ok(configs)
}

/// Whether this is the broker of that name; what it logs is its environment's to say, so that there is nothing to tell.
fn logging(broker: &Broker, name: &str) -> Result<(), (ErrorCode, String)> {
    if name.is_empty() {
        let why = "Broker id must not be empty".to_owned();
        return Err((ErrorCode::INVALID_REQUEST, why));
    }
    broker_named(broker, name).map(|_| ())
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
        .map(|entry| topic_config(&catalog.view, topic, entry, details))
        .collect())
}

/// Where a topic's config has values: the topic's own, that of all brokers, the default.
pub fn topic_origins(
    own: &Values,
    of_all: &resource_config::Configs,
    entry: &Entry,
) -> Vec<Origin> {
    let own = own.get(entry.name);
    let own = own.map(|value| (entry.name, value.clone(), SOURCE_TOPIC));
    let beneath = entry.broker_name.map(|name| {
        let of_all = of_all.of_brokers.get(name);
        let of_all = of_all.map(|value| (name, value.clone(), SOURCE_BROKERS));
        let default = (name, entry.default.to_owned(), SOURCE_DEFAULT);
        of_all.into_iter().chain([default])
    });
    own.into_iter()
        .chain(beneath.into_iter().flatten())
        .collect()
}

fn topic_config(
    view: &View,
    topic: &Topic,
    entry: &Entry,
    details: Details,
) -> DescribeConfigsResourceResult {
    let none = resource_config::Configs::default();
    let of_all = if topic.internal { &none } else { &view.configs };
    let mut told = described(
        entry.name,
        topic_origins(&topic.configs, of_all, entry),
        (entry.kind, entry.doc),
        details,
    );
    // Ours have no name among those of brokers, and a default all the same.
    if told.config_source == SOURCE_DEFAULT {
        told.value = Some(entry.default.to_owned());
    }
    told
}
