//! Elections, restarts, and what the client sees of them.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use whimbrel_controller::{Bootstrap, Service, StartError};
use whimbrel_fleet::{TopicId, naming::CONSUMER_OFFSETS};
use whimbrel_rpc::controller::{ControlError, NewTopic};
use whimbrel_runtime::{Shutdown, Tasks};

use crate::{
    broker::Broker,
    harness::{Fleet, HOME, TOOL, eventually},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fleet_lives_through_the_loss_and_return_of_its_leader() {
    let mut fleet = Fleet::start().await;
    let client = fleet.client(TOOL);
    let first = fleet.leader().await;
    let broker = Broker::start(&fleet, HOME, 1, "east").await;
    let created = client
        .create_topic(NewTopic::new("access.log", 3))
        .await
        .unwrap();
    let view = client.view();
    eventually("the topic in the view", || {
        view.borrow().version >= created.version
    })
    .await;
    assert_eq!(view.borrow().topics["access.log"].partitions.len(), 3);
    assert_eq!(view.borrow().topics[CONSUMER_OFFSETS].partitions.len(), 50);

    fleet.stop(first).await;
    let second = fleet.leader().await;
    assert_ne!(first, second);
    let mut repeated = NewTopic::new("access.log", 3);
    repeated.topic_id = created.topic_id;
    assert_eq!(
        client.create_topic(repeated).await.unwrap().topic_id,
        created.topic_id,
        "recognised under the new leader"
    );
    let another = client.create_topic(NewTopic::new("access.log", 3)).await;
    assert!(
        matches!(another, Err(ControlError::Kafka { error_code: 36, .. })),
        "{another:?}"
    );
    let ids = [
        client.allocate_producer_ids(broker.node.id).await.unwrap(),
        client.allocate_producer_ids(broker.node.id).await.unwrap(),
    ];
    assert!(ids[1].first >= ids[0].first + 1_000);

    fleet.restart(first).await;
    let version = client
        .create_topic(NewTopic::new("later", 1))
        .await
        .unwrap()
        .version;
    eventually("the returned voter catches up", || {
        fleet.handle(first).view().version >= version
    })
    .await;
    assert_eq!(fleet.handle(first).view(), fleet.handle(second).view());

    // All three start again from their files.
    for id in 1..=3 {
        fleet.stop(id).await;
    }
    for id in 1..=3 {
        fleet.restart(id).await;
    }
    let leader = fleet.leader().await;
    assert!(fleet.handle(leader).view().topics.contains_key("later"));
    client.delete_topic("later").await.unwrap();
    assert_eq!(client.status().await.unwrap().view.topics.len(), 2);
    broker.kill().await;
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_was_away_for_long_is_brought_up_by_a_snapshot() {
    let mut fleet = Fleet::start().await;
    let leader = fleet.leader().await;
    let away = if leader == 1 { 2 } else { 1 };
    let client = fleet.client(TOOL);
    let broker = Broker::start(&fleet, HOME, 1, "east").await;
    fleet.stop(away).await;
    // More commands than the log keeps below a snapshot.
    let ask = |_| {
        let (client, id) = (client.clone(), broker.node.id);
        async move { client.allocate_producer_ids(id).await.unwrap().first }
    };
    let firsts: BTreeSet<i64> = stream::iter(0..4_100)
        .map(ask)
        .buffer_unordered(128)
        .collect()
        .await;
    assert_eq!(firsts.len(), 4_100, "no block was given twice");
    let version = client
        .create_topic(NewTopic::new("after", 1))
        .await
        .unwrap()
        .version;
    fleet.restart(away).await;
    eventually("the returned voter catches up", || {
        fleet.handle(away).view().version >= version
    })
    .await;
    assert_eq!(fleet.handle(away).view(), fleet.handle(leader).view());
    // What it was given survives its own restart.
    fleet.stop(away).await;
    fleet.restart(away).await;
    eventually("the view comes from its files", || {
        fleet.handle(away).view().topics.contains_key("after")
    })
    .await;
    broker.kill().await;
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_another_fleet_and_bad_requests_are_refused_with_codes() {
    let mut fleet = Fleet::start().await;
    let leader = fleet.leader().await;
    let follower = if leader == 1 { 2 } else { 1 };
    fleet.stop(follower).await;
    let mut options = fleet.options(follower).clone();
    let Some(Bootstrap { regions, home, .. }) = options.bootstrap.clone() else {
        panic!("bootstrap is set")
    };
    options.bootstrap = Some(Bootstrap {
        fleet_id: "fleet-2".into(),
        regions,
        home,
    });
    let refused = loop {
        let refused = Service::start(
            options.clone(),
            Tasks::new(Shutdown::new()),
            fleet.clock.clone(),
        )
        .await
        .unwrap_err();
        if !matches!(refused, StartError::DataDir { .. }) {
            break refused;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(refused.code(), "WB-402", "{refused}");
    fleet.restart(follower).await;

    let client = fleet.client(TOOL);
    let broker = Broker::start(&fleet, HOME, 1, "east").await;
    let mut elsewhere = broker.node.clone();
    elsewhere.region = "west".into();
    let refused = client.register(&elsewhere).await;
    assert!(
        matches!(&refused, Err(ControlError::Refused { code, .. }) if code == "WB-412"),
        "{refused:?}"
    );
    let mut nil = NewTopic::new("t", 1);
    nil.topic_id = TopicId::nil();
    assert!(matches!(
        client.create_topic(nil).await,
        Err(ControlError::Kafka { error_code: 42, .. })
    ));
    let stranger = whimbrel_rpc::controller::ControllerClient::connect(
        fleet.addresses(TOOL),
        Some("fleet-9".into()),
        &fleet.tasks,
        fleet.clock.clone(),
    );
    let refused = stranger.register(&broker.node).await;
    assert!(
        matches!(&refused, Err(ControlError::Refused { code, .. }) if code == "WB-402"),
        "{refused:?}"
    );
    broker.kill().await;
    fleet.end().await;
}
