//! Requests about topics that cannot be, are not here any more, or are somebody else's to write.

use uuid::Uuid;
use whimbrel_broker::{Limits, Options};
use whimbrel_wire::{
    ErrorCode,
    messages::{
        alter_configs, create_partitions, create_topics, delete_topics, incremental_alter_configs,
    },
};

use crate::{
    client::{Client, batch, fetch_request, produce_request},
    fleet::{Broker, EAST, Fleet, WEST, eventually, unoffended},
    memory,
};

async fn started() -> (Fleet, Broker, Client) {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    client.create_topic("t", 1, &[]).await;
    client.produce_ok("t", 0, batch(&["before"])).await;
    (fleet, broker, client)
}

fn creatable(name: &str, num_partitions: i32) -> create_topics::CreatableTopic {
    create_topics::CreatableTopic {
        name: name.into(),
        num_partitions,
        replication_factor: 1,
        ..create_topics::CreatableTopic::default()
    }
}

async fn create(client: &mut Client, topics: Vec<create_topics::CreatableTopic>) -> Vec<ErrorCode> {
    let request = create_topics::Request {
        topics,
        timeout_ms: 10_000,
        ..create_topics::Request::default()
    };
    let topics = client.call(7, request).await.topics;
    topics.iter().map(|topic| topic.error_code).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_paths_are_refused_and_touch_nothing() {
    let (fleet, broker, mut client) = started().await;
    let folders = || {
        let mut names = Vec::new();
        for root in [
            fleet.dir.path().to_owned(),
            fleet.dir.path().join("broker-1"),
        ] {
            let entries = std::fs::read_dir(root).unwrap().map(Result::unwrap);
            let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
            names.extend(folders.map(|entry| entry.file_name()));
        }
        names.sort();
        names
    };
    let before = folders();
    let long = "x".repeat(250);
    let names = [
        "", ".", "..", "/", "../x", "a/b", "a\0b", "a\r\nb", "ä", &long,
    ];
    for name in names {
        assert_eq!(
            create(&mut client, vec![creatable(name, 1)]).await,
            [ErrorCode::INVALID_TOPIC_EXCEPTION],
            "{name:?}"
        );
        let metadata = client.metadata(name).await;
        assert_eq!(
            metadata.topics[0].error_code,
            ErrorCode::INVALID_TOPIC_EXCEPTION,
            "{name:?}"
        );
        let produced = client.produce(name, 0, batch(&["x"])).await;
        assert!(produced.error_code.is_error(), "{name:?}");
        let fetched = client.fetch(name, 0, 0, 0).await;
        assert!(fetched.error_code.is_error(), "{name:?}");
        assert!(client.offset_at(name, 0, -1).await.error_code.is_error());
        assert!(client.delete_records(name, 0, 0).await.is_error());
        let delete = delete_topics::Request {
            topic_names: vec![name.into()],
            timeout_ms: 1_000,
            ..delete_topics::Request::default()
        };
        let deleted = client.call(5, delete).await;
        assert!(deleted.responses[0].error_code.is_error(), "{name:?}");
        let more = create_partitions::Request {
            topics: vec![create_partitions::CreatePartitionsTopic {
                name: name.into(),
                count: 2,
                assignments: None,
            }],
            timeout_ms: 1_000,
            validate_only: false,
        };
        let grown = client.call(3, more).await;
        assert!(grown.results[0].error_code.is_error(), "{name:?}");
    }
    assert_eq!(folders(), before);
    assert_eq!(client.consume("t", 0, 0).await, ["before"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_elements_than_any_client_names_close() {
    let (_fleet, broker, mut healthy) = started().await;
    let mut request = fetch_request("t", 0, 0, 0);
    let one = request.topics[0].partitions[0].clone();
    request.topics[0].partitions = vec![one; 300_000];
    let mut client = Client::connect(broker.handle.kafka).await;
    client.send(11, &request).await;
    assert_eq!(client.frame().await, None);
    healthy.produce_ok("t", 0, batch(&["after"])).await;
    memory::assert_bounded();
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_by_the_thousand_are_made_at_their_rate_and_not_in_one_request() {
    let fleet = Fleet::start().await;
    let limits = Limits {
        client_mutations: 20,
        ..Limits::default()
    };
    let options = Options {
        limits: unoffended(limits),
        ..fleet.options(1, EAST)
    };
    let broker = fleet.try_broker(options).await.unwrap();
    let mut client = Client::connect(broker.handle.kafka).await;
    let many = (0..100).map(|n| creatable(&format!("t{n}"), 10));
    let codes = create(&mut client, many.collect()).await;
    let made = codes.iter().filter(|code| code.is_none()).count();
    assert!((1..10).contains(&made), "{made} topics of 10 partitions");
    assert_eq!(codes[99], ErrorCode::THROTTLING_QUOTA_EXCEEDED);
    // Clients that know nothing of such a quota are slowed down afterwards: one request has a bound of its own.
    let huge = (0..12).map(|n| creatable(&format!("u{n}"), 10_000));
    let huge = [creatable("v", 10_001)].into_iter().chain(huge);
    let request = create_topics::Request {
        topics: huge.collect(),
        timeout_ms: 1_000,
        validate_only: true,
    };
    let mut old = Client::connect(broker.handle.kafka).await;
    let answer = old.call(5, request).await;
    assert_eq!(answer.topics[0].error_code, ErrorCode::INVALID_PARTITIONS);
    for topic in &answer.topics[11..] {
        assert_eq!(topic.error_code, ErrorCode::INVALID_REQUEST);
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_named_twice_is_written_once_and_read_like_two() {
    let (_fleet, broker, mut client) = started().await;
    let mut twice = produce_request("t", 0, batch(&["x"]), -1);
    let again = twice.topic_data[0].clone();
    twice.topic_data.push(again);
    let answer = client.call(9, twice).await;
    let codes = answer.responses.iter().flat_map(|t| &t.partition_responses);
    assert_eq!(
        codes.map(|p| p.error_code).collect::<Vec<_>>(),
        [ErrorCode::NONE, ErrorCode::INVALID_REQUEST]
    );
    let mut twice = fetch_request("t", 0, 0, 0);
    let again = twice.topics[0].partitions[0].clone();
    twice.topics[0].partitions.push(again);
    let answer = client.call(11, twice).await;
    for partition in &answer.responses[0].partitions {
        assert_eq!(partition.error_code, ErrorCode::NONE);
    }
    assert_eq!(client.consume("t", 0, 0).await, ["before", "x"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leader_epochs_of_the_past_and_the_future_are_told_apart() {
    let (fleet, broker, mut client) = started().await;
    broker.stop().await;
    let broker = fleet.broker(1, EAST).await;
    let mut again = Client::connect(broker.handle.kafka).await;
    again.produce_ok("t", 0, batch(&["after"])).await;
    assert_eq!(client.frame().await, None, "the old process is gone");
    for (epoch, code) in [
        (0, ErrorCode::FENCED_LEADER_EPOCH),
        (99, ErrorCode::UNKNOWN_LEADER_EPOCH),
        (i32::MAX, ErrorCode::UNKNOWN_LEADER_EPOCH),
        (-1, ErrorCode::NONE),
        (i32::MIN, ErrorCode::NONE),
    ] {
        let mut request = fetch_request("t", 0, 0, 0);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        let answer = again.call(11, request).await;
        let partition = &answer.responses[0].partitions[0];
        assert_eq!(partition.error_code, code, "{epoch}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_id_of_a_topic_that_was_made_again_is_unknown() {
    let (fleet, broker, mut client) = started().await;
    let old = client.metadata("t").await.topics[0].topic_id;
    fleet.client.delete_topic("t").await.unwrap();
    eventually("the topic to be made again", async || {
        let code = create(&mut client, vec![creatable("t", 1)]).await[0];
        code.is_none().then_some(())
    })
    .await;
    client.produce_ok("t", 0, batch(&["of the new one"])).await;
    let new = client.metadata("t").await.topics[0].topic_id;
    assert_ne!(old, new);
    for (id, code) in [
        (old, ErrorCode::UNKNOWN_TOPIC_ID),
        (Uuid::from_u128(7), ErrorCode::UNKNOWN_TOPIC_ID),
        (new, ErrorCode::NONE),
    ] {
        let mut request = fetch_request("", 0, 0, 0);
        request.topics[0].topic_id = id;
        let answer = client.call(13, request).await;
        let partition = &answer.responses[0].partitions[0];
        assert_eq!(partition.error_code, code);
        let mut request = produce_request("", 0, batch(&["x"]), -1);
        request.topic_data[0].topic_id = id;
        let answer = client.call(13, request).await;
        let partition = &answer.responses[0].partition_responses[0];
        assert_eq!(partition.error_code, code);
    }
    assert_eq!(client.consume("t", 0, 0).await, ["of the new one", "x"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_are_addresses_paths_or_classes_are_no_configs() {
    let (_fleet, broker, mut client) = started().await;
    let names = [
        "retention.ms",
        "cleanup.policy",
        "sasl.jaas.config",
        "x".repeat(30_000).leak(),
    ];
    let values = [
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
        "/etc/passwd",
        "com.sun.security.auth.module.JndiLoginModule",
        "9".repeat(30_000).leak(),
        "",
    ];
    for name in names {
        for value in values {
            if name == "cleanup.policy" && value.is_empty() {
                // A list of nothing is one.
                continue;
            }
            let resource = alter_configs::AlterConfigsResource {
                resource_type: 2,
                resource_name: "t".into(),
                configs: vec![alter_configs::AlterableConfig {
                    name: name.into(),
                    value: Some(value.into()),
                }],
            };
            let request = alter_configs::Request {
                resources: vec![resource],
                validate_only: false,
            };
            let answer = client.call(2, request).await;
            let code = answer.responses[0].error_code;
            assert_eq!(code, ErrorCode::INVALID_CONFIG, "{name} {value}");
            let resource = incremental_alter_configs::AlterConfigsResource {
                resource_type: 2,
                resource_name: "t".into(),
                configs: vec![incremental_alter_configs::AlterableConfig {
                    name: name.into(),
                    config_operation: 0,
                    value: Some(value.into()),
                }],
            };
            let request = incremental_alter_configs::Request {
                resources: vec![resource],
                validate_only: false,
            };
            let answer = client.call(1, request).await;
            let code = answer.responses[0].error_code;
            assert_eq!(code, ErrorCode::INVALID_CONFIG, "{name} {value}");
        }
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_is_not_home_writes_nothing() {
    let (fleet, home, mut client) = started().await;
    let other = fleet.broker(2, WEST).await;
    eventually("the copy", async || other.partition("t", 0).await).await;
    let mut there = Client::connect(other.handle.kafka).await;
    let refused = there.produce("t", 0, batch(&["x"])).await;
    assert_eq!(refused.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(
        there.delete_records("t", 0, 1).await,
        ErrorCode::NOT_LEADER_OR_FOLLOWER
    );
    let copy = other.partition("t", 0).await.unwrap();
    assert_eq!(copy["log_end"], 0, "{copy}");
    assert_eq!(client.consume("t", 0, 0).await, ["before"]);
    home.stop().await;
    other.stop().await;
}
