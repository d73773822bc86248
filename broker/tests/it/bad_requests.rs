//! Requests that are well formed and ask for what makes no sense: what each is answered with.

use uuid::Uuid;
use whimbrel_broker::{Limits, Options};
use whimbrel_runtime::unit::Span;
use whimbrel_wire::{
    ErrorCode,
    messages::{create_topics, fetch, find_coordinator, join_group, metadata, offset_commit},
};

use crate::{
    client::{Client, batch, fetch_request},
    fleet::{Broker, EAST, Fleet, eventually, unoffended},
    memory,
};

async fn started() -> (Fleet, Broker, Client) {
    let fleet = Fleet::start().await;
    let limits = Limits {
        group_initial_rebalance_delay: Span::millis(0),
        ..Limits::default()
    };
    let broker = fleet
        .try_broker(Options {
            limits: unoffended(limits),
            ..fleet.options(1, EAST)
        })
        .await
        .unwrap();
    let mut client = Client::connect(broker.handle.kafka).await;
    client.create_topic("t", 1, &[]).await;
    client.produce_ok("t", 0, batch(&["before"])).await;
    (fleet, broker, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_a_hundred_thousand_are_answered_or_closed_and_hold_up_nobody() {
    let (_fleet, broker, mut healthy) = started().await;
    let names = (0..100_000).map(|n| metadata::MetadataRequestTopic {
        name: Some(format!("t{n}")),
        ..metadata::MetadataRequestTopic::default()
    });
    let many_topics = metadata::Request {
        topics: Some(names.collect()),
        ..metadata::Request::default()
    };
    let mut many_partitions = fetch_request("t", 0, 0, 0);
    let one = many_partitions.topics[0].partitions[0].clone();
    many_partitions.topics[0].partitions = (0..100_000)
        .map(|partition| fetch::FetchPartition {
            partition,
            ..one.clone()
        })
        .collect();
    let hostile = async {
        let mut client = Client::connect(broker.handle.kafka).await;
        client.send(12, &many_topics).await;
        let _answered_or_closed = client.frame().await;
        let mut client = Client::connect(broker.handle.kafka).await;
        client.send(11, &many_partitions).await;
        let _answered_or_closed = client.frame().await;
    };
    let served = async {
        for _ in 0..20 {
            healthy.produce_ok("t", 0, batch(&["meanwhile"])).await;
        }
    };
    tokio::join!(hostile, served);
    assert_eq!(healthy.consume("t", 0, 0).await.len(), 21);
    memory::assert_bounded();
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fetches_by_odd_ids_and_limits_get_their_codes() {
    let (_fleet, broker, mut client) = started().await;
    let topic_id = client.metadata("t").await.topics[0].topic_id;
    let mut by_id = fetch_request("", 0, 0, 0);
    by_id.topics[0].topic_id = Uuid::from_u128(7);
    let unknown = client.call(13, by_id.clone()).await;
    assert_eq!(
        unknown.responses[0].partitions[0].error_code,
        ErrorCode::UNKNOWN_TOPIC_ID
    );
    by_id.topics[0].topic_id = topic_id;
    let known = client.call(13, by_id).await;
    assert_eq!(known.responses[0].partitions[0].error_code, ErrorCode::NONE);
    let mut negative = fetch_request("t", 0, 0, i32::MIN);
    (negative.max_bytes, negative.min_bytes) = (i32::MIN, i32::MAX);
    negative.topics[0].partitions[0].partition_max_bytes = i32::MIN;
    let answer = client.call(11, negative).await;
    assert_eq!(
        answer.responses[0].partitions[0].error_code,
        ErrorCode::NONE
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_cannot_be_get_their_codes() {
    let (_fleet, broker, mut client) = started().await;
    let mut create = async |replication_factor: i16, value: &str| {
        let topic = create_topics::CreatableTopic {
            name: "u".into(),
            num_partitions: 1,
            replication_factor,
            configs: vec![create_topics::CreatableTopicConfig {
                name: "retention.ms".into(),
                value: Some(value.into()),
            }],
            ..create_topics::CreatableTopic::default()
        };
        let request = create_topics::Request {
            topics: vec![topic],
            timeout_ms: 10_000,
            ..create_topics::Request::default()
        };
        client.call(7, request).await.topics[0].error_code
    };
    assert_eq!(
        create(0, "1000").await,
        ErrorCode::INVALID_REPLICATION_FACTOR
    );
    assert_eq!(
        create(i16::MAX, "1000").await,
        ErrorCode::INVALID_REPLICATION_FACTOR
    );
    assert_eq!(
        create(i16::MIN, "1000").await,
        ErrorCode::INVALID_REPLICATION_FACTOR
    );
    for value in [
        "http://169.254.169.254/",
        "/etc/passwd",
        &"9".repeat(1 << 20),
    ] {
        assert_eq!(create(1, value).await, ErrorCode::INVALID_CONFIG);
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_that_cannot_be_get_their_codes() {
    let (_fleet, broker, mut client) = started().await;
    eventually("a coordinator", async || {
        let request = find_coordinator::Request {
            key: "g".into(),
            ..find_coordinator::Request::default()
        };
        (client.call(2, request).await.error_code == ErrorCode::NONE).then_some(())
    })
    .await;
    let join = |session_timeout_ms, group: &str| join_group::Request {
        group_id: group.into(),
        session_timeout_ms,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![join_group::JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: "m".into(),
        }],
        ..join_group::Request::default()
    };
    for timeout in [0, -1, i32::MIN, i32::MAX] {
        eventually("its code", async || {
            let code = client.call(5, join(timeout, "g")).await.error_code;
            assert!(
                code.is_retryable() || code == ErrorCode::INVALID_SESSION_TIMEOUT,
                "{timeout}: {code}"
            );
            (code == ErrorCode::INVALID_SESSION_TIMEOUT).then_some(())
        })
        .await;
    }
    assert_eq!(
        client.call(5, join(10_000, "")).await.error_code,
        ErrorCode::INVALID_GROUP_ID
    );
    let mut commit = async |offset, metadata: &str| {
        let partition = offset_commit::OffsetCommitRequestPartition {
            partition_index: 0,
            committed_offset: offset,
            committed_metadata: Some(metadata.into()),
            ..offset_commit::OffsetCommitRequestPartition::default()
        };
        let topic = offset_commit::OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![partition],
            ..offset_commit::OffsetCommitRequestTopic::default()
        };
        let request = offset_commit::Request {
            group_id: "g".into(),
            topics: vec![topic],
            ..offset_commit::Request::default()
        };
        client.call(7, request).await.topics[0].partitions[0].error_code
    };
    assert_eq!(commit(1, "").await, ErrorCode::NONE);
    assert_eq!(
        commit(1, &"m".repeat(5_000)).await,
        ErrorCode::OFFSET_METADATA_TOO_LARGE
    );
    assert!(commit(-7, "").await.is_error(), "an offset of -7");
    memory::assert_bounded();
    broker.stop().await;
}
