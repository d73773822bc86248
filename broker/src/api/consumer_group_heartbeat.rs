//! ConsumerGroupHeartbeat: a member of the consumer protocol says what it is and has, and hears what it is to have.

use whimbrel_wire::{
    ErrorCode,
    messages::consumer_group_heartbeat::{
        Assignment as WireAssignment, Request, Response, TopicPartitions,
    },
};

use crate::group::{
    ClientInfo, Coordinator,
    consumer::{Assignment, Heartbeat, Refusal, Reply, Sight, assignor::Assignor},
};

/// From here on a member makes its own id (KIP-1082).
const FIRST_VERSION_WITH_OWN_ID: i16 = 1;
/// A member leaves, or a static one leaves for a while.
const LEAVES: i32 = -1;
const GOES_AWAY: i32 = -2;

/// Answers when what the answer says is durable. `sight` bounds what an expression stands for.
pub async fn handle(
    coordinator: &Coordinator,
    request: Request,
    version: i16,
    client: &ClientInfo,
    sight: Sight,
) -> Response {
    let group_id = request.group_id.clone();
    let outcome = match heartbeat(request, version, client) {
        Ok(heartbeat) => {
            let heartbeat = Heartbeat { sight, ..heartbeat };
            coordinator.consumer_heartbeat(&group_id, heartbeat).await
        }
        Err(refusal) => Err(refusal),
    };
    match outcome {
        Ok(reply) => response(reply),
        Err(refusal) => Response {
            error_code: refusal.code,
            error_message: refusal.message,
            ..Response::default()
        },
    }
}

fn invalid(message: &str) -> Refusal {
    Refusal {
        code: ErrorCode::INVALID_REQUEST,
        message: Some(message.to_owned()),
    }
}

/// The request, if it makes sense by itself.
fn heartbeat(request: Request, version: i16, client: &ClientInfo) -> Result<Heartbeat, Refusal> {
    let joins = request.member_epoch == 0;
    let empty = |text: &Option<String>| text.as_deref() == Some("");
    if request.group_id.trim().is_empty() {
        return Err(invalid("GroupId can't be empty."));
    }
    if empty(&request.instance_id) {
        return Err(invalid("InstanceId can't be empty."));
    }
    if empty(&request.rack_id) {
        return Err(invalid("RackId can't be empty."));
    }
    if request.member_id.is_empty() && (version >= FIRST_VERSION_WITH_OWN_ID || !joins) {
        return Err(invalid("MemberId can't be empty."));
    }
    if request.member_epoch < GOES_AWAY {
        return Err(invalid("MemberEpoch is invalid."));
    }
    if request.member_epoch == GOES_AWAY && request.instance_id.is_none() {
        return Err(invalid("InstanceId can't be null."));
    }
    if joins {
        check_join(&request)?;
    }
    if request.member_epoch > LEAVES
        && let Some(name) = &request.server_assignor
        && Assignor::named(name).is_none()
    {
        let names = Assignor::ALL.map(Assignor::name).join(", ");
        return Err(Refusal {
            code: ErrorCode::UNSUPPORTED_ASSIGNOR,
            message: Some(format!(
                "ServerAssignor {name} is not supported. Supported assignors: {names}."
            )),
        });
    }
    let member_id = if request.member_id.is_empty() {
        whimbrel_runtime::random::uuid().to_string()
    } else {
        request.member_id
    };
    Ok(Heartbeat {
        member_id,
        epoch: request.member_epoch,
        instance_id: request.instance_id,
        rack_id: request.rack_id,
        client_id: client.client_id.clone(),
        client_host: client.host.clone(),
        rebalance_timeout_ms: Some(request.rebalance_timeout_ms).filter(|ms| *ms != -1),
        topics: request.subscribed_topic_names,
        regex: request.subscribed_topic_regex,
        assignor: request.server_assignor,
        owned: request.topic_partitions.map(owned),
        classic: None,
        sight: Sight::default(),
    })
}

fn check_join(request: &Request) -> Result<(), Refusal> {
    if request.rebalance_timeout_ms == -1 {
        return Err(invalid(
            "RebalanceTimeoutMs must be provided in first request.",
        ));
    }
    if request
        .topic_partitions
        .as_ref()
        .is_none_or(|partitions| !partitions.is_empty())
    {
        return Err(invalid("TopicPartitions must be empty when (re-)joining."));
    }
    if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
        return Err(invalid(
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
        ));
    }
    Ok(())
}

fn owned(topics: Vec<TopicPartitions>) -> Assignment {
    let places = topics.into_iter().flat_map(|topic| {
        let id = topic.topic_id;
        topic.partitions.into_iter().map(move |p| (id, p))
    });
    places.collect()
}

