//! A disk that does not give what is on it (EIO of reads), as clients and the status see it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use whimbrel_log::calls::{Call, Watcher, watch};
use whimbrel_wire::ErrorCode;

use crate::{
    client::{Client, batch},
    fleet::{Broker, EAST, Fleet, eventually},
};

#[derive(Debug)]
struct Unreadable;

impl Watcher for Unreadable {
    fn before(&self, _call: Call, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn before_read(&self, _path: &Path) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(5))
    }
}

const VALUES: [&str; 3] = ["first", "second", "third"];

async fn filled(broker: &Broker) -> Client {
    let mut client = Client::connect(broker.handle.kafka).await;
    for topic in ["sick", "sound"] {
        assert_eq!(client.create_topic(topic, 1, &[]).await, ErrorCode::NONE);
        for value in VALUES {
            client.produce_ok(topic, 0, batch(&[value])).await;
        }
    }
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_cannot_be_read_says_so_takes_records_and_is_served_again() {
    let fleet = Fleet::start().await;
    let sick = fleet.options(1, EAST).data_dir.join("sick-0");
    let broker = fleet.broker(1, EAST).await;
    let mut client = filled(&broker).await;
    let unreadable = watch(&sick.canonicalize().unwrap(), Arc::new(Unreadable));
    for _ in 0..3 {
        let refused = client.fetch("sick", 0, 0, 0).await;
        assert_eq!(refused.error_code, ErrorCode::KAFKA_STORAGE_ERROR);
        assert!(refused.records.is_none_or(|records| records.is_empty()));
        let found = client.offset_at("sick", 0, 0).await;
        assert_eq!(found.error_code, ErrorCode::KAFKA_STORAGE_ERROR);
        assert_eq!(client.consume("sound", 0, 0).await, VALUES);
    }
    assert_eq!(client.produce_ok("sick", 0, batch(&["fourth"])).await, 3);
    drop(unreadable);
    let values = client.consume("sick", 0, 0).await;
    assert_eq!(values, [&VALUES[..], &["fourth"]].concat());
    assert_eq!(broker.failure(), None);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_cannot_be_read_at_the_start_does_not_lead_until_it_can() {
    let fleet = Fleet::start().await;
    let sick = fleet.options(1, EAST).data_dir.join("sick-0");
    let broker = fleet.broker(1, EAST).await;
    drop(filled(&broker).await);
    // Whose it is can be told without its own files then: before, the broker would not start at all.
    let id = fleet.view().topics["sick"].id;
    let points = fleet.options(1, EAST).data_dir.join("durable-points");
    eventually("what the disk promises of it", async || {
        let points = std::fs::read(&points).ok()?;
        let found = points.windows(16).any(|bytes| bytes == id.as_bytes());
        found.then_some(())
    })
    .await;
    broker.kill().await;
    let unreadable = watch(&sick.canonicalize().unwrap(), Arc::new(Unreadable));
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    assert_eq!(client.produce_ok("sound", 0, batch(&["fourth"])).await, 3);
    let status = eventually("the reason", async || {
        let status = broker.partition("sick", 0).await?;
        status["damaged"].is_string().then_some(status)
    })
    .await;
    let why = status["damaged"].as_str().unwrap();
    assert!(why.contains("cannot be read"), "{why}");
    assert_ne!(status["role"], "leader");
    for _ in 0..3 {
        let answer = client.produce("sick", 0, batch(&["refused"])).await;
        assert!(answer.error_code.is_error());
    }
    assert_eq!(broker.failure(), None);
    broker.stop().await;
    drop(unreadable);
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    assert_eq!(client.produce_ok("sick", 0, batch(&["fourth"])).await, 3);
    let values = client.consume("sick", 0, 0).await;
    assert_eq!(values, [&VALUES[..], &["fourth"]].concat());
    broker.stop().await;
}
