use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use whimbrel_broker::Limits;
use whimbrel_runtime::unit::{Size, Span};
use whimbrel_wire::{
    ErrorCode,
    messages::{api_versions, produce},
};

use crate::{
    client::{Client, batch, fetch_request, produce_request},
    fleet::{Broker, EAST, Fleet, eventually, unoffended},
    raw::{self, frame},
};

async fn started() -> (Fleet, Broker, Client) {
    let fleet = Fleet::start().await;
    let limits = Limits {
        request_bytes: Size::mib(2),
        request_time: Span::millis(300),
        ..Limits::default()
    };
    let broker = fleet
        .try_broker(whimbrel_broker::Options {
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
async fn frames_that_cannot_be_understood_close_their_connection_and_no_other() {
    let (_fleet, broker, mut healthy) = started().await;
    let head = |key: i16, version: i16| raw::head(key, version, raw::NOBODY);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("length -1", (-1_i32).to_be_bytes().to_vec()),
        ("length 2^31-1", i32::MAX.to_be_bytes().to_vec()),
        ("over the limit", (3_i32 << 20).to_be_bytes().to_vec()),
        ("length 0", 0_i32.to_be_bytes().to_vec()),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("TLS", vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00]),
        ("unknown API", frame(&head(999, 0))),
        ("an API that is not offered", frame(&head(26, 1))),
        ("version too high", frame(&head(3, 99))),
        ("version -1", frame(&head(1, -1))),
        ("produce 2", frame(&head(0, 2))),
        ("a body that ends early", frame(&head(3, 8))),
        (
            "an array of 2^31-1",
            frame(&[&head(3, 8)[..], &i32::MAX.to_be_bytes()].concat()),
        ),
        (
            "a frame that never ends",
            [&100_i32.to_be_bytes()[..], b"abc"].concat(),
        ),
    ];
    for (name, bytes) in cases {
        assert!(raw::closes(&broker, &bytes).await, "{name}");
    }
    healthy.produce_ok("t", 0, batch(&["after"])).await;
    assert_eq!(healthy.consume("t", 0, 0).await, ["before", "after"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn api_versions_too_new_are_answered_in_version_0() {
    let (_fleet, broker, mut client) = started().await;
    let body = [
        &18_i16.to_be_bytes()[..],
        &99_i16.to_be_bytes(),
        &5_i32.to_be_bytes(),
        &(-1_i16).to_be_bytes(),
        &[0, 9, 9],
    ]
    .concat();
    client
        .stream
        .write_all(&i32::try_from(body.len()).unwrap().to_be_bytes())
        .await
        .unwrap();
    client.stream.write_all(&body).await.unwrap();
    let (id, answer) = client.receive::<api_versions::Request>(0).await;
    assert_eq!((id, answer.error_code), (5, ErrorCode::UNSUPPORTED_VERSION));
    assert_eq!(answer.api_keys[0].api_key, 18);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_batches_get_their_codes_and_leave_no_trace() {
    let (_fleet, broker, mut client) = started().await;
    let good = batch(&["x"]);
    let with = |at: usize, value: u8| {
        let mut bytes = good.to_vec();
        bytes[at] = value;
        Bytes::from(bytes)
    };
    let mut expect = async |records: Bytes, code: ErrorCode| {
        assert_eq!(client.produce("t", 0, records).await.error_code, code)
    };
    expect(with(65, 0xff), ErrorCode::CORRUPT_MESSAGE).await;
    expect(good.slice(..good.len() - 1), ErrorCode::CORRUPT_MESSAGE).await;
    expect(
        [&good[..], &good[..]].concat().into(),
        ErrorCode::INVALID_RECORD,
    )
    .await;
    expect(with(16, 1), ErrorCode::INVALID_RECORD).await;
    expect(Bytes::new(), ErrorCode::INVALID_RECORD).await;
    expect(
        batch(&[&"x".repeat(1_048_600)]),
        ErrorCode::MESSAGE_TOO_LARGE,
    )
    .await;
    let codes = async |client: &mut Client, request: produce::Request| {
        client.call(9, request).await.responses[0]
            .partition_responses
            .iter()
            .map(|p| p.error_code)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        codes(&mut client, produce_request("t", 0, good.clone(), 7)).await,
        [ErrorCode::INVALID_REQUIRED_ACKS]
    );
    assert_eq!(
        codes(&mut client, produce_request("nowhere", 0, good.clone(), -1)).await,
        [ErrorCode::UNKNOWN_TOPIC_OR_PARTITION]
    );
    assert_eq!(
        codes(&mut client, produce_request("t", 9, good.clone(), -1)).await,
        [ErrorCode::UNKNOWN_TOPIC_OR_PARTITION]
    );
    let mut twice = produce_request("t", 0, good.clone(), -1);
    let again = twice.topic_data[0].partition_data[0].clone();
    twice.topic_data[0].partition_data.push(again);
    assert_eq!(
        codes(&mut client, twice).await,
        [ErrorCode::NONE, ErrorCode::INVALID_REQUEST]
    );
    assert_eq!(client.consume("t", 0, 0).await, ["before", "x"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_acks_nothing_is_answered_and_an_error_closes() {
    let (_fleet, broker, mut client) = started().await;
    client
        .send(9, &produce_request("t", 0, batch(&["quiet"]), 0))
        .await;
    assert_eq!(
        client.metadata("t").await.topics[0].error_code,
        ErrorCode::NONE,
        "the next answer is the next request's"
    );
    let mut reader = Client::connect(broker.handle.kafka).await;
    eventually("the record", async || {
        (reader.consume("t", 0, 0).await == ["before", "quiet"]).then_some(())
    })
    .await;
    client
        .send::<produce::Request>(9, &produce_request("nowhere", 0, batch(&["x"]), 0))
        .await;
    assert!(client.frame().await.is_none());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_fetches_and_topics_out_of_range_get_their_codes() {
    let (_fleet, broker, mut client) = started().await;
    for name in ["", ".", "..", "../x", "a/b", "ä", &"x".repeat(250)] {
        assert_eq!(
            client.create_topic(name, 1, &[]).await,
            ErrorCode::INVALID_TOPIC_EXCEPTION,
            "{name}"
        );
        assert_eq!(
            client.metadata(name).await.topics[0].error_code,
            ErrorCode::INVALID_TOPIC_EXCEPTION,
            "{name}"
        );
    }
    assert_eq!(
        client.create_topic("u", 0, &[]).await,
        ErrorCode::INVALID_PARTITIONS
    );
    assert_eq!(
        client.create_topic("u", 1_000_000, &[]).await,
        ErrorCode::INVALID_PARTITIONS
    );
    assert_eq!(
        client.create_topic("u", 1, &[("no.such", "1")]).await,
        ErrorCode::INVALID_CONFIG
    );
    assert_eq!(
        client.create_topic("u", 1, &[("segment.bytes", "7")]).await,
        ErrorCode::INVALID_CONFIG
    );
    assert_eq!(
        client.create_topic("t", 1, &[]).await,
        ErrorCode::TOPIC_ALREADY_EXISTS
    );
    assert_eq!(
        client.fetch("t", 0, 99, 0).await.error_code,
        ErrorCode::OFFSET_OUT_OF_RANGE
    );
    assert_eq!(
        client.fetch("t", 0, -5, 0).await.error_code,
        ErrorCode::OFFSET_OUT_OF_RANGE
    );
    assert_eq!(
        client.fetch("t", 5, 0, 0).await.error_code,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    );
    let mut as_replica = fetch_request("t", 0, 0, 0);
    as_replica.replica_id = 1;
    assert_eq!(
        client.call(11, as_replica).await.error_code,
        ErrorCode::CLUSTER_AUTHORIZATION_FAILED
    );
    let mut huge = fetch_request("t", 0, 0, i32::MAX);
    (huge.max_bytes, huge.min_bytes) = (i32::MAX, i32::MIN);
    assert_eq!(
        client.call(11, huge).await.responses[0].partitions[0].error_code,
        ErrorCode::NONE
    );
    let mut ahead = fetch_request("t", 0, 0, 0);
    ahead.topics[0].partitions[0].current_leader_epoch = 99;
    assert_eq!(
        client.call(11, ahead).await.responses[0].partitions[0].error_code,
        ErrorCode::UNKNOWN_LEADER_EPOCH
    );
    broker.stop().await;
}
