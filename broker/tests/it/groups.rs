//! Consumer groups of the classic protocol, request by request.

use whimbrel_broker::{Limits, Options};
use whimbrel_runtime::unit::Span;
use whimbrel_wire::{
    ErrorCode,
    messages::{join_group, leave_group, offset_commit, offset_delete, offset_fetch, sync_group},
};

use crate::{
    client::Client,
    fleet::{Broker, EAST, Fleet, eventually},
    patient::Patient,
};

const GROUP: &str = "app";
/// What a consumer of the topic `t` says.
const SUBSCRIPTION: &[u8] = b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff";

async fn started() -> (Fleet, Broker) {
    let fleet = Fleet::start().await;
    let limits = Limits {
        group_initial_rebalance_delay: Span::millis(0),
        ..Limits::default()
    };
    let options = Options {
        limits,
        ..fleet.options(1, EAST)
    };
    let broker = fleet.try_broker(options).await.unwrap();
    let mut client = Client::connect(broker.handle.kafka).await;
    for topic in ["t", "u"] {
        client.create_topic(topic, 1, &[]).await;
    }
    (fleet, broker)
}

/// The only member of a stable group, and its generation.
async fn stable(client: &mut Patient) -> (String, i32) {
    let join = join_group::Request {
        group_id: GROUP.into(),
        session_timeout_ms: 300_000,
        rebalance_timeout_ms: 300_000,
        protocol_type: "consumer".into(),
        protocols: vec![join_group::JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: SUBSCRIPTION.into(),
        }],
        ..join_group::Request::default()
    };
    eventually("a stable group", async || {
        let joined = client.settled(3, &join, |answer| answer.error_code).await;
        assert_eq!(joined.error_code, ErrorCode::NONE);
        let sync = sync_group::Request {
            group_id: GROUP.into(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            ..sync_group::Request::default()
        };
        let synced = client.settled(3, &sync, |answer| answer.error_code).await;
        // Not so where the coordinator had to read its log again meanwhile.
        let member = (joined.member_id, joined.generation_id);
        synced.error_code.is_none().then_some(member)
    })
    .await
}

async fn commit(client: &mut Patient, (member, generation): &(String, i32), topic: &str) {
    let request = offset_commit::Request {
        group_id: GROUP.into(),
        generation_id_or_member_epoch: *generation,
        member_id: member.clone(),
        topics: vec![offset_commit::OffsetCommitRequestTopic {
            name: topic.into(),
            partitions: vec![offset_commit::OffsetCommitRequestPartition {
                committed_offset: 5,
                ..offset_commit::OffsetCommitRequestPartition::default()
            }],
            ..offset_commit::OffsetCommitRequestTopic::default()
        }],
        ..offset_commit::Request::default()
    };
    let code = |answer: &offset_commit::Response| answer.topics[0].partitions[0].error_code;
    let answer = client.settled(7, &request, code).await;
    assert_eq!(code(&answer), ErrorCode::NONE);
}

/// The committed position of partition 0, -1 for none.
async fn position(client: &mut Patient, topic: &str) -> i64 {
    let request = offset_fetch::Request {
        group_id: GROUP.into(),
        topics: Some(vec![offset_fetch::OffsetFetchRequestTopic {
            name: topic.into(),
            partition_indexes: vec![0],
        }]),
        ..offset_fetch::Request::default()
    };
    let answer = client
        .settled(5, &request, |answer| answer.error_code)
        .await;
    answer.topics[0].partitions[0].committed_offset
}

/// One code for partition 0 of each topic.
async fn delete(
    client: &mut Patient,
    group: &str,
    topics: &[&str],
) -> Result<Vec<ErrorCode>, ErrorCode> {
    let topics = topics
        .iter()
        .map(|name| offset_delete::OffsetDeleteRequestTopic {
            name: (*name).into(),
            partitions: vec![offset_delete::OffsetDeleteRequestPartition { partition_index: 0 }],
        });
    let request = offset_delete::Request {
        group_id: group.into(),
        topics: topics.collect(),
    };
    let answer = client
        .settled(0, &request, |answer| answer.error_code)
        .await;
    if answer.error_code.is_error() {
        return Err(answer.error_code);
    }
    let topics = answer.topics.iter();
    Ok(topics.map(|topic| topic.partitions[0].error_code).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_are_deleted_but_not_of_topics_that_a_member_reads() {
    let (_fleet, broker) = started().await;
    let mut client = Patient::new(broker.handle.kafka);
    let member = stable(&mut client).await;
    for topic in ["t", "u"] {
        commit(&mut client, &member, topic).await;
    }
    let read = ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC;
    let codes = delete(&mut client, GROUP, &["t", "u"]).await;
    assert_eq!(codes, Ok(vec![read, ErrorCode::NONE]));
    assert_eq!(position(&mut client, "t").await, 5);
    assert_eq!(position(&mut client, "u").await, -1);

    let leave = leave_group::Request {
        group_id: GROUP.into(),
        members: vec![leave_group::MemberIdentity {
            member_id: member.0,
            ..leave_group::MemberIdentity::default()
        }],
        ..leave_group::Request::default()
    };
    let left = client.settled(3, &leave, |answer| answer.error_code).await;
    assert_eq!(left.members[0].error_code, ErrorCode::NONE);
    // Nobody reads it any more; a topic that is not there has no positions.
    let codes = delete(&mut client, GROUP, &["t", "gone"]).await;
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(codes, Ok(vec![ErrorCode::NONE, unknown]));
    assert_eq!(position(&mut client, "t").await, -1);
    let nobody = delete(&mut client, "nobody", &["t"]).await;
    assert_eq!(nobody, Err(ErrorCode::GROUP_ID_NOT_FOUND));
    broker.stop().await;
}
