//! DeleteTopics: decided by the controller, in all regions at once.

use std::{sync::Arc, time::Duration};

use whimbrel_wire::{
    ErrorCode,
    messages::delete_topics::{DeletableTopicResult, DeleteTopicState, Request, Response},
};

use super::create_topics::code_of;
use crate::{
    broker::Broker,
    quotas::{Account, Kind},
};

/// Longest wait for the deletion to show here.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// First version that knows THROTTLING_QUOTA_EXCEEDED (KIP-599).
const STRICT: i16 = 5;

pub async fn handle(
    broker: &Arc<Broker>,
    account: &Account,
    request: Request,
    version: i16,
) -> Response {
    let throttled = version >= STRICT && !account.owes(Kind::Mutation).is_zero();
    let named = request
        .topic_names
        .into_iter()
        .map(|name| DeleteTopicState {
            name: Some(name),
            ..DeleteTopicState::default()
        });
    let wait =
        Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0)).min(LONGEST_WAIT);
    let (mut responses, mut newest, mut deleted) = (Vec::new(), 0, Vec::new());
    for topic in request.topics.into_iter().chain(named) {
        let done = if throttled {
            let why = "too many partitions were created and deleted lately".to_owned();
            Err((ErrorCode::THROTTLING_QUOTA_EXCEEDED, why))
        } else {
            delete(broker, account, &topic).await
        };
        match done {
            Ok((name, version)) => {
                newest = version.max(newest);
                deleted.push(name.clone());
                responses.push(DeletableTopicResult {
                    name: Some(name),
                    topic_id: topic.topic_id,
                    ..DeletableTopicResult::default()
                });
            }
            Err((error_code, why)) => responses.push(DeletableTopicResult {
                name: topic.name,
                topic_id: topic.topic_id,
                error_code,
                error_message: Some(why),
            }),
        }
    }
    if newest > 0 {
        broker.until_applied(newest, wait).await;
        broker.coordination.topics_deleted(&deleted);
    }
    Response {
        responses,
        ..Response::default()
    }
}

async fn delete(
    broker: &Broker,
    account: &Account,
    asked: &DeleteTopicState,
) -> Result<(String, u64), (ErrorCode, String)> {
    let catalog = broker.catalog();
    let topic = match &asked.name {
        Some(name) => catalog
            .topic(name)
            .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        None => catalog
            .topic_by_id(asked.topic_id)
            .ok_or(ErrorCode::UNKNOWN_TOPIC_ID),
    };
    let topic = topic.map_err(|code| (code, "there is no such topic".to_owned()))?;
    if topic.internal {
        return Err((
            ErrorCode::INVALID_REQUEST,
            "an internal topic stays".to_owned(),
        ));
    }
    account.charge(Kind::Mutation, topic.partitions.len() as f64);
    let done = broker
        .controller
        .delete_topic(&topic.name)
        .await
        .map_err(|error| code_of(&error))?;
    Ok((topic.name.clone(), done.version))
}
