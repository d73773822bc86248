//! CreateTopics: checked here, decided by the controller.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream};
use whimbrel_fleet::{
    FailoverGroup, GroupName, NodeId, View, broker_config,
    naming::{MAX_PARTITIONS, is_valid_topic},
    topic_config::ENTRIES,
};
use whimbrel_rpc::controller::{ControlError, NewTopic};
use whimbrel_wire::{
    ErrorCode,
    messages::create_topics::{
        CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreatableTopicConfigs,
        CreatableTopicResult, Request, Response,
    },
};

use super::describe_configs::{SOURCE_DEFAULT, topic_origins};
use crate::{
    broker::Broker,
    quotas::{Account, Kind},
};

/// Most partitions in one request: what is under way at once is bounded, whatever the topics are.
const MOST_AT_ONCE: i32 = 100_000;
/// Topics of one request under way at the controller: it commits what waits together, and one view then brings all their logs.
const AT_ONCE: usize = 32;
/// Longest wait for a new topic to be served here.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// First version that knows THROTTLING_QUOTA_EXCEEDED (KIP-599).
const STRICT: i16 = 6;

pub async fn handle(
    broker: &Arc<Broker>,
    account: &Account,
    request: Request,
    version: i16,
) -> Response {
    if version >= STRICT && !account.owes(Kind::Mutation).is_zero() {
        return throttled(request);
    }
    let wait =
        Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0)).min(LONGEST_WAIT);
    let (mut seen, mut partitions) = (HashSet::new(), 0_i32);
    let checked: Vec<_> = request
        .topics
        .into_iter()
        .map(|topic| {
            if !seen.insert(topic.name.clone()) {
                let why = "named twice";
                return Err(refused(topic.name, ErrorCode::INVALID_REQUEST, why));
            }
            let new = check(broker, topic)?;
            // Clients from before quotas of partitions are slowed down afterwards: too late for this.
            partitions = partitions.saturating_add(new.partitions);
            if partitions > MOST_AT_ONCE {
                let why = format!("{MOST_AT_ONCE} partitions in one request are possible");
                return Err(refused(new.name, ErrorCode::INVALID_REQUEST, why));
            }
            Ok(new)
        })
        .collect();
    let made: Vec<_> = stream::iter(checked)
        .map(async |checked| match checked {
            Err(refused) => (refused, 0),
            Ok(new) => {
                let validate_only = request.validate_only;
                if !validate_only {
                    // Those before it may have used up what there was.
                    if version >= STRICT && !account.owes(Kind::Mutation).is_zero() {
                        return (too_many(new.name), 0);
                    }
                    account.charge(Kind::Mutation, f64::from(new.partitions));
                }
                create(
                    broker,
                    NewTopic {
                        validate_only,
                        ..new
                    },
                )
                .await
            }
        })
        .buffered(AT_ONCE)
        .collect()
        .await;
    let newest = made.iter().map(|(_, version)| *version).max().unwrap_or(0);
    let topics = made.into_iter().map(|(result, _)| result).collect();
    if newest > 0 {
        broker.until_applied(newest, wait).await;
    }
    Response {
        topics,
        ..Response::default()
    }
}

fn throttled(request: Request) -> Response {
    let topics = request.topics.into_iter().map(|topic| too_many(topic.name));
    Response {
        topics: topics.collect(),
        ..Response::default()
    }
}

fn too_many(name: String) -> CreatableTopicResult {
    refused(
        name,
        ErrorCode::THROTTLING_QUOTA_EXCEEDED,
        "too many partitions were created and deleted lately",
    )
}

fn refused(name: String, error_code: ErrorCode, why: impl Into<String>) -> CreatableTopicResult {
    CreatableTopicResult {
        name,
        error_code,
        error_message: Some(why.into()),
        ..CreatableTopicResult::default()
    }
}

fn check(broker: &Broker, topic: CreatableTopic) -> Result<NewTopic, CreatableTopicResult> {
    let name = topic.name;
    if !is_valid_topic(&name) {
        return Err(refused(
            name,
            ErrorCode::INVALID_TOPIC_EXCEPTION,
            "a topic's name has 1 to 249 of a-z, A-Z, 0-9, '.', '_', '-', and is neither '.' nor '..'",
        ));
    }
    let copies = match assigned(
        &topic.assignments,
        topic.num_partitions,
        topic.replication_factor,
    ) {
        Ok(lists) => lists,
        Err((code, why)) => return Err(refused(name, code, why)),
    };
    let view = &*broker.catalog().view;
    let group = view.groups.get(&GroupName::default_group());
    let copies: Vec<_> = copies
        .into_iter()
        .map(|ids| at_home(view, group, ids))
        .collect();
    if copies.iter().any(Vec::is_empty) {
        return Err(refused(
            name,
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            "a replica list names no broker of the home region",
        ));
    }
    let partitions = match (topic.num_partitions, copies.len()) {
        (-1, 0) => default_partitions(broker, view),
        (-1, lists) => i32::try_from(lists).unwrap_or(i32::MAX),
        (wanted, _) => wanted,
    };
    if !(1..=MAX_PARTITIONS).contains(&partitions) {
        return Err(refused(
            name,
            ErrorCode::INVALID_PARTITIONS,
            format!("1 to {MAX_PARTITIONS} partitions are possible"),
        ));
    }
    let replication_factor = match (topic.replication_factor, copies.first()) {
        (-1, None) => view.default_copies(),
        (-1, Some(list)) => i16::try_from(list.len()).unwrap_or(i16::MAX),
        (factor, _) if factor >= 1 => factor,
        _ => {
            return Err(refused(
                name,
                ErrorCode::INVALID_REPLICATION_FACTOR,
                "a replication factor is -1 or at least 1",
            ));
        }
    };
    let configs = match configs(topic.configs) {
        Ok(configs) => configs,
        Err(why) => return Err(refused(name, ErrorCode::INVALID_CONFIG, why)),
    };
    Ok(NewTopic {
        configs,
        replication_factor,
        copies,
        ..NewTopic::new(name, partitions)
    })
}

