//! A home that lost its lease and hears nothing of the controllers.

use whimbrel_wire::{
    ErrorCode,
    messages::{find_coordinator, heartbeat},
};

use crate::{
    client::{Client, batch},
    fleet::{Broker, EAST, Fleet, eventually},
};

/// A home with one record, whose lease has run out.
async fn stranded(fleet: &Fleet) -> (Broker, Client) {
    let east = fleet.broker(1, EAST).await;
    let mut client = Client::connect(east.handle.kafka).await;
    client.create_topic("t", 1, &[]).await;
    client.produce_ok("t", 0, batch(&["first"])).await;
    fleet.lose_controller().await;
    eventually("a refusal", async || {
        let answer = client.produce("t", 0, batch(&["late"])).await;
        (answer.error_code == ErrorCode::NOT_LEADER_OR_FOLLOWER).then(|| {
            assert_eq!(
                answer.current_leader.leader_id, -1,
                "it does not send a writer to itself"
            );
        })
    })
    .await;
    (east, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_refuses_and_sends_its_producers_elsewhere() {
    let fleet = Fleet::start().await;
    let (east, mut client) = stranded(&fleet).await;
    // Its metadata would still name itself: the closed connection makes a client ask somebody else.
    assert_eq!(client.frame().await, None);
    east.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_read_to_its_end_and_only_there_sends_its_readers_elsewhere() {
    let fleet = Fleet::start().await;
    let (east, _) = stranded(&fleet).await;
    let mut client = Client::connect(east.handle.kafka).await;
    let mut end = 0;
    for _ in 0..3 {
        let read = client.fetch("t", 0, 0, 0).await;
        assert_eq!(read.error_code, ErrorCode::NONE);
        assert!(!read.records.unwrap().is_empty());
        end = read.high_watermark;
    }
    let metadata = client.metadata("t").await;
    assert_eq!(metadata.topics[0].partitions[0].leader_id, 1);
    let at_end = client.fetch("t", 0, end, 50).await;
    assert_eq!(at_end.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(client.frame().await, None);
    east.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_the_members_of_its_groups_and_sends_them_to_look_now_and_then() {
    let fleet = Fleet::start().await;
    let (east, _) = stranded(&fleet).await;
    let mut client = Client::connect(east.handle.kafka).await;
    let request = find_coordinator::Request {
        key: "g".into(),
        ..find_coordinator::Request::default()
    };
    client.call(2, request).await;
    assert_eq!(
        client.frame().await,
        None,
        "who asks for a coordinator next asks another broker"
    );
    let (mut kept, mut sent) = (0, 0);
    eventually("both answers", async || {
        let mut client = Client::connect(east.handle.kafka).await;
        let request = heartbeat::Request {
            group_id: "g".into(),
            member_id: "m".into(),
            generation_id: 1,
            ..heartbeat::Request::default()
        };
        match client.call(4, request).await.error_code {
            ErrorCode::NONE => kept += 1,
            ErrorCode::NOT_COORDINATOR => {
                sent += 1;
                assert_eq!(client.frame().await, None);
            }
            other => panic!("{other}"),
        }
        (kept > 0 && sent > 0).then_some(())
    })
    .await;
    east.stop().await;
}
