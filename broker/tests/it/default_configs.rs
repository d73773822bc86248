//! What is set for all brokers: the defaults of topics.

use std::collections::BTreeMap;

use whimbrel_broker::Options;
use whimbrel_fleet::NodeId;
use whimbrel_wire::{ErrorCode, messages::metadata};

use crate::{
    client::{Client, batch},
    configs::{BROKER, Described, alter, config, describe},
    fleet::{Broker, EAST, Fleet, WEST, eventually},
};

const ALL: (i8, &str) = (BROKER, "");

fn told(config: &Described) -> (Option<&str>, i8, Vec<(&str, i8)>) {
    let synonyms = config.synonyms.iter();
    let synonyms = synonyms.map(|s| (s.name.as_str(), s.source));
    (
        config.value.as_deref(),
        config.config_source,
        synonyms.collect(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_falls_back_to_what_is_set_for_all_brokers() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    client
        .create_topic("own", 1, &[("max.message.bytes", "3000")])
        .await;
    client.create_topic("t", 1, &[]).await;
    let large = batch(&[&"x".repeat(2_000)]);
    client.produce_ok("t", 0, large.clone()).await;
    let set = [
        ("message.max.bytes", 0, Some("1000")),
        ("log.retention.ms", 0, Some("60000")),
    ];
    assert_eq!(
        alter(&mut client, ALL, &set, false).await.0,
        ErrorCode::NONE
    );
    eventually("the bound in force", async || {
        let refused = client.produce("t", 0, large.clone()).await.error_code;
        (refused == ErrorCode::MESSAGE_TOO_LARGE).then_some(())
    })
    .await;
    client.produce_ok("own", 0, large.clone()).await;
    let of_t = config(&mut client, "t", "max.message.bytes").await;
    let beneath = vec![("message.max.bytes", 3), ("message.max.bytes", 5)];
    assert_eq!(told(&of_t), (Some("1000"), 3, beneath.clone()));
    let own = config(&mut client, "own", "max.message.bytes").await;
    let mut all = vec![("max.message.bytes", 1)];
    all.extend(beneath);
    assert_eq!(told(&own), (Some("3000"), 1, all));
    // What the fleet keeps for itself does not change with it.
    let offsets = config(&mut client, "__consumer_offsets", "retention.ms").await;
    assert_eq!(offsets.config_source, 5);
    let gone = [("message.max.bytes", 1, None)];
    assert_eq!(
        alter(&mut client, ALL, &gone, false).await.0,
        ErrorCode::NONE
    );
    eventually("the bound gone", async || {
        let answer = client.produce("t", 0, large.clone()).await;
        answer.error_code.is_none().then_some(())
    })
    .await;
}

/// Three brokers at home and one in the other region, which make topics that are asked for.
async fn three_and_one(fleet: &Fleet) -> BTreeMap<NodeId, Broker> {
    let mut brokers = BTreeMap::new();
    for (id, region) in [(1, EAST), (2, EAST), (3, EAST), (4, WEST)] {
        let options = Options {
            auto_create_topics: true,
            ..fleet.options(id, region)
        };
        brokers.insert(NodeId(id), fleet.try_broker(options).await.unwrap());
    }
    brokers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_does_not_say_has_as_many_copies_and_partitions_as_all_are_given() {
    let fleet = Fleet::start().await;
    let mut brokers = three_and_one(&fleet).await;
    let mut client = Client::connect(brokers[&NodeId(1)].handle.kafka).await;
    for (name, value) in [
        ("default.replication.factor", "2"),
        ("num.partitions", "3"),
        ("min.insync.replicas", "2"),
    ] {
        let one = [(name, 0, Some(value))];
        let refused = alter(&mut client, (BROKER, "1"), &one, false).await;
        assert_eq!(refused.0, ErrorCode::INVALID_REQUEST, "{name}");
        assert_eq!(
            alter(&mut client, ALL, &one, false).await.0,
            ErrorCode::NONE
        );
    }
    let (_, shown) = describe(&mut client, BROKER, "1").await;
    let shown: Vec<_> = shown
        .iter()
        .filter(|c| c.config_source == 3)
        .map(told)
        .collect();
    let synonyms = |name| vec![(name, 3), (name, 5)];
    let wanted = [
        (Some("2"), 3, synonyms("default.replication.factor")),
        (Some("2"), 3, synonyms("min.insync.replicas")),
        (Some("3"), 3, synonyms("num.partitions")),
    ];
    assert_eq!(shown, wanted);
    eventually("the topic", async || {
        let created = client.create_topic_of("created", -1, -1, &[]).await;
        (created == ErrorCode::NONE || created == ErrorCode::TOPIC_ALREADY_EXISTS).then_some(())
    })
    .await;
    let asked = metadata::MetadataRequestTopic {
        name: Some("looked-for".into()),
        ..metadata::MetadataRequestTopic::default()
    };
    let request = metadata::Request {
        topics: Some(vec![asked]),
        allow_auto_topic_creation: true,
        ..metadata::Request::default()
    };
    client.call(12, request).await;
    for name in ["created", "looked-for"] {
        let topic = eventually("the topic", async || fleet.view().topics.get(name).cloned()).await;
        assert_eq!(topic.partitions.len(), 3);
        let copies = |region: &str| topic.partitions[0].replicas[&region.into()].len();
        assert_eq!((copies(EAST), copies(WEST)), (2, 1));
    }
    let mut own = config(&mut client, "created", "min.insync.replicas").await;
    assert_eq!(
        (own.value.take().as_deref(), own.config_source),
        (Some("2"), 3)
    );
    // With one of the two copies gone nothing is acknowledged to who asks for all.
    let partition = fleet.view().topics["created"].partitions[0].clone();
    let leader = partition.leader.unwrap();
    let mut others = partition.replicas[&EAST.into()]
        .iter()
        .filter(|n| **n != leader);
    let other = others.next().unwrap();
    brokers.remove(other).unwrap().kill().await;
    let mut client = Client::connect(brokers[&leader].handle.kafka).await;
    eventually("a refusal", async || {
        let answer = client.produce("created", 0, batch(&["v"])).await;
        (answer.error_code == ErrorCode::NOT_ENOUGH_REPLICAS).then_some(())
    })
    .await;
}