/// What they say is judged by the controller, with all others' ways to create a topic.
fn configs(asked: Vec<CreatableTopicConfig>) -> Result<BTreeMap<String, String>, String> {
    let valueless = asked.iter().filter(|config| config.value.is_none());
    let valueless: Vec<_> = valueless.map(|config| config.name.as_str()).collect();
    if !valueless.is_empty() {
        let names = valueless.join(",");
        return Err(format!(
            "Null value not supported for topic configs: {names}"
        ));
    }
    let pairs = asked.into_iter().map(|config| {
        let value = config.value.unwrap_or_default();
        (config.name, value.trim().to_owned())
    });
    Ok(pairs.collect())
}

/// Partitions of a topic that does not say: what was set for all brokers, or else this one's file.
pub fn default_partitions(broker: &Broker, view: &View) -> i32 {
    let of_all = view.configs.of_all(broker_config::DEFAULT_PARTITIONS);
    of_all.unwrap_or(broker.options.default_partitions)
}

/// Kafka's tools see one cluster and name the brokers of every copy: those of the home region are what is
/// asked for, the fleet places the copies of other regions. Who is not known is the controller's to refuse.
pub fn at_home(view: &View, group: Option<&FailoverGroup>, ids: &[i32]) -> Vec<NodeId> {
    let elsewhere = |id: &NodeId| {
        let region = view.nodes.get(id).map(|node| &node.region);
        region.is_some_and(|region| group.is_some_and(|group| group.home != *region))
    };
    let ids = ids.iter().copied().map(NodeId);
    ids.filter(|id| !elsewhere(id)).collect()
}

/// The lists of brokers that were asked for, by partition.
fn assigned(
    lists: &[CreatableReplicaAssignment],
    num_partitions: i32,
    replication_factor: i16,
) -> Result<Vec<&[i32]>, (ErrorCode, &'static str)> {
    if lists.is_empty() {
        return Ok(Vec::new());
    }
    if num_partitions != -1 || replication_factor != -1 {
        return Err((
            ErrorCode::INVALID_REQUEST,
            "where replicas are assigned, partition count and replication factor follow from that and are -1",
        ));
    }
    let mut copies = vec![None; lists.len()];
    for list in lists {
        let place = usize::try_from(list.partition_index).ok();
        match place.and_then(|place| copies.get_mut(place)) {
            Some(empty @ None) => *empty = Some(list.broker_ids.as_slice()),
            _ => {
                return Err((
                    ErrorCode::INVALID_REPLICA_ASSIGNMENT,
                    "replicas are assigned to partitions 0 and following, to each once",
                ));
            }
        }
    }
    Ok(copies.into_iter().flatten().collect())
}

/// What the client is told, and the version of the view that has the topic.
async fn create(broker: &Broker, new: NewTopic) -> (CreatableTopicResult, u64) {
    let (name, num_partitions, replication_factor, configs) = (
        new.name.clone(),
        new.partitions,
        new.replication_factor,
        new.configs.clone(),
    );
    match broker.controller.create_topic(new).await {
        Ok(created) => {
            let of_all = &broker.catalog().view.configs;
            let configs = ENTRIES.iter().map(|entry| {
                let origins = topic_origins(&configs, of_all, entry);
                let (value, source) = origins.into_iter().next().map_or_else(
                    || (entry.default.to_owned(), SOURCE_DEFAULT),
                    |(_, value, source)| (value, source),
                );
                CreatableTopicConfigs {
                    name: entry.name.to_owned(),
                    value: Some(value),
                    config_source: source,
                    ..CreatableTopicConfigs::default()
                }
            });
            let result = CreatableTopicResult {
                name,
                topic_id: created.topic_id,
                error_message: None,
                num_partitions,
                replication_factor,
                configs: Some(configs.collect()),
                ..CreatableTopicResult::default()
            };
            (result, created.version)
        }
        Err(error) => {
            let (code, why) = code_of(&error);
            (refused(name, code, why), 0)
        }
    }
}

/// What a client is told of a controller's error.
pub fn code_of(error: &ControlError) -> (ErrorCode, String) {
    let code = match error {
        ControlError::Kafka {
            error_code,
            message,
        } => return (ErrorCode(*error_code), message.clone()),
        ControlError::Unreachable { .. } | ControlError::Unknown { .. } => {
            ErrorCode::REQUEST_TIMED_OUT
        }
        ControlError::Refused { .. } | ControlError::Aborted { .. } => ErrorCode::POLICY_VIOLATION,
        ControlError::Malformed { .. } | ControlError::BadAnswer { .. } => {
            ErrorCode::UNKNOWN_SERVER_ERROR
        }
    };
    (code, error.to_string())
}
