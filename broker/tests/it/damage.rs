//! A log whose acknowledged bytes are not what was written: the partition does not lead, and says why.

use std::fs;

use whimbrel_wire::ErrorCode;

use crate::{
    client::{Client, batch},
    fleet::{EAST, Fleet, eventually},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_partition_does_not_lead_says_why_and_holds_up_no_other() {
    let fleet = Fleet::start().await;
    let data_dir = fleet.options(1, EAST).data_dir;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    for topic in ["damaged", "sound"] {
        assert_eq!(client.create_topic(topic, 1, &[]).await, ErrorCode::NONE);
        for value in ["first", "second", "third"] {
            client.produce_ok(topic, 0, batch(&[value])).await;
        }
    }
    broker.kill().await;
    // In the middle of the second of three batches that are as long as one another, nearly.
    let path = data_dir.join("damaged-0/00000000000000000000.log");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();

    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    assert_eq!(client.produce_ok("sound", 0, batch(&["fourth"])).await, 3);
    assert_eq!(client.consume("sound", 0, 0).await.len(), 4);
    let status = eventually("the reason", async || {
        let status = broker.partition("damaged", 0).await?;
        status["damaged"].is_string().then_some(status)
    })
    .await;
    let why = status["damaged"].as_str().unwrap();
    assert!(why.contains("segment 0") && why.contains("CRC"), "{why}");
    assert_ne!(status["role"], "leader");
    for _ in 0..3 {
        let answer = client.produce("damaged", 0, batch(&["refused"])).await;
        assert!(answer.error_code.is_error());
    }
    // Nothing of the file was cut off: it is there to be repaired from.
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(broker.failure(), None);
    broker.stop().await;
}
