//! Fetch sessions over the wire.

use uuid::Uuid;
use whimbrel_wire::{
    ErrorCode,
    messages::fetch::{self, FetchPartition, FetchTopic, ForgottenTopic},
};

use crate::{
    client::{Client, batch, fetch_request},
    fleet::{EAST, Fleet, eventually},
};

fn request(id: i32, epoch: i32, wanted: &[(i32, i64)], max_wait_ms: i32) -> fetch::Request {
    let partitions = wanted
        .iter()
        .map(|(partition, fetch_offset)| FetchPartition {
            partition: *partition,
            fetch_offset: *fetch_offset,
            partition_max_bytes: 1 << 20,
            ..FetchPartition::default()
        });
    let topic = FetchTopic {
        topic: "t".into(),
        partitions: partitions.collect(),
        ..FetchTopic::default()
    };
    fetch::Request {
        session_id: id,
        session_epoch: epoch,
        max_wait_ms,
        min_bytes: 1,
        topics: if wanted.is_empty() {
            Vec::new()
        } else {
            vec![topic]
        },
        ..fetch::Request::default()
    }
}

/// Partitions in the answer, and the length of their records.
fn answered(response: &fetch::Response) -> Vec<(i32, usize)> {
    response
        .responses
        .iter()
        .flat_map(|topic| &topic.partitions)
        .map(|p| {
            assert_eq!(p.error_code, ErrorCode::NONE);
            (p.partition_index, p.records.as_ref().map_or(0, |r| r.len()))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_changed_is_sent_and_a_parked_fetch_wakes_for_it() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    let mut producer = Client::connect(broker.handle.kafka).await;
    assert_eq!(client.create_topic("t", 3, &[]).await, ErrorCode::NONE);
    for partition in 0..3 {
        producer.produce_ok("t", partition, batch(&["a"])).await;
    }
    let all = [(0, 1), (1, 1), (2, 1)];
    let first = client.call(12, request(0, 0, &all, 0)).await;
    let id = first.session_id;
    assert!(id > 0);
    assert_eq!(answered(&first), [(0, 0), (1, 0), (2, 0)]);

    let quiet = client.call(12, request(id, 1, &[], 0)).await;
    assert_eq!((quiet.session_id, answered(&quiet)), (id, vec![]));

    client.send(12, &request(id, 2, &[], 20_000)).await;
    producer.produce_ok("t", 1, batch(&["b"])).await;
    let (_, woken) = client.receive::<fetch::Request>(12).await;
    let woken = answered(&woken);
    assert_eq!((woken.len(), woken[0].0, woken[0].1 > 0), (1, 1, true));

    // One is read on, one is left, and the others stay without being named.
    let forgotten = ForgottenTopic {
        topic: "t".into(),
        topic_id: Uuid::nil(),
        partitions: vec![0],
    };
    let next = fetch::Request {
        forgotten_topics_data: vec![forgotten],
        ..request(id, 3, &[(1, 2)], 0)
    };
    assert_eq!(answered(&client.call(12, next).await), []);
    producer.produce_ok("t", 0, batch(&["c"])).await;
    producer.produce_ok("t", 2, batch(&["d"])).await;
    let last = answered(&client.call(12, request(id, 4, &[], 0)).await);
    assert_eq!(last.iter().map(|p| p.0).collect::<Vec<_>>(), [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_do_not_stand_are_told_apart() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    assert_eq!(client.create_topic("t", 1, &[]).await, ErrorCode::NONE);
    let begun = client.call(12, request(0, 0, &[(0, 0)], 0)).await;
    let id = begun.session_id;
    let answer = async |client: &mut Client, version: i16, request: fetch::Request| {
        let answer = client.call(version, request).await;
        assert!(answer.responses.is_empty());
        answer.error_code
    };
    assert_eq!(
        answer(&mut client, 12, request(id ^ 1, 1, &[], 0)).await,
        ErrorCode::FETCH_SESSION_ID_NOT_FOUND
    );
    assert_eq!(
        answer(&mut client, 12, request(id, 5, &[], 0)).await,
        ErrorCode::INVALID_FETCH_SESSION_EPOCH
    );
    assert_eq!(
        answer(&mut client, 13, request(id, 1, &[], 0)).await,
        ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR
    );
    // The end of a session is a full fetch of its own.
    let ended = client.call(12, request(id, -1, &[(0, 0)], 0)).await;
    assert_eq!((ended.session_id, answered(&ended)), (0, vec![(0, 0)]));
    assert_eq!(
        answer(&mut client, 12, request(id, 1, &[], 0)).await,
        ErrorCode::FETCH_SESSION_ID_NOT_FOUND
    );
    // A request before sessions were there is not one of any.
    let mut old = fetch_request("t", 0, 0, 0);
    (old.session_id, old.session_epoch) = (9, 9);
    let old = client.call(6, old).await;
    assert_eq!((old.session_id, answered(&old)), (0, vec![(0, 0)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_by_topic_id_hear_that_the_topic_went() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    assert_eq!(client.create_topic("t", 1, &[]).await, ErrorCode::NONE);
    let topic_id = client.metadata("t").await.topics[0].topic_id;
    let mut by_id = request(0, 0, &[(0, 0)], 0);
    by_id.topics[0].topic_id = topic_id;
    let begun = client.call(17, by_id).await;
    assert!(begun.session_id > 0);
    assert_eq!(begun.responses[0].topic_id, topic_id);
    let quiet = client.call(17, request(begun.session_id, 1, &[], 0)).await;
    assert!(quiet.responses.is_empty() && quiet.error_code.is_none());

    fleet.client.delete_topic("t").await.unwrap();
    eventually("the topic to be gone", async || {
        broker.partition("t", 0).await.is_none().then_some(())
    })
    .await;
    let told = client.call(17, request(begun.session_id, 2, &[], 0)).await;
    let partition = &told.responses[0].partitions[0];
    assert_eq!(partition.error_code, ErrorCode::UNKNOWN_TOPIC_ID);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_session_one_request_waits_at_a_time() {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    assert_eq!(client.create_topic("t", 1, &[]).await, ErrorCode::NONE);
    client.produce_ok("t", 0, batch(&["a"])).await;
    let begun = client.call(12, request(0, 0, &[(0, 1)], 0)).await;
    let id = begun.session_id;
    let mut other = Client::connect(broker.handle.kafka).await;
    for epoch in [1, 3] {
        client.send(12, &request(id, epoch, &[], 300_000)).await;
        eventually("the next request's turn", async || {
            let next = other.call(12, request(id, epoch + 1, &[], 0)).await;
            next.error_code.is_none().then_some(())
        })
        .await;
        // Long before its own time.
        let patience = std::time::Duration::from_secs(60);
        let over = tokio::time::timeout(patience, client.receive::<fetch::Request>(12));
        let (_, over) = over.await.expect("an answer in time");
        assert_eq!(over.error_code, ErrorCode::INVALID_FETCH_SESSION_EPOCH);
    }
}