fn response(reply: Reply) -> Response {
    let assignment = reply.assignment.map(|assignment| WireAssignment {
        topic_partitions: assignment
            .topics()
            .map(|(topic_id, partitions)| TopicPartitions {
                topic_id,
                partitions: partitions.iter().copied().collect(),
            })
            .collect(),
    });
    Response {
        member_id: Some(reply.member_id),
        member_epoch: reply.epoch,
        heartbeat_interval_ms: reply.heartbeat_interval_ms,
        assignment,
        ..Response::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::testing::{Fixture, TOPIC, TOPIC_ID};

    fn joining(member_id: &str) -> Request {
        Request {
            group_id: "g".into(),
            member_id: member_id.into(),
            rebalance_timeout_ms: 60_000,
            subscribed_topic_names: Some(vec![TOPIC.into()]),
            topic_partitions: Some(Vec::new()),
            ..Request::default()
        }
    }

    async fn send(fixture: &Fixture, request: Request, version: i16) -> Response {
        handle(
            &fixture.coordinator,
            request,
            version,
            &ClientInfo::default(),
            Sight::default(),
        )
        .await
    }

    #[tokio::test]
    async fn a_first_member_gets_all_partitions_and_keeps_them_over_a_move_of_the_coordinator() {
        let fixture = Fixture::leading().await;
        let joined = send(&fixture, joining("m"), 1).await;
        assert_eq!(
            (joined.error_code, joined.member_epoch),
            (ErrorCode::NONE, 1)
        );
        let given = joined.assignment.unwrap().topic_partitions;
        assert_eq!(
            (given[0].topic_id, given[0].partitions.as_slice()),
            (TOPIC_ID, &[0, 1, 2][..])
        );
        let again = Fixture::on(std::sync::Arc::clone(&fixture.log));
        again.lead("g", 2).await;
        let beat = Request {
            group_id: "g".into(),
            member_id: "m".into(),
            member_epoch: 1,
            ..Request::default()
        };
        let kept = send(&again, beat, 1).await;
        assert_eq!(
            (kept.error_code, kept.member_epoch, kept.assignment),
            (ErrorCode::NONE, 1, None)
        );
    }

    #[tokio::test]
    async fn version_0_hands_out_an_id_and_version_1_wants_one() {
        let fixture = Fixture::leading().await;
        let old = send(&fixture, joining(""), 0).await;
        assert!(old.member_id.is_some_and(|id| !id.is_empty()));
        assert_eq!(
            send(&fixture, joining(""), 1).await.error_code,
            ErrorCode::INVALID_REQUEST
        );
    }

    #[tokio::test]
    async fn what_makes_no_sense_is_refused_with_a_reason() {
        let fixture = Fixture::leading().await;
        let code = async |request: Request| {
            let refused = send(&fixture, request, 1).await;
            assert!(refused.error_message.is_some());
            refused.error_code
        };
        let assignor = Request {
            server_assignor: Some("sticky".into()),
            ..joining("m")
        };
        assert_eq!(code(assignor).await, ErrorCode::UNSUPPORTED_ASSIGNOR);
        let regex = Request {
            subscribed_topic_regex: Some("a(".into()),
            ..joining("m")
        };
        assert_eq!(code(regex).await, ErrorCode::INVALID_REGULAR_EXPRESSION);
        let subscription = Request {
            subscribed_topic_names: None,
            ..joining("m")
        };
        assert_eq!(code(subscription).await, ErrorCode::INVALID_REQUEST);
        let away = Request {
            member_epoch: GOES_AWAY,
            ..joining("m")
        };
        assert_eq!(code(away).await, ErrorCode::INVALID_REQUEST);
    }

    #[tokio::test]
    async fn a_group_without_members_passes_to_the_other_protocol_with_its_positions() {
        let fixture = Fixture::leading().await;
        fixture.member("g").await;
        fixture.leave_all("g");
        fixture.commit("g", 0, 7).await;
        assert_eq!(
            send(&fixture, joining("m"), 1).await.error_code,
            ErrorCode::NONE
        );
        assert_eq!(fixture.position("g", 0), Ok(7));
        let leave = Request {
            member_epoch: LEAVES,
            ..joining("m")
        };
        assert_eq!(send(&fixture, leave, 1).await.error_code, ErrorCode::NONE);
        fixture.member("g").await;
        assert_eq!(fixture.position("g", 0), Ok(7));
    }

    #[tokio::test]
    async fn a_members_positions_are_bound_to_its_epoch() {
        let fixture = Fixture::leading().await;
        send(&fixture, joining("m"), 1).await;
        assert_eq!(fixture.commit_as("g", "m", 1, 0, 5).await, Ok(()));
        assert_eq!(
            fixture.commit_as("g", "m", 0, 0, 6).await,
            Err(ErrorCode::STALE_MEMBER_EPOCH)
        );
        assert_eq!(
            fixture.commit_as("g", "n", 1, 0, 6).await,
            Err(ErrorCode::UNKNOWN_MEMBER_ID)
        );
        assert_eq!(
            fixture.coordinator.check_fetch("g", Some("m"), 0),
            Err(ErrorCode::STALE_MEMBER_EPOCH)
        );
        assert_eq!(fixture.coordinator.check_fetch("g", None, -1), Ok(()));
        assert_eq!(fixture.position("g", 0), Ok(5));
    }
}
