//! AlterConfigs, and what IncrementalAlterConfigs shares with it: decided by the controller.
//!
//! What can be changed of a broker is kept and has no effect (`whimbrel_fleet::broker_config`): its file decides.

use std::{collections::HashSet, sync::Arc, time::Duration};

use whimbrel_fleet::{naming::is_valid_topic, resource_config::Resource, topic_config::Change};
use whimbrel_rpc::controller::{ResourceConfigChange, TopicConfigChange};
use whimbrel_wire::{
    ErrorCode,
    messages::alter_configs::{
        AlterConfigsResource, AlterConfigsResourceResponse, Request, Response,
    },
};

use super::create_topics::code_of;
use crate::broker::Broker;

/// Longest wait for the change to be in force here.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Kafka's numbers of resource types.
pub mod resource {
    pub const TOPIC: i8 = 2;
    pub const BROKER: i8 = 4;
    pub const BROKER_LOGGER: i8 = 8;
    /// KIP-714.
    pub const CLIENT_METRICS: i8 = 16;
    pub const GROUP: i8 = 32;
}

/// One resource's changes, or why there can be none.
#[derive(Debug)]
pub struct Wanted {
    pub kind: i8,
    pub name: String,
    pub changes: Result<Vec<Change>, (ErrorCode, String)>,
}

/// What came of a resource's changes, in the order asked for.
pub type Outcome = (i8, String, Result<(), (ErrorCode, String)>);

pub async fn handle(broker: &Arc<Broker>, request: Request) -> Response {
    let wanted = request.resources.into_iter().map(wanted).collect();
    let outcomes = alter(broker, wanted, true, request.validate_only).await;
    let responses = outcomes.into_iter().map(|(resource_type, name, outcome)| {
        let (error_code, error_message) = told(outcome);
        AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type,
            resource_name: name,
        }
    });
    Response {
        responses: responses.collect(),
        ..Response::default()
    }
}

fn wanted(resource: AlterConfigsResource) -> Wanted {
    let once = each_once(resource.configs.iter().map(|config| config.name.as_str()));
    let changes = resource.configs.into_iter().map(|config| {
        let value = config.value.ok_or_else(|| no_value(&config.name))?;
        Ok(Change::set(config.name, value))
    });
    Wanted {
        kind: resource.resource_type,
        name: resource.resource_name,
        changes: once.and_then(|()| changes.collect()),
    }
}

/// Refuses a config that is named twice.
pub fn each_once<'a>(mut names: impl Iterator<Item = &'a str>) -> Result<(), (ErrorCode, String)> {
    let mut seen = HashSet::new();
    if names.all(|name| seen.insert(name)) {
        return Ok(());
    }
    let why = "Error due to duplicate config keys".to_owned();
    Err((ErrorCode::INVALID_REQUEST, why))
}

/// A value that is needed and is null.
pub fn no_value(name: &str) -> (ErrorCode, String) {
    let why = format!("no value for {name:.128}");
    (ErrorCode::INVALID_REQUEST, why)
}

/// Code and message as an answer has them.
pub fn told(outcome: Result<(), (ErrorCode, String)>) -> (ErrorCode, Option<String>) {
    match outcome {
        Ok(()) => (ErrorCode::NONE, None),
        Err((code, why)) => (code, Some(why)),
    }
}

/// Changes the resources one after another; what one is refused does not keep back the others.
pub async fn alter(
    broker: &Broker,
    all: Vec<Wanted>,
    replace: bool,
    validate_only: bool,
) -> Vec<Outcome> {
    let (mut seen, mut twice) = (HashSet::new(), HashSet::new());
    for wanted in &all {
        let resource = (wanted.kind, wanted.name.clone());
        if !seen.insert(resource.clone()) {
            twice.insert(resource);
        }
    }
    let (mut outcomes, mut newest) = (Vec::with_capacity(all.len()), 0);
    for Wanted {
        kind,
        name,
        changes,
    } in all
    {
        let done = if twice.contains(&(kind, name.clone())) {
            Err((ErrorCode::INVALID_REQUEST, "named twice".to_owned()))
        } else {
            one(broker, kind, &name, changes, replace, validate_only).await
        };
        let done = done.map(|version| newest = version.max(newest));
        outcomes.push((kind, name, done));
    }
    if newest > 0 && !validate_only {
        broker.until_applied(newest, LONGEST_WAIT).await;
    }
    outcomes
}

async fn one(
    broker: &Broker,
    kind: i8,
    name: &str,
    changes: Result<Vec<Change>, (ErrorCode, String)>,
    replace: bool,
    validate_only: bool,
) -> Result<u64, (ErrorCode, String)> {
    let resource = match kind {
        resource::TOPIC => {
            return topic(broker, name, changes?, replace, validate_only).await;
        }
        resource::BROKER => broker_named(broker, name)?,
        resource::GROUP => group_named(name)?,
        other => return Err(no_configs(other)),
    };
    let change = ResourceConfigChange {
        resource,
        changes: changes?,
        replace,
        validate_only,
    };
    let done = broker.controller.alter_resource_configs(change).await;
    done.map_err(|error| code_of(&error))
}

async fn topic(
    broker: &Broker,
    name: &str,
    changes: Vec<Change>,
    replace: bool,
    validate_only: bool,
) -> Result<u64, (ErrorCode, String)> {
    if !is_valid_topic(name) {
        let why = "no topic can have this name".to_owned();
        return Err((ErrorCode::INVALID_TOPIC_EXCEPTION, why));
    }
    let change = TopicConfigChange {
        name: name.to_owned(),
        changes,
        replace,
        validate_only,
    };
    let done = broker.controller.alter_topic_configs(change).await;
    done.map(|done| done.version)
        .map_err(|error| code_of(&error))
}

/// This broker or, without a name, all that have no value of their own. Others are asked themselves, as at Kafka.
pub fn broker_named(broker: &Broker, name: &str) -> Result<Resource, (ErrorCode, String)> {
    if name.is_empty() {
        return Ok(Resource::Brokers);
    }
    if name == broker.node.0.to_string() {
        return Ok(Resource::Broker(broker.node));
    }
    let why = format!("this is broker {}, not {name:.40}", broker.node);
    Err((ErrorCode::INVALID_REQUEST, why))
}

/// A group, whether it is there or not.
pub fn group_named(name: &str) -> Result<Resource, (ErrorCode, String)> {
    if name.is_empty() {
        let why = "Group name must not be empty.".to_owned();
        return Err((ErrorCode::INVALID_REQUEST, why));
    }
    Ok(Resource::Group(name.to_owned()))
}

/// A type of resources without configs.
pub fn no_configs(kind: i8) -> (ErrorCode, String) {
    let why = format!("resource type {kind} has no configs here");
    (ErrorCode::INVALID_REQUEST, why)
}
