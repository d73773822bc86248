//! What operators' tools ask for besides configs and quotas.

use whimbrel_wire::{
    ErrorCode,
    messages::{
        alter_partition_reassignments as reassign, describe_log_dirs, describe_quorum,
        describe_topic_partitions as pages, elect_leaders, list_config_resources,
        list_partition_reassignments, update_features,
    },
};

use crate::{
    client::{Client, batch},
    fleet::{EAST, Fleet},
};

async fn page(
    client: &mut Client,
    topics: &[&str],
    limit: i32,
    cursor: Option<pages::Cursor>,
) -> pages::Response {
    let topics = topics.iter().map(|name| pages::TopicRequest {
        name: (*name).into(),
    });
    let request = pages::Request {
        topics: topics.collect(),
        response_partition_limit: limit,
        cursor,
    };
    client.call(0, request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_described_page_by_page() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    for (name, partitions) in [("a", 3), ("b", 2), ("c", 4)] {
        assert_eq!(
            client.create_topic(name, partitions, &[]).await,
            ErrorCode::NONE
        );
    }
    let (mut seen, mut cursor) = (Vec::new(), None);
    for _ in 0..20 {
        let answer = page(&mut client, &["c", "a", "b"], 2, cursor).await;
        for topic in &answer.topics {
            assert_eq!(topic.error_code, ErrorCode::NONE);
            for partition in &topic.partitions {
                assert_eq!(
                    (partition.leader_id, &partition.replica_nodes[..]),
                    (1, &[1][..])
                );
                seen.push((topic.name.clone().unwrap(), partition.partition_index));
            }
        }
        cursor = answer.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    let wanted: Vec<_> = [("a", 3), ("b", 2), ("c", 4)]
        .into_iter()
        .flat_map(|(name, count)| (0..count).map(move |p| (name.to_owned(), p)))
        .collect();
    assert_eq!(seen, wanted);
    let all = page(&mut client, &[], 2_000, None).await;
    assert_eq!(all.topics.len(), 4);
    assert!(all.topics.iter().any(|t| t.is_internal));
    let odd = page(&mut client, &["nowhere", "../x"], 1, None).await;
    let codes: Vec<_> = odd.topics.iter().map(|t| t.error_code).collect();
    assert_eq!(
        codes,
        [
            ErrorCode::INVALID_TOPIC_EXCEPTION,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        ]
    );
    let bad = pages::Cursor {
        topic_name: "a".into(),
        partition_index: -1,
    };
    let refused = page(&mut client, &["a"], 1, Some(bad)).await;
    assert_eq!(refused.topics[0].error_code, ErrorCode::INVALID_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quorum_is_the_controllers() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    let topic = describe_quorum::TopicData {
        topic_name: "__cluster_metadata".into(),
        partitions: vec![
            describe_quorum::PartitionData { partition_index: 0 },
            describe_quorum::PartitionData { partition_index: 1 },
        ],
    };
    let request = describe_quorum::Request {
        topics: vec![topic],
    };
    let answer = client.call(2, request).await;
    let quorum = &answer.topics[0].partitions[0];
    assert_eq!((quorum.error_code, quorum.leader_id), (ErrorCode::NONE, 1));
    assert_eq!(quorum.current_voters.len(), 1);
    assert!(quorum.high_watermark > 0);
    assert_eq!(answer.nodes[0].listeners[0].port, fleet.controller.port);
    let other = &answer.topics[0].partitions[1];
    assert_eq!(other.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_election_that_is_not_needed_says_so() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    assert_eq!(client.create_topic("t", 1, &[]).await, ErrorCode::NONE);

    let elect = |partitions| elect_leaders::Request {
        election_type: 0,
        topic_partitions: partitions,
        timeout_ms: 1_000,
    };
    let named = elect_leaders::TopicPartitions {
        topic: "t".into(),
        partitions: vec![0, 1],
    };
    let answer = client.call(2, elect(Some(vec![named]))).await;
    let codes: Vec<_> = answer.replica_election_results[0]
        .partition_result
        .iter()
        .map(|p| p.error_code)
        .collect();
    assert_eq!(
        codes,
        [
            ErrorCode::ELECTION_NOT_NEEDED,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        ]
    );
    let all = client.call(2, elect(None)).await;
    assert!(all.replica_election_results.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_elsewhere_and_unknown_features_are_refused() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    assert_eq!(client.create_topic("t", 1, &[]).await, ErrorCode::NONE);

    let asked = |partition_index, replicas| reassign::ReassignablePartition {
        partition_index,
        replicas,
    };
    let topic = reassign::ReassignableTopic {
        name: "t".into(),
        partitions: vec![
            asked(0, None),
            asked(0, Some(vec![1])),
            asked(0, Some(vec![2])),
            asked(7, None),
        ],
    };
    let request = reassign::Request {
        topics: vec![topic],
        ..reassign::Request::default()
    };
    let answer = client.call(1, request).await;
    let codes: Vec<_> = answer.responses[0]
        .partitions
        .iter()
        .map(|p| p.error_code)
        .collect();
    assert_eq!(
        codes,
        [
            ErrorCode::NO_REASSIGNMENT_IN_PROGRESS,
            ErrorCode::NONE,
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ]
    );
    let request = list_partition_reassignments::Request::default();
    let under_way = client.call(0, request).await;
    assert!(under_way.error_code.is_none() && under_way.topics.is_empty());

    let update = update_features::FeatureUpdateKey {
        feature: "metadata.version".into(),
        max_version_level: 1,
        ..update_features::FeatureUpdateKey::default()
    };
    let request = update_features::Request {
        feature_updates: vec![update],
        ..update_features::Request::default()
    };
    let answer = client.call(2, request.clone()).await;
    assert_eq!(answer.error_code, ErrorCode::INVALID_UPDATE_VERSION);
    let answer = client.call(1, request).await;
    assert_eq!(
        answer.results[0].error_code,
        ErrorCode::INVALID_UPDATE_VERSION
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn config_resources_are_listed() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    assert_eq!(client.create_topic("t", 1, &[]).await, ErrorCode::NONE);
    let list = async |client: &mut Client, version: i16, types: &[i8]| {
        let request = list_config_resources::Request {
            resource_types: types.to_vec(),
        };
        let answer: list_config_resources::Response = client.call(version, request).await;
        let names = answer
            .config_resources
            .into_iter()
            .map(|r| (r.resource_type, r.resource_name));
        (answer.error_code, names.collect::<Vec<_>>())
    };
    let (_, brokers) = list(&mut client, 1, &[4]).await;
    assert_eq!(brokers, [(4, "1".to_owned())]);
    let (_, all) = list(&mut client, 1, &[]).await;
    assert!(
        all.contains(&(2, "t".to_owned())) && all.len() == 3,
        "{all:?}"
    );
    assert_eq!(list(&mut client, 0, &[]).await, (ErrorCode::NONE, vec![]));
    assert_eq!(
        list(&mut client, 1, &[99]).await.0,
        ErrorCode::UNSUPPORTED_VERSION
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_are_described_by_what_each_partition_takes_of_them() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    assert_eq!(client.create_topic("t", 1, &[]).await, ErrorCode::NONE);
    client.produce_ok("t", 0, batch(&["a"])).await;
    let second = batch(&["of another size"]);
    let size = i64::try_from(second.len()).unwrap();
    assert_eq!(client.create_topic("u", 2, &[]).await, ErrorCode::NONE);
    for _ in 0..2 {
        client.produce_ok("u", 1, second.clone()).await;
    }
    let mut dirs = async |topics: Option<&[(&str, &[i32])]>| {
        let asked =
            |(topic, partitions): &(&str, &[i32])| describe_log_dirs::DescribableLogDirTopic {
                topic: (*topic).into(),
                partitions: partitions.to_vec(),
            };
        let request = describe_log_dirs::Request {
            topics: topics.map(|all| all.iter().map(asked).collect()),
        };
        let dir = client.call(4, request).await.results.remove(0);
        assert!(dir.total_bytes > dir.usable_bytes && dir.usable_bytes > 0);
        let mut found = Vec::new();
        for topic in dir.topics {
            let of = |p: &describe_log_dirs::DescribeLogDirsPartition| {
                assert!(p.offset_lag == 0 && !p.is_future_key, "{p:?}");
                (topic.name.clone(), p.partition_index, p.partition_size)
            };
            found.extend(topic.partitions.iter().map(of));
        }
        found.sort();
        found
    };
    let t = (
        "t".to_owned(),
        0,
        i64::try_from(batch(&["a"]).len()).unwrap(),
    );
    let [empty, full] = [(0, 0), (1, 2 * size)].map(|(p, size)| ("u".to_owned(), p, size));
    let all = dirs(None).await;
    assert!(
        [&t, &empty, &full].iter().all(|p| all.contains(p)),
        "{all:?}"
    );
    let only = dirs(Some(&[("u", &[1])])).await;
    assert_eq!(only, std::slice::from_ref(&full));
    assert_eq!(
        dirs(Some(&[("u", &[]), ("none", &[])])).await,
        [empty, full]
    );
    assert_eq!(dirs(Some(&[])).await, []);
}
