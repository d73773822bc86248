//! Groups, positions and transactions that ask for too much, or for what is over.

use whimbrel_broker::{Limits, Options};
use whimbrel_runtime::unit::Span;
use whimbrel_wire::{
    ErrorCode, ProduceRules,
    messages::{
        end_txn, find_coordinator, init_producer_id, join_group, offset_commit, offset_fetch,
        sync_group,
    },
};

use crate::{
    client::{Client, batch, fetch_request, produce_request},
    fleet::{Broker, EAST, Fleet, eventually, unoffended},
    patient::Patient,
};

async fn started() -> (Fleet, Broker, Client) {
    let fleet = Fleet::start().await;
    let limits = Limits {
        group_initial_rebalance_delay: Span::millis(0),
        group_max_size: 3,
        ..Limits::default()
    };
    let options = Options {
        limits: unoffended(limits),
        ..fleet.options(1, EAST)
    };
    let broker = fleet.try_broker(options).await.unwrap();
    let mut client = Client::connect(broker.handle.kafka).await;
    client.create_topic("t", 1, &[]).await;
    client.produce_ok("t", 0, batch(&["before"])).await;
    (fleet, broker, client)
}

fn join(group: &str, metadata: usize) -> join_group::Request {
    join_group::Request {
        group_id: group.into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![join_group::JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: vec![0; metadata].into(),
        }],
        ..join_group::Request::default()
    }
}

/// Waits until there is a coordinator of transactions.
async fn with_transactions(client: &mut Client) {
    eventually("a coordinator", async || {
        let request = find_coordinator::Request {
            key: "x".into(),
            key_type: 1,
            ..find_coordinator::Request::default()
        };
        let answer = client.call(2, request).await;
        answer.error_code.is_none().then_some(())
    })
    .await;
}

