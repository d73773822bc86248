//! What a client may do is told where it asks for it: everything, where nobody asks who it is.

use whimbrel_wire::messages::{
    consumer_group_describe, describe_cluster, describe_groups, describe_topic_partitions, metadata,
};

use crate::{
    client::Client,
    epochs::{OF_GROUPS, coordinator},
    fleet::{EAST, Fleet, eventually},
};

const ON_TOPIC: i32 = 0b1101_1111_1000;
const ON_GROUP: i32 = 0b1101_0100_1000;
const ON_CLUSTER: i32 = 0b1_1111_1010_0000;
const NOT_ASKED: i32 = i32::MIN;

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_is_told_where_nobody_is_asked_who_it_is() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    client.create_topic("t", 1, &[]).await;
    for (wanted, on_topic, on_cluster) in
        [(true, ON_TOPIC, ON_CLUSTER), (false, NOT_ASKED, NOT_ASKED)]
    {
        let request = metadata::Request {
            topics: None,
            include_cluster_authorized_operations: wanted,
            include_topic_authorized_operations: wanted,
            ..metadata::Request::default()
        };
        let told = client.call(10, request).await;
        assert_eq!(told.topics[0].topic_authorized_operations, on_topic);
        assert_eq!(told.cluster_authorized_operations, on_cluster);
        let request = describe_cluster::Request {
            include_cluster_authorized_operations: wanted,
            ..describe_cluster::Request::default()
        };
        let told = client.call(1, request).await;
        assert_eq!(told.cluster_authorized_operations, on_cluster);
    }
    let request = describe_topic_partitions::Request {
        response_partition_limit: 10,
        ..describe_topic_partitions::Request::default()
    };
    let told = client.call(0, request).await;
    assert_eq!(told.topics[0].topic_authorized_operations, ON_TOPIC);

    coordinator(&mut client, "g", OF_GROUPS).await;
    let request = describe_groups::Request {
        groups: vec!["g".into()],
        include_authorized_operations: true,
    };
    let told = eventually("a coordinator", async || {
        let told = client.call(5, request.clone()).await.groups.remove(0);
        told.error_code.is_none().then_some(told)
    })
    .await;
    assert_eq!(told.group_state, "Dead");
    assert_eq!(told.authorized_operations, ON_GROUP);
    let request = consumer_group_describe::Request {
        group_ids: vec!["g".into()],
        include_authorized_operations: true,
    };
    let told = client.call(0, request).await.groups.remove(0);
    assert!(told.error_code.is_error());
    assert_eq!(told.authorized_operations, NOT_ASKED);
    broker.stop().await;
}
