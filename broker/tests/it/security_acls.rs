//! What a known client may do, over the wire: entries made by the super user, asked by everything that follows.

use whimbrel_broker::auth;
use whimbrel_wire::{
    ErrorCode,
    messages::{
        consumer_group_describe, consumer_group_heartbeat, create_acls, delete_acls, describe_acls,
        fetch, find_coordinator, init_producer_id, join_group, metadata,
    },
};

use crate::{
    client::{Client, batch, fetch_request},
    epochs::{OF_GROUPS, coordinator},
    fleet::{Broker, EAST, Fleet, eventually},
    sasl::{self, ROOT},
};

const TOPIC: i8 = 2;
const GROUP: i8 = 3;
const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;
const READ: i8 = 3;
const WRITE: i8 = 4;
const DENY: i8 = 2;
const ALLOW: i8 = 3;
const ANY: i8 = 1;

async fn asking() -> (Fleet, Broker, Client) {
    let auth = auth::Options {
        super_users: vec![ROOT.into()],
        ..auth::Options::default()
    };
    let (fleet, broker) = sasl::asking(auth).await;
    let mut root = sasl::known(&broker, ROOT).await;
    for topic in ["orders", "other"] {
        assert_eq!(root.create_topic(topic, 1, &[]).await, ErrorCode::NONE);
        root.produce_ok(topic, 0, batch(&["first"])).await;
    }
    (fleet, broker, root)
}

async fn add(
    root: &mut Client,
    (resource_type, resource_pattern_type, name): (i8, i8, &str),
    operation: i8,
    permission_type: i8,
) -> ErrorCode {
    let creation = create_acls::AclCreation {
        resource_type,
        resource_name: name.into(),
        resource_pattern_type,
        principal: "User:ann".into(),
        host: "*".into(),
        operation,
        permission_type,
    };
    let creations = vec![creation];
    let request = create_acls::Request { creations };
    root.call(3, request).await.results[0].error_code
}

/// Takes away what is said of a resource; how much that was.
async fn take_away(root: &mut Client, name: Option<&str>) -> usize {
    let filter = delete_acls::DeleteAclsFilter {
        resource_type_filter: ANY,
        resource_name_filter: name.map(Into::into),
        pattern_type_filter: ANY,
        principal_filter: None,
        host_filter: None,
        operation: ANY,
        permission_type: ANY,
    };
    let request = delete_acls::Request {
        filters: vec![filter],
    };
    let answer = root.call(3, request).await;
    assert_eq!(answer.filter_results[0].error_code, ErrorCode::NONE);
    answer.filter_results[0].matching_acls.len()
}

async fn fetched(client: &mut Client, topic: &str) -> ErrorCode {
    client.fetch(topic, 0, 0, 0).await.error_code
}

async fn produced(client: &mut Client, topic: &str) -> ErrorCode {
    client.produce(topic, 0, batch(&["more"])).await.error_code
}

const REFUSED: ErrorCode = ErrorCode::TOPIC_AUTHORIZATION_FAILED;

