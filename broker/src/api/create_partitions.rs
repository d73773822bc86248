//! CreatePartitions: decided by the controller.

use std::{collections::HashSet, sync::Arc, time::Duration};

use whimbrel_rpc::controller::MorePartitions;
use whimbrel_wire::{
    ErrorCode,
    messages::create_partitions::{
        CreatePartitionsTopic, CreatePartitionsTopicResult, Request, Response,
    },
};

use super::create_topics::{at_home, code_of};
use crate::{
    broker::Broker,
    quotas::{Account, Kind},
};

/// Longest wait for the partitions to be served here.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// First version that knows THROTTLING_QUOTA_EXCEEDED (KIP-599).
const STRICT: i16 = 3;

pub async fn handle(
    broker: &Arc<Broker>,
    account: &Account,
    request: Request,
    version: i16,
) -> Response {
    let wait =
        Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0)).min(LONGEST_WAIT);
    let (mut results, mut newest, mut seen) =
        (Vec::with_capacity(request.topics.len()), 0, HashSet::new());
    for topic in request.topics {
        let throttled = version >= STRICT && !account.owes(Kind::Mutation).is_zero();
        let done = if throttled {
            let why = "too many partitions were created and deleted lately".to_owned();
            Err((ErrorCode::THROTTLING_QUOTA_EXCEEDED, why))
        } else if seen.insert(topic.name.clone()) {
            if !request.validate_only {
                account.charge(Kind::Mutation, added(broker, &topic));
            }
            grow(broker, &topic, request.validate_only).await
        } else {
            Err((ErrorCode::INVALID_REQUEST, "named twice".to_owned()))
        };
        let name = topic.name;
        results.push(match done {
            Ok(version) => {
                newest = version.max(newest);
                CreatePartitionsTopicResult {
                    name,
                    ..CreatePartitionsTopicResult::default()
                }
            }
            Err((error_code, why)) => CreatePartitionsTopicResult {
                name,
                error_code,
                error_message: Some(why),
            },
        });
    }
    if newest > 0 {
        broker.until_applied(newest, wait).await;
    }
    Response {
        results,
        ..Response::default()
    }
}

/// Partitions that the topic is to have more.
fn added(broker: &Broker, topic: &CreatePartitionsTopic) -> f64 {
    let now = broker
        .catalog()
        .topic(&topic.name)
        .map_or(0, |t| t.partitions.len());
    (f64::from(topic.count) - now as f64).max(1.0)
}

async fn grow(
    broker: &Broker,
    topic: &CreatePartitionsTopic,
    validate_only: bool,
) -> Result<u64, (ErrorCode, String)> {
    let lists = topic.assignments.iter().flatten();
    let view = &broker.catalog().view;
    let known = view.topics.get(&topic.name);
    let group = known.and_then(|topic| view.group_of(topic));
    let more = MorePartitions {
        name: topic.name.clone(),
        total: topic.count,
        validate_only,
        copies: lists
            .map(|list| at_home(view, group, &list.broker_ids))
            .collect(),
    };
    let done = broker.controller.create_partitions(more).await;
    done.map(|done| done.version)
        .map_err(|error| code_of(&error))
}
