//! Topic configs as clients change and read them.

use whimbrel_wire::{
    ErrorCode,
    messages::{alter_configs, describe_configs, incremental_alter_configs as incremental},
};

use crate::{
    client::{Client, batch},
    fleet::{EAST, Fleet},
};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

type Described = describe_configs::DescribeConfigsResourceResult;

async fn describe(client: &mut Client, kind: i8, name: &str) -> (ErrorCode, Vec<Described>) {
    let resource = describe_configs::DescribeConfigsResource {
        resource_type: kind,
        resource_name: name.into(),
        configuration_keys: None,
    };
    let request = describe_configs::Request {
        resources: vec![resource],
        include_synonyms: true,
        include_documentation: true,
    };
    let result = client.call(4, request).await.results.remove(0);
    (result.error_code, result.configs)
}

async fn config(client: &mut Client, topic: &str, name: &str) -> Described {
    let (_, configs) = describe(client, TOPIC, topic).await;
    configs.into_iter().find(|c| c.name == name).unwrap()
}

async fn change(
    client: &mut Client,
    topic: &str,
    changes: &[(&str, i8, Option<&str>)],
) -> (ErrorCode, String) {
    let configs = changes
        .iter()
        .map(|(name, operation, value)| incremental::AlterableConfig {
            name: (*name).into(),
            config_operation: *operation,
            value: value.map(Into::into),
        });
    let resource = incremental::AlterConfigsResource {
        resource_type: TOPIC,
        resource_name: topic.into(),
        configs: configs.collect(),
    };
    let request = incremental::Request {
        resources: vec![resource],
        validate_only: false,
    };
    let done = client.call(1, request).await.responses.remove(0);
    (done.error_code, done.error_message.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn configs_are_changed_read_back_and_in_force() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    assert_eq!(
        client
            .create_topic("t", 1, &[("retention.ms", "1000")])
            .await,
        ErrorCode::NONE
    );

    let retention = config(&mut client, "t", "retention.ms").await;
    assert_eq!(
        (retention.value.as_deref(), retention.config_source),
        (Some("1000"), 1)
    );
    let synonyms: Vec<_> = retention
        .synonyms
        .iter()
        .map(|s| (s.name.as_str(), s.source))
        .collect();
    assert_eq!(synonyms, [("retention.ms", 1), ("log.retention.ms", 5)]);
    let limit = config(&mut client, "t", "max.message.bytes").await;
    assert_eq!((limit.config_source, limit.config_type), (5, 3));
    assert!(limit.documentation.is_some_and(|text| !text.is_empty()));

    let large = "x".repeat(2_000);
    client.produce_ok("t", 0, batch(&[&large])).await;
    let changes = [
        ("max.message.bytes", 0, Some("1500")),
        ("retention.ms", 1, None),
        ("cleanup.policy", 2, Some("compact")),
    ];
    assert_eq!(change(&mut client, "t", &changes).await.0, ErrorCode::NONE);
    let policy = config(&mut client, "t", "cleanup.policy").await;
    assert_eq!(policy.value.as_deref(), Some("delete,compact"));
    assert_eq!(
        config(&mut client, "t", "retention.ms").await.config_source,
        5
    );
    let refused = client.produce("t", 0, batch(&[&large])).await;
    assert_eq!(refused.error_code, ErrorCode::MESSAGE_TOO_LARGE);

    // The older call replaces: what it does not name goes back to its default.
    let resource = alter_configs::AlterConfigsResource {
        resource_type: TOPIC,
        resource_name: "t".into(),
        configs: vec![alter_configs::AlterableConfig {
            name: "segment.bytes".into(),
            value: Some("4096".into()),
        }],
    };
    let request = alter_configs::Request {
        resources: vec![resource],
        validate_only: false,
    };
    let replaced = client.call(2, request).await.responses.remove(0);
    assert_eq!(replaced.error_code, ErrorCode::NONE);
    let (_, all) = describe(&mut client, TOPIC, "t").await;
    let own: Vec<_> = all.iter().filter(|c| c.config_source == 1).collect();
    assert_eq!((own.len(), own[0].name.as_str()), (1, "segment.bytes"));
    client.produce_ok("t", 0, batch(&[&large])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_whole_and_with_the_reason() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    assert_eq!(client.create_topic("t", 1, &[]).await, ErrorCode::NONE);
    for (changes, code, word) in [
        (
            vec![("no.such.config", 0, Some("1"))],
            ErrorCode::INVALID_CONFIG,
            "no.such.config",
        ),
        (
            vec![("retention.ms", 0, Some("soon"))],
            ErrorCode::INVALID_CONFIG,
            "retention.ms",
        ),
        (
            vec![("retention.ms", 2, Some("1"))],
            ErrorCode::INVALID_CONFIG,
            "list",
        ),
        (
            vec![("retention.ms", 0, None)],
            ErrorCode::INVALID_REQUEST,
            "retention.ms",
        ),
        (
            vec![("retention.ms", 9, Some("1"))],
            ErrorCode::INVALID_REQUEST,
            "9",
        ),
        (
            vec![
                ("segment.ms", 0, Some("5")),
                ("unclean.leader.election.enable", 0, Some("true")),
            ],
            ErrorCode::INVALID_CONFIG,
            "unclean",
        ),
    ] {
        let (refused, why) = change(&mut client, "t", &changes).await;
        assert_eq!(refused, code, "{changes:?}: {why}");
        assert!(why.contains(word), "{changes:?}: {why}");
    }
    let (_, all) = describe(&mut client, TOPIC, "t").await;
    assert!(
        all.iter().all(|c| c.config_source == 5),
        "nothing was taken"
    );

    let missing = change(&mut client, "nowhere", &[("segment.ms", 0, Some("5"))]).await;
    assert_eq!(missing.0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let illegal = change(&mut client, "../x", &[("segment.ms", 0, Some("5"))]).await;
    assert_eq!(illegal.0, ErrorCode::INVALID_TOPIC_EXCEPTION);
    let bad = client.create_topic("u", 1, &[("segment.bytes", "1")]).await;
    assert_eq!(bad, ErrorCode::INVALID_CONFIG);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_shows_its_configs_and_keeps_them() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    let (code, all) = describe(&mut client, BROKER, "1").await;
    assert_eq!(code, ErrorCode::NONE);
    assert!(all.iter().all(|c| c.read_only));
    let rack = all.iter().find(|c| c.name == "broker.rack").unwrap();
    assert_eq!(rack.value.as_deref(), Some(EAST));
    assert_eq!(
        describe(&mut client, BROKER, "").await,
        (ErrorCode::NONE, vec![])
    );
    assert_eq!(
        describe(&mut client, BROKER, "7").await.0,
        ErrorCode::INVALID_REQUEST
    );
    let resource = incremental::AlterConfigsResource {
        resource_type: BROKER,
        resource_name: "1".into(),
        configs: vec![incremental::AlterableConfig::default()],
    };
    let request = incremental::Request {
        resources: vec![resource],
        validate_only: false,
    };
    let refused = client.call(1, request).await.responses.remove(0);
    assert_eq!(refused.error_code, ErrorCode::INVALID_REQUEST);
}