#[tokio::test(flavor = "multi_thread")]
async fn records_go_to_and_come_from_those_who_may() {
    let (_fleet, broker, mut root) = asking().await;
    let mut ann = sasl::known(&broker, "ann").await;
    assert_eq!(produced(&mut ann, "orders").await, REFUSED);
    assert_eq!(fetched(&mut ann, "orders").await, REFUSED);
    assert_eq!(
        fetched(&mut ann, "not there").await,
        REFUSED,
        "which is not told"
    );
    let orders = (TOPIC, PREFIXED, "ord");
    assert_eq!(add(&mut root, orders, READ, ALLOW).await, ErrorCode::NONE);
    assert_eq!(fetched(&mut ann, "orders").await, ErrorCode::NONE);
    assert_eq!(produced(&mut ann, "orders").await, REFUSED);
    assert_eq!(fetched(&mut ann, "other").await, REFUSED);
    let all = (TOPIC, LITERAL, "*");
    assert_eq!(add(&mut root, all, WRITE, ALLOW).await, ErrorCode::NONE);
    assert_eq!(produced(&mut ann, "orders").await, ErrorCode::NONE);
    assert_eq!(produced(&mut ann, "other").await, ErrorCode::NONE);
    let denied = (TOPIC, LITERAL, "orders");
    assert_eq!(add(&mut root, denied, WRITE, DENY).await, ErrorCode::NONE);
    assert_eq!(produced(&mut ann, "orders").await, REFUSED);
    assert_eq!(fetched(&mut ann, "orders").await, ErrorCode::NONE);
    assert_eq!(take_away(&mut root, None).await, 3);
    assert_eq!(fetched(&mut ann, "orders").await, REFUSED);
    assert_eq!(root.consume("orders", 0, 0).await.len(), 2);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_session_does_not_outlive_the_right_to_read() {
    let (_fleet, broker, mut root) = asking().await;
    let mut ann = sasl::known(&broker, "ann").await;
    add(&mut root, (TOPIC, LITERAL, "orders"), READ, ALLOW).await;
    let topic_id = root.metadata("orders").await.topics[0].topic_id;
    let mut request = fetch_request("", 0, 0, 0);
    request.topics[0].topic_id = topic_id;
    request.session_epoch = 0;
    let opened = ann.call(13, request).await;
    assert_eq!(
        opened.responses[0].partitions[0].error_code,
        ErrorCode::NONE
    );
    assert_ne!(opened.session_id, 0);
    take_away(&mut root, Some("orders")).await;
    let again = fetch::Request {
        session_id: opened.session_id,
        session_epoch: 1,
        topics: Vec::new(),
        ..fetch_request("", 0, 0, 0)
    };
    let answer = ann.call(13, again).await;
    assert_eq!(answer.responses[0].partitions[0].error_code, REFUSED);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_and_groups_of_others_are_not_seen() {
    let (_fleet, broker, mut root) = asking().await;
    let mut ann = sasl::known(&broker, "ann").await;
    let all = || metadata::Request {
        topics: None,
        ..metadata::Request::default()
    };
    assert_eq!(ann.call(12, all()).await.topics, []);
    assert!(root.call(12, all()).await.topics.len() >= 2);
    let named = ann.metadata("orders").await;
    assert_eq!(named.topics[0].error_code, REFUSED);
    assert_eq!(ann.create_topic("mine", 1, &[]).await, REFUSED);
    let find = || find_coordinator::Request {
        coordinator_keys: vec!["g".into()],
        ..find_coordinator::Request::default()
    };
    let join = || join_group::Request {
        group_id: "g".into(),
        session_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        ..join_group::Request::default()
    };
    let refused = ErrorCode::GROUP_AUTHORIZATION_FAILED;
    assert_eq!(
        ann.call(4, find()).await.coordinators[0].error_code,
        refused
    );
    assert_eq!(ann.call(9, join()).await.error_code, refused);
    add(&mut root, (GROUP, LITERAL, "g"), READ, ALLOW).await;
    assert_ne!(ann.call(9, join()).await.error_code, refused);
    assert_ne!(
        ann.call(4, find()).await.coordinators[0].error_code,
        refused
    );
    let refused = ErrorCode::CLUSTER_AUTHORIZATION_FAILED;
    let ids = || init_producer_id::Request {
        transactional_id: None,
        ..init_producer_id::Request::default()
    };
    assert_eq!(ann.call(4, ids()).await.error_code, refused);
    assert_eq!(
        add(&mut ann, (TOPIC, LITERAL, "*"), WRITE, ALLOW).await,
        refused
    );
    add(&mut root, (TOPIC, LITERAL, "orders"), WRITE, ALLOW).await;
    assert_eq!(ann.call(4, ids()).await.error_code, ErrorCode::NONE);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_described_by_resource_and_nonsense_is_refused() {
    let (_fleet, broker, mut root) = asking().await;
    let orders = (TOPIC, LITERAL, "orders");
    for operation in [READ, WRITE] {
        assert_eq!(
            add(&mut root, orders, operation, ALLOW).await,
            ErrorCode::NONE
        );
    }
    add(&mut root, (TOPIC, PREFIXED, "ord"), READ, DENY).await;
    let describe = |pattern_type_filter, name: Option<&str>| describe_acls::Request {
        resource_type_filter: TOPIC,
        resource_name_filter: name.map(Into::into),
        pattern_type_filter,
        principal_filter: Some("User:ann".into()),
        host_filter: None,
        operation: ANY,
        permission_type: ANY,
    };
    let matching = root.call(3, describe(2, Some("orders"))).await;
    let found = matching.resources.iter();
    let found: Vec<_> = found.map(|it| (it.pattern_type, it.acls.len())).collect();
    assert_eq!(found, [(LITERAL, 2), (PREFIXED, 1)]);
    let literal = root.call(3, describe(LITERAL, Some("orders"))).await;
    assert_eq!(literal.resources.len(), 1);
    let odd = root.call(3, describe(77, None)).await;
    assert_eq!(odd.error_code, ErrorCode::INVALID_REQUEST);
    for (on, operation, permission) in [
        ((TOPIC, 2, "t"), READ, ALLOW),
        ((ANY, LITERAL, "t"), READ, ALLOW),
        ((TOPIC, LITERAL, ""), READ, ALLOW),
        ((TOPIC, LITERAL, "t"), ANY, ALLOW),
        ((TOPIC, LITERAL, "t"), READ, ANY),
        ((4, LITERAL, "another-cluster"), 5, ALLOW),
    ] {
        let refused = add(&mut root, on, operation, permission).await;
        assert_eq!(refused, ErrorCode::INVALID_REQUEST, "{on:?}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_is_anonymous_where_that_is_said() {
    let fleet = Fleet::start().await;
    let auth = auth::Options {
        mechanisms: Vec::new(),
        anonymous: true,
        allow_everyone_if_no_acl: true,
        ..auth::Options::default()
    };
    let broker = fleet.try_broker(sasl::options(&fleet, auth)).await.unwrap();
    let mut client = Client::connect(broker.handle.kafka).await;
    assert_eq!(client.create_topic("t", 1, &[]).await, ErrorCode::NONE);
    client.produce_ok("t", 0, batch(&["a"])).await;
    // From the first entry on the list decides.
    add(&mut client, (TOPIC, LITERAL, "t"), READ, ALLOW).await;
    eventually("the entry", async || {
        (produced(&mut client, "t").await == REFUSED).then_some(())
    })
    .await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_asks_nobody_says_that_entries_are_not_looked_at() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    let refused = add(&mut client, (TOPIC, LITERAL, "t"), READ, ALLOW).await;
    assert_eq!(refused, ErrorCode::SECURITY_DISABLED);
    broker.stop().await;
}

/// Joins a group with an expression that fits every topic; the topics it is given.
async fn join_all(client: &mut Client, group: &str) -> Vec<uuid::Uuid> {
    let request = consumer_group_heartbeat::Request {
        group_id: group.into(),
        member_id: "m".into(),
        rebalance_timeout_ms: 60_000,
        subscribed_topic_regex: Some(".*".into()),
        topic_partitions: Some(Vec::new()),
        ..consumer_group_heartbeat::Request::default()
    };
    let joined = eventually("a coordinator", async || {
        let answer = client.call(1, request.clone()).await;
        (!answer.error_code.is_retryable()).then_some(answer)
    })
    .await;
    assert_eq!(joined.error_code, ErrorCode::NONE);
    let given = joined.assignment.unwrap().topic_partitions;
    given.into_iter().map(|topic| topic.topic_id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expression_tells_nobody_of_topics_that_it_may_not_describe() {
    let (_fleet, broker, mut root) = asking().await;
    let mut ann = sasl::known(&broker, "ann").await;
    for place in [(TOPIC, LITERAL, "orders"), (GROUP, PREFIXED, "app")] {
        assert_eq!(add(&mut root, place, READ, ALLOW).await, ErrorCode::NONE);
    }
    coordinator(&mut root, "app-ann", OF_GROUPS).await;
    let orders = root.metadata("orders").await.topics[0].topic_id;
    assert_eq!(join_all(&mut ann, "app-ann").await, [orders]);
    assert_eq!(join_all(&mut root, "app-root").await.len(), 2);
    let request = consumer_group_describe::Request {
        group_ids: vec!["app-ann".into(), "app-root".into()],
        include_authorized_operations: true,
    };
    let told = ann.call(1, request.clone()).await.groups;
    assert_eq!(told[0].error_code, ErrorCode::NONE);
    assert_eq!(told[0].members[0].member_id, "m");
    assert_eq!(told[1].error_code, REFUSED);
    assert_eq!(told[1].members, []);
    assert_eq!(
        told[1].error_message.as_deref(),
        Some("The group has described topic(s) that the client is not authorized to describe.")
    );
    let told = root.call(1, request).await.groups;
    assert!(told.iter().all(|group| group.error_code.is_none()));
    broker.stop().await;
}
