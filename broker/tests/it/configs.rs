//! Configs of topics, brokers and groups as clients change and read them.

use whimbrel_wire::{
    ErrorCode,
    messages::{
        alter_configs, consumer_group_heartbeat, create_topics, describe_configs,
        incremental_alter_configs as incremental, list_config_resources,
    },
};

use crate::{
    client::{Client, batch},
    fleet::{EAST, Fleet},
    patient::Patient,
};

pub const TOPIC: i8 = 2;
pub const BROKER: i8 = 4;
const LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

pub type Described = describe_configs::DescribeConfigsResourceResult;

pub async fn describe(client: &mut Client, kind: i8, name: &str) -> (ErrorCode, Vec<Described>) {
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

pub async fn config(client: &mut Client, topic: &str, name: &str) -> Described {
    let (_, configs) = describe(client, TOPIC, topic).await;
    configs.into_iter().find(|c| c.name == name).unwrap()
}

async fn change(
    client: &mut Client,
    topic: &str,
    changes: &[(&str, i8, Option<&str>)],
) -> (ErrorCode, String) {
    alter(client, (TOPIC, topic), changes, false).await
}

pub async fn alter(
    client: &mut Client,
    (resource_type, name): (i8, &str),
    changes: &[(&str, i8, Option<&str>)],
    validate_only: bool,
) -> (ErrorCode, String) {
    let configs = changes
        .iter()
        .map(|(name, operation, value)| incremental::AlterableConfig {
            name: (*name).into(),
            config_operation: *operation,
            value: value.map(Into::into),
        });
    let resource = incremental::AlterConfigsResource {
        resource_type,
        resource_name: name.into(),
        configs: configs.collect(),
    };
    let request = incremental::Request {
        resources: vec![resource],
        validate_only,
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
async fn configs_named_twice_or_without_a_value_and_a_policy_of_nothing_are_as_at_kafka() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    client.create_topic("t", 1, &[]).await;
    let twice = [("flush.ms", 0, Some("5")), ("flush.ms", 1, None)];
    for resource in [(TOPIC, "t"), (BROKER, "1"), (GROUP, "g")] {
        let (code, why) = alter(&mut client, resource, &twice, true).await;
        assert_eq!(code, ErrorCode::INVALID_REQUEST, "{why}");
    }
    let policy = "cleanup.policy";
    for (value, operation) in [("", 0), ("delete", 2), ("delete", 3)] {
        let (code, why) = change(&mut client, "t", &[(policy, operation, Some(value))]).await;
        assert_eq!(code, ErrorCode::NONE, "{why}");
    }
    let none = config(&mut client, "t", policy).await;
    assert_eq!((none.value.as_deref(), none.config_source), (Some(""), 1));
    let made = client.create_topic("u", 1, &[(policy, "")]).await;
    assert_eq!(made, ErrorCode::NONE);
    let topic = create_topics::CreatableTopic {
        name: "v".into(),
        num_partitions: 1,
        replication_factor: 1,
        configs: vec![create_topics::CreatableTopicConfig {
            name: "retention.ms".into(),
            value: None,
        }],
        ..create_topics::CreatableTopic::default()
    };
    let request = create_topics::Request {
        topics: vec![topic],
        timeout_ms: 10_000,
        ..create_topics::Request::default()
    };
    let refused = client.call(7, request).await.topics.remove(0);
    assert_eq!(refused.error_code, ErrorCode::INVALID_CONFIG);
    let why = refused.error_message.unwrap();
    assert!(why.ends_with("topic configs: retention.ms"), "{why}");
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_shows_its_configs_and_keeps_them() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    let (code, all) = describe(&mut client, BROKER, "1").await;
    assert_eq!(code, ErrorCode::NONE);
    let rack = all.iter().find(|c| c.name == "broker.rack").unwrap();
    assert_eq!((rack.value.as_deref(), rack.read_only), (Some(EAST), true));
    assert_eq!(
        describe(&mut client, BROKER, "").await,
        (ErrorCode::NONE, vec![])
    );
    assert_eq!(
        describe(&mut client, BROKER, "7").await.0,
        ErrorCode::INVALID_REQUEST
    );
    assert_eq!(
        describe(&mut client, LOGGER, "1").await,
        (ErrorCode::NONE, vec![])
    );
    for (kind, name) in [(LOGGER, ""), (LOGGER, "7"), (CLIENT_METRICS, "")] {
        let refused = describe(&mut client, kind, name).await.0;
        assert_eq!(refused, ErrorCode::INVALID_REQUEST, "{kind} {name}");
    }
    let (code, metrics) = describe(&mut client, CLIENT_METRICS, "any").await;
    assert_eq!((code, metrics.len()), (ErrorCode::NONE, 3));
    assert_eq!(metrics[0].value.as_deref(), Some("300000"));
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

/// Name, value and source of each config that was set on the resource itself.
async fn own(client: &mut Client, kind: i8, name: &str) -> Vec<(String, String, i8)> {
    let (code, all) = describe(client, kind, name).await;
    assert_eq!(code, ErrorCode::NONE);
    all.into_iter()
        .filter(|c| [2, 3, 8].contains(&c.config_source))
        .map(|c| (c.name, c.value.unwrap_or_default(), c.config_source))
        .collect()
}

fn told(name: &str, value: &str, source: i8) -> (String, String, i8) {
    (name.into(), value.into(), source)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_on_brokers_is_kept_told_and_taken_off() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    let one = (BROKER, "1");
    let set = [
        ("background.threads", 0, Some("9")),
        ("log.cleanup.policy", 2, Some("compact")),
    ];
    assert_eq!(alter(&mut client, one, &set, true).await.0, ErrorCode::NONE);
    assert_eq!(own(&mut client, BROKER, "1").await, [], "only looked at");
    assert_eq!(
        alter(&mut client, one, &set, false).await.0,
        ErrorCode::NONE
    );
    let both = [
        told("background.threads", "9", 2),
        told("log.cleanup.policy", "delete,compact", 2),
    ];
    assert_eq!(own(&mut client, BROKER, "1").await, both);
    let (_, all) = describe(&mut client, BROKER, "1").await;
    let threads = all.iter().find(|c| c.name == "background.threads").unwrap();
    let doc = threads.documentation.as_deref().unwrap();
    assert!(doc.starts_with("Kept without effect") && !threads.read_only);

    // All brokers' value shows where a broker has none.
    let of_all = [
        ("background.threads", 0, Some("7")),
        ("num.io.threads", 0, Some("5")),
    ];
    let done = alter(&mut client, (BROKER, ""), &of_all, false).await;
    assert_eq!(done.0, ErrorCode::NONE);
    let shown = own(&mut client, BROKER, "1").await;
    assert_eq!(shown[..2], both);
    assert_eq!(shown[2..], [told("num.io.threads", "5", 3)]);
    assert_eq!(own(&mut client, BROKER, "").await.len(), 2);

    let gone = [
        ("background.threads", 1, None),
        ("log.cleanup.policy", 3, Some("compact")),
    ];
    assert_eq!(
        alter(&mut client, one, &gone, false).await.0,
        ErrorCode::NONE
    );
    let left = own(&mut client, BROKER, "1").await;
    assert_eq!(left[0], told("background.threads", "7", 3));
    assert_eq!(left[1], told("log.cleanup.policy", "delete", 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_take_only_what_is_known_and_the_older_call_replaces() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    let one = (BROKER, "1");
    let set = [("num.io.threads", 0, Some("9"))];
    let done = alter(&mut client, one, &set, false).await;
    assert_eq!(done.0, ErrorCode::NONE);
    for (name, value, word) in [
        ("no.such.config", "1", "no.such.config"),
        ("node.id", "4", "dynamically"),
        ("background.threads", "0", "from 1"),
        ("sasl.jaas.config", "secret", "dynamically"),
    ] {
        let (code, why) = alter(&mut client, one, &[(name, 0, Some(value))], false).await;
        assert_eq!(code, ErrorCode::INVALID_REQUEST, "{name}");
        assert!(why.contains(word), "{name}: {why}");
    }
    let kerberos = [("sasl.kerberos.min.time.before.relogin", 0, Some("58000"))];
    let refused = alter(&mut client, (BROKER, ""), &kerberos, false).await;
    assert!(refused.1.contains("broker id must be specified"));
    for name in ["2", "x"] {
        let refused = alter(&mut client, (BROKER, name), &kerberos, false).await;
        assert_eq!(refused.0, ErrorCode::INVALID_REQUEST);
    }

    // The older call replaces.
    let resource = alter_configs::AlterConfigsResource {
        resource_type: BROKER,
        resource_name: "1".into(),
        configs: vec![alter_configs::AlterableConfig {
            name: kerberos[0].0.into(),
            value: kerberos[0].2.map(Into::into),
        }],
    };
    let request = alter_configs::Request {
        resources: vec![resource],
        validate_only: false,
    };
    let replaced = client.call(2, request).await.responses.remove(0);
    assert_eq!(replaced.error_code, ErrorCode::NONE);
    let left = own(&mut client, BROKER, "1").await;
    assert_eq!(left, [told(kerberos[0].0, "58000", 2)]);
}

async fn heartbeat_interval(member: &mut Patient) -> i32 {
    let request = consumer_group_heartbeat::Request {
        group_id: "g".into(),
        member_id: "a".into(),
        rebalance_timeout_ms: 10_000,
        subscribed_topic_names: Some(vec!["t".into()]),
        topic_partitions: Some(Vec::new()),
        ..consumer_group_heartbeat::Request::default()
    };
    let answer = member
        .settled(1, &request, |answer| answer.error_code)
        .await;
    assert_eq!(answer.error_code, ErrorCode::NONE);
    answer.heartbeat_interval_ms
}

#[tokio::test(flavor = "multi_thread")]
async fn a_groups_configs_are_told_listed_and_in_force() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    let mut member = Patient::new(broker.handle.kafka);
    assert_eq!(own(&mut client, GROUP, "g").await, [], "there is no group");
    let (_, defaults) = describe(&mut client, GROUP, "g").await;
    let session = defaults
        .iter()
        .find(|c| c.name == "consumer.session.timeout.ms")
        .unwrap();
    assert_eq!(session.value.as_deref(), Some("45000"));
    assert_eq!(
        session.synonyms[0].name,
        "group.consumer.session.timeout.ms"
    );

    assert_eq!(heartbeat_interval(&mut member).await, 5_000);
    let group = (GROUP, "g");
    let set = [
        ("consumer.heartbeat.interval.ms", 0, Some("15000")),
        ("consumer.session.timeout.ms", 0, Some("50000")),
        ("share.isolation.level", 0, Some("read_committed")),
    ];
    assert_eq!(
        alter(&mut client, group, &set, false).await.0,
        ErrorCode::NONE
    );
    assert_eq!(heartbeat_interval(&mut member).await, 15_000);
    let shown = own(&mut client, GROUP, "g").await;
    let wanted = set.map(|(name, _, value)| told(name, value.unwrap(), 8));
    assert_eq!(shown, wanted);
    let (_, all) = describe(&mut client, GROUP, "g").await;
    let share = all.iter().find(|c| c.name == set[2].0).unwrap();
    let doc = share.documentation.as_deref().unwrap();
    assert!(doc.starts_with("Kept without effect"));

    let request = list_config_resources::Request {
        resource_types: vec![GROUP],
    };
    let listed = client.call(1, request.clone()).await.config_resources;
    assert_eq!((listed.len(), &*listed[0].resource_name), (1, "g"));

    for (name, value) in [
        ("no.such.config", "1"),
        ("consumer.session.timeout.ms", "44999"),
        ("consumer.session.timeout.ms", "60001"),
    ] {
        let (code, why) = alter(&mut client, group, &[(name, 0, Some(value))], false).await;
        assert_eq!(code, ErrorCode::INVALID_CONFIG, "{why}");
    }
    let nameless = alter(&mut client, (GROUP, ""), &set, false).await;
    assert_eq!(nameless.0, ErrorCode::INVALID_REQUEST);

    let gone = set.map(|(name, ..)| (name, 1, None::<&str>));
    assert_eq!(
        alter(&mut client, group, &gone, false).await.0,
        ErrorCode::NONE
    );
    assert_eq!(heartbeat_interval(&mut member).await, 5_000);
    let listed = client.call(1, request).await.config_resources;
    assert_eq!(listed, []);
}
