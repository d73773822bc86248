//! Topics that are made because a client asks for them.

use whimbrel_broker::Options;
use whimbrel_wire::{
    ErrorCode,
    messages::metadata::{self, MetadataRequestTopic},
};

use crate::{
    client::Client,
    fleet::{EAST, Fleet},
};

/// The topic's error and how many partitions it has, asked for as a producer does.
async fn ask(client: &mut Client, name: &str) -> (ErrorCode, usize) {
    let request = metadata::Request {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(name.into()),
            ..MetadataRequestTopic::default()
        }]),
        allow_auto_topic_creation: true,
        ..metadata::Request::default()
    };
    let topic = client.call(12, request).await.topics.remove(0);
    (topic.error_code, topic.partitions.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_asked_for_has_the_default_partitions() {
    let fleet = Fleet::start().await;
    let options = Options {
        default_partitions: 4,
        ..fleet.options(1, EAST)
    };
    let broker = fleet.try_broker(options).await.unwrap();
    let mut client = Client::connect(broker.handle.kafka).await;
    assert_eq!(ask(&mut client, "new").await.1, 4);
    // Two underscores alone make no internal topic.
    assert_eq!(ask(&mut client, "__new").await.1, 4);
    for name in ["__transaction_state_", "__whimbrel_cuts", "../x"] {
        let (error, partitions) = ask(&mut client, name).await;
        let made = error.is_none() || error.is_retryable() && partitions > 0;
        assert_eq!(made, name == "__transaction_state_", "{name}: {error}");
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_topic_is_made_where_that_is_switched_off() {
    let fleet = Fleet::start().await;
    let options = Options {
        auto_create_topics: false,
        ..fleet.options(1, EAST)
    };
    let broker = fleet.try_broker(options).await.unwrap();
    let mut client = Client::connect(broker.handle.kafka).await;
    assert_eq!(
        ask(&mut client, "new").await,
        (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, 0)
    );
    broker.stop().await;
}