async fn settled(
    broker: &Broker,
    version: i16,
    request: join_group::Request,
) -> join_group::Response {
    let mut client = Patient::new(broker.handle.kafka);
    client
        .settled(version, &request, |answer| answer.error_code)
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_takes_no_more_members_than_it_may_have() {
    let (_fleet, broker, _client) = started().await;
    let mut refused = 0;
    for _ in 0..10 {
        // Ids are handed out up to the size, and no further.
        match settled(&broker, 5, join("g", 10)).await.error_code {
            ErrorCode::MEMBER_ID_REQUIRED => {}
            ErrorCode::GROUP_MAX_SIZE_REACHED => refused += 1,
            other => assert_eq!(other, ErrorCode::NONE),
        }
    }
    assert_eq!(refused, 7);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_members_say_of_themselves_is_bounded() {
    let (_fleet, broker, mut client) = started().await;
    let large = settled(&broker, 3, join("g", 2 << 20)).await;
    assert_eq!(large.error_code, ErrorCode::INVALID_REQUEST);
    let mut many = join("g", 10);
    many.protocols = vec![many.protocols[0].clone(); 1_000];
    let many = settled(&broker, 3, many).await;
    assert_eq!(many.error_code, ErrorCode::INVALID_REQUEST);
    let mut wordy = join("g", 10);
    wordy.protocol_type = "x".repeat(30_000);
    wordy.group_instance_id = Some("x".repeat(30_000));
    let wordy = settled(&broker, 9, wordy).await;
    assert_eq!(wordy.error_code, ErrorCode::INVALID_REQUEST);
    let long = settled(&broker, 9, join(&"g".repeat(30_000), 10)).await;
    assert_eq!(long.error_code, ErrorCode::INVALID_GROUP_ID);

    let member = settled(&broker, 3, join("g", 10)).await;
    assert_eq!(member.error_code, ErrorCode::NONE);
    let assignment = sync_group::SyncGroupRequestAssignment {
        member_id: member.member_id.clone(),
        assignment: vec![0; 2 << 20].into(),
    };
    let sync = sync_group::Request {
        group_id: "g".into(),
        generation_id: member.generation_id,
        member_id: member.member_id,
        assignments: vec![assignment],
        ..sync_group::Request::default()
    };
    let answer = client.call(3, sync).await;
    assert!(answer.error_code.is_error(), "an assignment of 2 MiB");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_that_cannot_be_are_refused_and_those_of_the_future_stand() {
    let (_fleet, broker, mut client) = started().await;
    settled(&broker, 5, join("other", 1)).await;
    let commit = |offset, metadata: &str| {
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
        offset_commit::Request {
            group_id: "g".into(),
            topics: vec![topic],
            ..offset_commit::Request::default()
        }
    };
    let mut code = async |request: offset_commit::Request| {
        eventually("a coordinator", async || {
            let answer = client.call(7, request.clone()).await;
            let code = answer.topics[0].partitions[0].error_code;
            (!code.is_retryable()).then_some(code)
        })
        .await
    };
    assert_eq!(code(commit(1_000_000, "")).await, ErrorCode::NONE);
    for offset in [-7, i64::MIN] {
        assert!(code(commit(offset, "")).await.is_error(), "{offset}");
    }
    let long = "m".repeat(5_000);
    assert_eq!(
        code(commit(5, &long)).await,
        ErrorCode::OFFSET_METADATA_TOO_LARGE
    );
    let fetch = offset_fetch::Request {
        group_id: "g".into(),
        topics: None,
        ..offset_fetch::Request::default()
    };
    let found = client.call(5, fetch).await;
    assert_eq!(found.topics[0].partitions[0].committed_offset, 1_000_000);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactional_ids_and_timeouts_out_of_range_get_their_codes() {
    let (_fleet, broker, mut client) = started().await;
    with_transactions(&mut client).await;
    let mut init = async |id: &str, transaction_timeout_ms| {
        let request = init_producer_id::Request {
            transactional_id: Some(id.into()),
            transaction_timeout_ms,
            ..init_producer_id::Request::default()
        };
        eventually("a coordinator", async || {
            let code = client.call(4, request.clone()).await.error_code;
            (!code.is_retryable()).then_some(code)
        })
        .await
    };
    assert_eq!(init("x", 60_000).await, ErrorCode::NONE);
    for timeout_ms in [15 * 60_000 + 1, 0, -1, i32::MIN, i32::MAX] {
        assert_eq!(
            init("x", timeout_ms).await,
            ErrorCode::INVALID_TRANSACTION_TIMEOUT,
            "{timeout_ms}"
        );
    }
    assert_eq!(init("", 60_000).await, ErrorCode::INVALID_REQUEST);
    assert_eq!(
        init(&"x".repeat(30_000), 60_000).await,
        ErrorCode::INVALID_REQUEST
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn producer_ids_by_the_thousand_are_all_different() {
    let (_fleet, broker, mut client) = started().await;
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..5_000 {
        let request = init_producer_id::Request {
            transactional_id: None,
            ..init_producer_id::Request::default()
        };
        let answer = client.call(4, request).await;
        assert_eq!(answer.error_code, ErrorCode::NONE);
        assert!(ids.insert(answer.producer_id), "{}", answer.producer_id);
    }
    client.produce_ok("t", 0, batch(&["after"])).await;
    broker.stop().await;
}

/// A network that held an EndTxn back delivers it when the next transaction has begun.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_transaction_that_comes_again_does_not_end_the_next() {
    let (_fleet, broker, mut client) = started().await;
    with_transactions(&mut client).await;
    let init = init_producer_id::Request {
        transactional_id: Some("x".into()),
        transaction_timeout_ms: 60_000,
        ..init_producer_id::Request::default()
    };
    let producer = eventually("a coordinator", async || {
        let answer = client.call(4, init.clone()).await;
        answer.error_code.is_none().then_some(answer)
    })
    .await;
    let (id, epoch) = (producer.producer_id, producer.producer_epoch);
    let transactional = |epoch, sequence, value: &str| {
        let mut builder = whimbrel_wire::BatchBuilder::new(0)
            .producer(id, epoch, sequence)
            .transactional(true);
        let now_ms = whimbrel_runtime::Clock::system().wall_ms();
        builder
            .add(now_ms, None, Some(value.as_bytes()), &[])
            .unwrap();
        let records = builder.finish().unwrap();
        assert!(whimbrel_wire::validate_produce(&records, &ProduceRules::default()).is_ok());
        let mut request = produce_request("t", 0, records, -1);
        request.transactional_id = Some("x".into());
        request
    };
    let produce = async |client: &mut Client, epoch, sequence, value: &str| {
        eventually("the batch", async || {
            let answer = client.call(12, transactional(epoch, sequence, value)).await;
            let code = answer.responses[0].partition_responses[0].error_code;
            assert!(code.is_none() || code.is_retryable(), "{code}");
            code.is_none().then_some(())
        })
        .await;
    };
    let end = |epoch| end_txn::Request {
        transactional_id: "x".into(),
        producer_id: id,
        producer_epoch: epoch,
        committed: true,
    };
    produce(&mut client, epoch, 0, "first").await;
    // Version 5 ends a transaction and hands out the next epoch (KIP-890).
    let ended = eventually("the end", async || {
        let answer = client.call(5, end(epoch)).await;
        answer.error_code.is_none().then_some(answer)
    })
    .await;
    assert_eq!((ended.producer_id, ended.producer_epoch), (id, epoch + 1));
    produce(&mut client, epoch + 1, 0, "second").await;
    let again = client.call(5, end(epoch)).await;
    assert!(
        [
            ErrorCode::PRODUCER_FENCED,
            ErrorCode::INVALID_PRODUCER_EPOCH
        ]
        .contains(&again.error_code),
        "{}",
        again.error_code
    );
    // Still open: what read_committed sees ends below it.
    let mut committed = fetch_request("t", 0, 0, 0);
    committed.isolation_level = 1;
    let read = client.call(11, committed).await;
    let partition = &read.responses[0].partitions[0];
    assert!(partition.last_stable_offset < partition.high_watermark);
    broker.stop().await;
}
