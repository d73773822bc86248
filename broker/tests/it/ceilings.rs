//! The group's sums, by which the lease covers acks, while partitions join and leave them.

use whimbrel_wire::{
    ErrorCode,
    messages::{delete_topics, produce},
};

use crate::{
    client::{Client, batch, produce_request},
    fleet::{EAST, Fleet, eventually},
};

/// What four writes at once are answered; `None` when the broker closed.
async fn four(writer: &mut Client) -> Option<Vec<ErrorCode>> {
    for _ in 0..4 {
        let request = produce_request("kept", 0, batch(&["x"]), -1);
        writer.try_send(10, &request).await.ok()?;
    }
    let mut codes = Vec::new();
    for _ in 0..4 {
        let (_, answer) = writer.try_receive::<produce::Request>(10).await?;
        codes.push(answer.responses[0].partition_responses[0].error_code);
    }
    Some(codes)
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_large_topic_refuses_nobody_who_writes_to_another() {
    const ROUNDS: usize = 4;
    const AT_ONCE: usize = 60;
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut admin = Client::connect(broker.handle.kafka).await;
    let mut writer = Client::connect(broker.handle.kafka).await;
    admin.create_topic("kept", 1, &[]).await;
    writer.produce_ok("kept", 0, batch(&["first"])).await;
    // More than a quiet broker reserves ahead.
    let many = vec!["x"; 5_000];
    let mut refused = Vec::new();
    for round in 0..ROUNDS {
        let name = format!("large-{round}");
        admin.create_topic(&name, 1, &[]).await;
        admin.produce_ok(&name, 0, batch(&many)).await;
        let deleting = async {
            let request = delete_topics::Request {
                topic_names: vec![name.clone()],
                timeout_ms: 10_000,
                ..delete_topics::Request::default()
            };
            let deleted = admin.call(5, request).await;
            assert_eq!(deleted.responses[0].error_code, ErrorCode::NONE);
            eventually("the deletion", async || {
                broker.partition(&name, 0).await.is_none().then_some(())
            })
            .await;
        };
        let writing = async {
            let mut codes = Vec::new();
            for _ in 0..AT_ONCE {
                match four(&mut writer).await {
                    Some(four) => codes.extend(four),
                    // The lease was lost on a busy machine: that is another story.
                    None => writer.reconnect().await,
                }
            }
            codes
        };
        let (codes, ()) = tokio::join!(writing, deleting);
        refused.extend(codes.into_iter().filter(|code| code.is_error()));
    }
    assert_eq!(refused, [], "refused while another topic was deleted");
    broker.stop().await;
}
