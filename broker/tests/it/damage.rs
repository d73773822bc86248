//! A log whose acknowledged bytes are not what was written: the partition does not lead, and says why.

use std::{collections::BTreeMap, fs};

use serde_json::json;
use whimbrel_fleet::NodeId;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_copy_that_does_not_lead_is_set_aside_and_filled_again() {
    const BATCHES: i64 = 20;
    let fleet = Fleet::start().await;
    let mut brokers = BTreeMap::new();
    for id in [1, 2] {
        let broker = fleet.try_broker(fleet.options(id, EAST)).await.unwrap();
        brokers.insert(id, broker);
    }
    let mut client = Client::connect(brokers[&1].handle.kafka).await;
    eventually("the topic", async || {
        let created = client.create_topic_of("t", 1, 2, &[]).await;
        (created == ErrorCode::NONE || created == ErrorCode::TOPIC_ALREADY_EXISTS).then_some(())
    })
    .await;
    let leader = eventually("a leader", async || {
        let view = fleet.view();
        let placed = &view.topics.get("t")?.partitions[0];
        placed.leader.filter(|_| placed.isr.len() == 2)
    })
    .await;
    let other = NodeId(3 - leader.0);
    let mut client = Client::connect(brokers[&leader.0].handle.kafka).await;
    for n in 0..BATCHES {
        client.produce_ok("t", 0, batch(&[&n.to_string()])).await;
    }
    eventually("the copy", async || {
        let partition = brokers[&other.0].partition("t", 0).await?;
        (partition["durable_end"] == BATCHES).then_some(())
    })
    .await;
    brokers.remove(&other.0).unwrap().kill().await;
    let data_dir = fleet.options(other.0, EAST).data_dir;
    let path = data_dir.join("t-0/00000000000000000000.log");
    let sound = fs::read(&path).unwrap();
    let mut bytes = sound.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();

    let broker = fleet.try_broker(fleet.options(other.0, EAST)).await;
    brokers.insert(other.0, broker.unwrap());
    let kept = data_dir.join("quarantine/t-0/00000000000000000000.log");
    eventually("a copy that is whole again", async || {
        let partition = brokers[&other.0].partition("t", 0).await?;
        let is_whole = partition["durable_end"] == BATCHES && partition["damaged"] == json!(null);
        (is_whole && kept.exists()).then_some(())
    })
    .await;
    assert_eq!(fs::read(&kept).unwrap(), bytes, "as it was found");
    assert_eq!(fs::read(&path).unwrap(), sound);
    eventually("the ack set", async || {
        (fleet.view().topics["t"].partitions[0].isr.len() == 2).then_some(())
    })
    .await;
    for (_, broker) in brokers {
        broker.stop().await;
    }
}
