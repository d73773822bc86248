//! Quotas as clients set and feel them.

use std::io::ErrorKind;

use whimbrel_broker::{Limits, Options};
use whimbrel_runtime::unit::Size;
use whimbrel_wire::{
    ErrorCode,
    messages::{
        alter_client_quotas as alter, create_topics, describe_client_quotas as describe, metadata,
    },
};

use crate::{
    client::{Client, batch, fetch_request, produce_request},
    fleet::{EAST, Fleet},
};

async fn set(
    client: &mut Client,
    entity: &[(&str, Option<&str>)],
    key: &str,
    value: Option<f64>,
) -> ErrorCode {
    let entity = entity.iter().map(|(kind, name)| alter::EntityData {
        entity_type: (*kind).into(),
        entity_name: name.map(Into::into),
    });
    let op = alter::OpData {
        key: key.into(),
        value: value.unwrap_or(0.0),
        remove: value.is_none(),
    };
    let entry = alter::EntryData {
        entity: entity.collect(),
        ops: vec![op],
    };
    let request = alter::Request {
        entries: vec![entry],
        validate_only: false,
    };
    client.call(1, request).await.entries[0].error_code
}

/// Nothing has come from the broker.
fn is_quiet(client: &Client) -> bool {
    let read = client.stream.try_read(&mut [0]);
    read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

fn all_topics() -> metadata::Request {
    metadata::Request {
        topics: None,
        ..metadata::Request::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_uses_more_is_told_and_not_read_until_it_is_paid() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut admin = Client::connect(broker.handle.kafka).await;
    assert_eq!(admin.create_topic("t", 1, &[]).await, ErrorCode::NONE);
    let large = "x".repeat(40_000);
    admin.produce_ok("t", 0, batch(&[&large])).await;

    // All these clients have the same id: what counts is the connection's client.
    let anybody = [("client-id", None)];
    let mut slow = Client::connect(broker.handle.kafka).await;
    let rate = "producer_byte_rate";
    assert_eq!(
        set(&mut admin, &anybody, rate, Some(1_000.0)).await,
        ErrorCode::NONE
    );
    let produce = produce_request("t", 0, batch(&[&large]), -1);
    let throttled = slow.call(10, produce).await;
    let partition = &throttled.responses[0].partition_responses[0];
    assert_eq!(
        partition.error_code,
        ErrorCode::NONE,
        "it is taken all the same"
    );
    assert!(
        throttled.throttle_time_ms > 20_000,
        "{}",
        throttled.throttle_time_ms
    );
    slow.send(9, &all_topics()).await;
    assert_eq!(admin.call(9, all_topics()).await.topics.len(), 2);
    assert!(is_quiet(&slow));

    let rate = "consumer_byte_rate";
    assert_eq!(
        set(&mut admin, &anybody, rate, Some(1_000.0)).await,
        ErrorCode::NONE
    );
    let mut slow = Client::connect(broker.handle.kafka).await;
    let throttled = slow.call(11, fetch_request("t", 0, 0, 0)).await;
    assert!(
        throttled.throttle_time_ms > 20_000,
        "{}",
        throttled.throttle_time_ms
    );
    assert!(
        throttled.responses[0].partitions[0]
            .records
            .as_ref()
            .is_some_and(|r| r.len() > 40_000)
    );
    slow.send(9, &all_topics()).await;
    assert_eq!(admin.call(9, all_topics()).await.topics.len(), 2);
    assert!(is_quiet(&slow));

    // Without the quotas nobody owes anything.
    for rate in ["producer_byte_rate", "consumer_byte_rate"] {
        assert_eq!(set(&mut admin, &anybody, rate, None).await, ErrorCode::NONE);
    }
    let mut free = Client::connect(broker.handle.kafka).await;
    let answer = free.call(11, fetch_request("t", 0, 0, 0)).await;
    assert_eq!(answer.throttle_time_ms, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_created_at_the_rate_that_is_granted() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    let user = [("user", None)];
    let rate = "controller_mutation_rate";
    assert_eq!(
        set(&mut client, &user, rate, Some(2.0)).await,
        ErrorCode::NONE
    );
    assert_eq!(client.create_topic("a", 3, &[]).await, ErrorCode::NONE);
    let mut other = Client::connect(broker.handle.kafka).await;
    assert_eq!(
        other.create_topic("b", 50, &[]).await,
        ErrorCode::THROTTLING_QUOTA_EXCEEDED
    );
    // Clients from before that error are slowed down instead.
    let topic = create_topics::CreatableTopic {
        name: "b".into(),
        num_partitions: 1,
        replication_factor: 1,
        ..create_topics::CreatableTopic::default()
    };
    let request = create_topics::Request {
        topics: vec![topic],
        timeout_ms: 10_000,
        ..create_topics::Request::default()
    };
    let mut old = Client::connect(broker.handle.kafka).await;
    let made = old.call(5, request).await;
    assert_eq!(made.topics[0].error_code, ErrorCode::NONE);
    assert!(made.throttle_time_ms > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_are_described_as_they_were_set() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    let both = [("user", Some("u")), ("client-id", Some("c"))];
    let default_user = [("user", None)];
    let address = [("ip", Some("10.0.0.1"))];
    for (entity, key, value) in [
        (&both[..], "consumer_byte_rate", 5.5),
        (&both[..], "request_percentage", 50.0),
        (&default_user[..], "producer_byte_rate", 7.0),
        (&address[..], "connection_creation_rate", 9.0),
    ] {
        assert_eq!(
            set(&mut client, entity, key, Some(value)).await,
            ErrorCode::NONE
        );
    }
    for (entity, key) in [
        (&both[..], "connection_creation_rate"),
        (&address[..], "producer_byte_rate"),
        (&[("ip", Some("somewhere"))][..], "connection_creation_rate"),
        (&[("planet", Some("mars"))][..], "producer_byte_rate"),
        (&[][..], "producer_byte_rate"),
    ] {
        let refused = set(&mut client, entity, key, Some(1.0)).await;
        assert_eq!(refused, ErrorCode::INVALID_REQUEST, "{entity:?} {key}");
    }

    let ask = async |client: &mut Client, components: &[(&str, i8, Option<&str>)], strict| {
        let components = components
            .iter()
            .map(|(kind, how, name)| describe::ComponentData {
                entity_type: (*kind).into(),
                match_type: *how,
                match_name: name.map(Into::into),
            });
        let request = describe::Request {
            components: components.collect(),
            strict,
        };
        let response: describe::Response = client.call(1, request).await;
        assert_eq!(response.error_code, ErrorCode::NONE);
        response.entries.unwrap()
    };
    assert_eq!(ask(&mut client, &[], false).await.len(), 3);
    let users = ask(&mut client, &[("user", 2, None)], false).await;
    assert_eq!(users.len(), 2);
    let strictly = ask(&mut client, &[("user", 2, None)], true).await;
    assert_eq!(strictly.len(), 1);
    assert_eq!(strictly[0].entity[0].entity_name, None);
    let named = ask(&mut client, &[("client-id", 0, Some("c"))], false).await;
    let values: Vec<_> = named[0]
        .values
        .iter()
        .map(|v| (v.key.as_str(), v.value))
        .collect();
    assert_eq!(
        values,
        [("consumer_byte_rate", 5.5), ("request_percentage", 50.0)]
    );
    let addresses = ask(&mut client, &[("ip", 2, None)], false).await;
    assert_eq!(
        addresses[0].entity[0].entity_name.as_deref(),
        Some("10.0.0.1")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_have_quotas_where_nobody_has_set_any() {
    let fleet = Fleet::start().await;
    let limits = Limits {
        client_produce_bytes: Size(1_000),
        client_fetch_bytes: Size(1_000),
        ..Limits::default()
    };
    let options = Options {
        limits,
        ..fleet.options(1, EAST)
    };
    let broker = fleet.try_broker(options).await.unwrap();
    let mut client = Client::connect(broker.handle.kafka).await;
    assert_eq!(client.create_topic("t", 1, &[]).await, ErrorCode::NONE);
    client.produce_ok("t", 0, batch(&["x"])).await;
    let large = "x".repeat(40_000);
    let mut writer = Client::connect(broker.handle.kafka).await;
    let produce = produce_request("t", 0, batch(&[&large]), -1);
    assert!(writer.call(10, produce).await.throttle_time_ms > 20_000);
    let mut reader = Client::connect(broker.handle.kafka).await;
    let fetched = reader.call(11, fetch_request("t", 0, 0, 0)).await;
    assert!(fetched.throttle_time_ms > 20_000);
    broker.stop().await;
}
