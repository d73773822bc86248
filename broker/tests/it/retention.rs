//! Retention as clients see it.

use whimbrel_broker::Options;
use whimbrel_runtime::unit::Span;
use whimbrel_wire::{BatchBuilder, ErrorCode};

use crate::{
    client::{Client, batch},
    fleet::{EAST, Fleet, eventually},
};

#[tokio::test(flavor = "multi_thread")]
async fn records_of_long_ago_go_at_the_next_check_and_new_ones_stay() {
    let fleet = Fleet::start().await;
    let options = Options {
        retention_check_interval: Span::millis(1),
        ..fleet.options(1, EAST)
    };
    let broker = fleet.try_broker(options).await.unwrap();
    let mut client = Client::connect(broker.handle.kafka).await;
    let hour = [("retention.ms", "3600000")];
    for topic in ["old", "new"] {
        let created = client.create_topic(topic, 1, &hour).await;
        assert_eq!(created, ErrorCode::NONE);
    }
    let mut long_ago = BatchBuilder::new(0);
    long_ago
        .add(1_000_000, None, Some(b"of 1970"), &[])
        .unwrap();
    client
        .produce_ok("old", 0, long_ago.finish().unwrap())
        .await;
    client.produce_ok("new", 0, batch(&["of now"])).await;
    eventually("the log start to move", async || {
        let partition = broker.partition("old", 0).await?;
        (partition["log_start"] == 1).then_some(())
    })
    .await;
    assert_eq!(
        client.fetch("old", 0, 0, 0).await.error_code,
        ErrorCode::OFFSET_OUT_OF_RANGE
    );
    assert_eq!(client.consume("new", 0, 0).await, ["of now"]);
}
