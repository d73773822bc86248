use std::time::Duration;

use whimbrel_broker::Options;
use whimbrel_fleet::HostPort;
use whimbrel_wire::{
    ErrorCode,
    messages::{api_versions, fetch, init_producer_id, offset_for_leader_epoch as epochs, produce},
};

use crate::{
    client::{Client, batch, fetch_request, idempotent, produce_request},
    fleet::{EAST, Fleet, WEST, eventually},
};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill_and_is_read_in_the_next_epoch() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    assert_eq!(client.create_topic("t", 1, &[]).await, ErrorCode::NONE);
    for n in 0..20 {
        assert_eq!(
            client.produce_ok("t", 0, batch(&[&format!("v{n}")])).await,
            n
        );
    }
    let before = broker.partition("t", 0).await.unwrap()["leader_epoch"]
        .as_i64()
        .unwrap();
    broker.kill().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    let led = eventually("leadership", async || {
        broker
            .partition("t", 0)
            .await
            .filter(|p| p["role"] == "leader" && p["high_watermark"] == 20)
    })
    .await;
    assert!(led["leader_epoch"].as_i64().unwrap() > before);
    assert_eq!(
        client.consume("t", 0, 0).await,
        (0..20).map(|n| format!("v{n}")).collect::<Vec<_>>()
    );
    assert_eq!(client.produce_ok("t", 0, batch(&["after"])).await, 20);
    let mut stale = fetch_request("t", 0, 0, 0);
    stale.topics[0].partitions[0].current_leader_epoch = i32::try_from(before).unwrap();
    assert_eq!(
        client.call(11, stale).await.responses[0].partitions[0].error_code,
        ErrorCode::FENCED_LEADER_EPOCH
    );
    // Where the first epoch ended is answered from the log.
    let asked = epochs::OffsetForLeaderPartition {
        leader_epoch: i32::try_from(before).unwrap(),
        ..epochs::OffsetForLeaderPartition::default()
    };
    let asked = epochs::OffsetForLeaderTopic {
        topic: "t".into(),
        partitions: vec![asked],
    };
    let told = client
        .call(
            4,
            epochs::Request {
                topics: vec![asked],
                ..epochs::Request::default()
            },
        )
        .await;
    assert_eq!(told.topics[0].partitions[0].end_offset, 20);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order_and_a_parked_fetch_is_woken() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    client.create_topic("t", 1, &[]).await;
    client.produce_ok("t", 0, batch(&["first"])).await;
    let mut sent = Vec::new();
    for _ in 0..50 {
        sent.push(
            client
                .send(9, &produce_request("t", 0, batch(&["x"]), -1))
                .await,
        );
    }
    for (n, id) in sent.into_iter().enumerate() {
        let (answered, response) = client.receive::<produce::Request>(9).await;
        assert_eq!(answered, id);
        assert_eq!(
            response.responses[0].partition_responses[0].base_offset,
            1 + n as i64
        );
    }
    let mut parked = Client::connect(broker.handle.kafka).await;
    parked.send(11, &fetch_request("t", 0, 51, 60_000)).await;
    client.produce_ok("t", 0, batch(&["wake"])).await;
    let (_, woken) = tokio::time::timeout(
        Duration::from_secs(10),
        parked.receive::<fetch::Request>(11),
    )
    .await
    .unwrap();
    assert!(
        !woken.responses[0].partitions[0]
            .records
            .as_ref()
            .unwrap()
            .is_empty()
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idempotent_producers_are_numbered_and_their_duplicates_found() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    client.create_topic("t", 1, &[]).await;
    let request = || init_producer_id::Request {
        transactional_id: None,
        ..init_producer_id::Request::default()
    };
    let first = client.call(4, request()).await;
    let second = client.call(4, request()).await;
    assert_eq!(
        (first.error_code, second.producer_id),
        (ErrorCode::NONE, first.producer_id + 1)
    );
    let id = first.producer_id;
    assert_eq!(
        client
            .produce_ok("t", 0, idempotent(id, 0, &["a", "b"]))
            .await,
        0
    );
    assert_eq!(
        client.produce_ok("t", 0, idempotent(id, 2, &["c"])).await,
        2
    );
    assert_eq!(
        client
            .produce_ok("t", 0, idempotent(id, 0, &["a", "b"]))
            .await,
        0,
        "a duplicate has its first offset"
    );
    assert_eq!(
        client
            .produce("t", 0, idempotent(id, 9, &["d"]))
            .await
            .error_code,
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
    );
    assert_eq!(client.consume("t", 0, 0).await, ["a", "b", "c"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_listed_and_log_starts_moved() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    client.create_topic("t", 1, &[]).await;
    for _ in 0..5 {
        client.produce_ok("t", 0, batch(&["x", "y"])).await;
    }
    let mut at = async |timestamp| client.offset_at("t", 0, timestamp).await.offset;
    assert_eq!(
        (
            at(-1).await,
            at(-2).await,
            at(-4).await,
            at(-5).await,
            at(-6).await
        ),
        (10, 0, 0, -1, 0)
    );
    assert_eq!(
        (at(1_700_000_000_000).await, at(4_000_000_000_000).await),
        (0, -1)
    );
    use whimbrel_wire::messages::delete_records as delete;
    let partition = delete::DeleteRecordsPartition {
        partition_index: 0,
        offset: 4,
    };
    let topic = delete::DeleteRecordsTopic {
        name: "t".into(),
        partitions: vec![partition],
    };
    let deleted = client
        .call(
            2,
            delete::Request {
                topics: vec![topic],
                timeout_ms: 1_000,
            },
        )
        .await;
    assert_eq!(deleted.topics[0].partitions[0].low_watermark, 4);
    assert_eq!(client.offset_at("t", 0, -2).await.offset, 4);
    assert_eq!(
        client.fetch("t", 0, 3, 0).await.error_code,
        ErrorCode::OFFSET_OUT_OF_RANGE
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_at_the_wrong_broker_is_told_where_the_leader_is() {
    let fleet = Fleet::start().await;
    let east = fleet.broker(1, EAST).await;
    let west = fleet.broker(2, WEST).await;
    let mut client = Client::connect(east.handle.kafka).await;
    client.create_topic("t", 1, &[]).await;
    client.produce_ok("t", 0, batch(&["x"])).await;
    eventually("a follower", async || west.partition("t", 0).await).await;
    let mut lost = Client::connect(west.handle.kafka).await;
    let answer = lost
        .call(10, produce_request("t", 0, batch(&["y"]), -1))
        .await;
    let partition = &answer.responses[0].partition_responses[0];
    assert_eq!(
        (partition.error_code, partition.current_leader.leader_id),
        (ErrorCode::NOT_LEADER_OR_FOLLOWER, 1)
    );
    assert_eq!(
        answer.node_endpoints[0].port,
        i32::from(east.handle.kafka.port())
    );
    let metadata = lost.metadata("t").await;
    assert_eq!(metadata.brokers.len(), 2);
    assert_eq!(metadata.topics[0].partitions[0].leader_id, 1);
    let apis = lost
        .call(
            3,
            api_versions::Request {
                client_software_name: "t".into(),
                client_software_version: "1".into(),
            },
        )
        .await;
    assert!(apis.api_keys.len() > 20);
    east.stop().await;
    west.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_cannot_be_right_is_refused_with_a_code() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let code = async |options: Options| fleet.try_broker(options).await.err().map(|e| e.code());
    let taken = HostPort::new("127.0.0.1", broker.handle.kafka.port());
    assert_eq!(
        code(Options {
            listen: taken,
            ..fleet.options(3, EAST)
        })
        .await,
        Some("WB-101")
    );
    assert_eq!(
        code(fleet.options(1, EAST)).await,
        Some("WB-102"),
        "same data directory"
    );
    assert_eq!(
        code(Options {
            listen: HostPort::new("0.0.0.0", 0),
            ..fleet.options(3, EAST)
        })
        .await,
        Some("WB-105")
    );
    assert_eq!(
        code(Options {
            controllers: vec![],
            ..fleet.options(3, EAST)
        })
        .await,
        Some("WB-111")
    );
    assert_eq!(code(fleet.options(4, "atlantis")).await, Some("WB-106"));
    let mut client = Client::connect(broker.handle.kafka).await;
    client.create_topic("t", 1, &[]).await;
    client
        .produce_ok("t", 0, batch(&["the first broker goes on"]))
        .await;
    broker.stop().await;
    let foreign = Options {
        fleet_id: Some("another".into()),
        ..fleet.options(1, EAST)
    };
    assert_eq!(code(foreign).await, Some("WB-103"));
    let other_node = Options {
        data_dir: fleet.options(1, EAST).data_dir,
        ..fleet.options(9, EAST)
    };
    assert_eq!(code(other_node).await, Some("WB-103"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_waits_for_more_answers_with_what_was_there_and_what_came() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    assert_eq!(client.create_topic("t", 2, &[]).await, ErrorCode::NONE);
    let (one, other) = (batch(&["one"]), batch(&["other"]));
    client.produce_ok("t", 0, one.clone()).await;
    let values = |response: &fetch::Response| {
        let parts = response.responses[0].partitions.iter();
        let lengths = parts.map(|part| part.records.as_ref().unwrap().len());
        lengths.collect::<Vec<_>>()
    };
    let asks = |least: usize, max_wait_ms| {
        let mut request = fetch_request("t", 0, 0, max_wait_ms);
        let second = fetch_request("t", 1, 0, max_wait_ms);
        request.min_bytes = i32::try_from(least).unwrap();
        let second = second.topics.into_iter().flat_map(|t| t.partitions);
        request.topics[0].partitions.extend(second);
        request
    };
    // Its time is over before there is enough.
    let some = client.call(11, asks(one.len() + 1, 50)).await;
    assert_eq!(values(&some), [one.len(), 0]);
    let mut reader = Client::connect(broker.handle.kafka).await;
    let both = asks(one.len() + other.len(), 300_000);
    let (all, _) = tokio::join!(
        reader.call(11, both),
        client.produce_ok("t", 1, other.clone())
    );
    assert_eq!(values(&all), [one.len(), other.len()]);
    broker.stop().await;
}
