//! Transactions whose records and markers are only in the bucket.

use std::{path::PathBuf, sync::atomic::Ordering};

use rdkafka::{consumer::Consumer, producer::Producer};
use whimbrel_rpc::proto::node::broker_client::BrokerClient;
use whimbrel_wire::ErrorCode;

use crate::{
    client::{Client, fetch_request},
    daemon::Daemon,
    fleet::{Broker, Fleet, eventually},
    transactions::{PATIENCE, blocking, producer, send, values},
};

const SETTINGS: [(&str, &str); 3] = [
    ("segment.bytes", "4096"),
    ("local.retention.bytes", "1"),
    ("retention.ms", "-1"),
];

async fn started() -> (Fleet, Daemon, Broker, Client, PathBuf) {
    let fleet = Fleet::start().await;
    let (daemon, broker, data_dir) = Daemon::beside_a_broker(&fleet).await;
    daemon.thawed.store(true, Ordering::SeqCst);
    let mut client = Client::connect(broker.handle.kafka).await;
    client.create_topic("t", 1, &SETTINGS).await;
    (fleet, daemon, broker, client, data_dir)
}

/// Transactions of eight records; every third one is aborted. What was committed.
fn write(broker: &Broker) -> Vec<String> {
    let producer = producer(broker, "tx", &[]);
    producer.init_transactions(PATIENCE).unwrap();
    let (text, mut committed) = ("x".repeat(400), Vec::new());
    for round in 0..30 {
        producer.begin_transaction().unwrap();
        let records: Vec<_> = (0..8).map(|n| format!("{round:02}-{n} {text}")).collect();
        for record in &records {
            send(&producer, "t", 0, record);
        }
        producer.flush(PATIENCE).unwrap();
        if round % 3 == 1 {
            producer.abort_transaction(PATIENCE).unwrap();
        } else {
            producer.commit_transaction(PATIENCE).unwrap();
            committed.extend(records);
        }
    }
    committed
}

#[tokio::test(flavor = "multi_thread")]
async fn cold_records_of_aborted_transactions_are_never_read_as_committed() {
    let (_fleet, daemon, broker, mut client, data_dir) = started().await;
    let (broker, committed) = blocking(move || {
        let committed = write(&broker);
        (broker, committed)
    })
    .await;
    let mut rpc = BrokerClient::connect(format!("http://{}", broker.handle.rpc))
        .await
        .unwrap();
    daemon.upload(&mut rpc, &data_dir).await;
    eventually("freed segments", async || {
        broker
            .partition("t", 0)
            .await
            .filter(|p| p["local_log_start"].as_i64() > Some(200))
    })
    .await;
    let broker = blocking(move || {
        assert_eq!(values(&broker, "t", 1, "read_committed"), committed);
        assert_eq!(values(&broker, "t", 1, "read_uncommitted").len(), 240);
        broker
    })
    .await;
    // Nobody says which were aborted: that is not the same as none.
    daemon.silent.store(true, Ordering::SeqCst);
    for (isolation_level, expected) in [(1, ErrorCode::KAFKA_STORAGE_ERROR), (0, ErrorCode::NONE)] {
        let mut request = fetch_request("t", 0, 20, 10_000);
        request.isolation_level = isolation_level;
        let answer = client.call(11, request).await;
        let data = &answer.responses[0].partitions[0];
        let empty = data.records.as_ref().unwrap().is_empty();
        assert_eq!((data.error_code, empty), (expected, expected.is_error()));
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_is_not_uploaded() {
    let (_fleet, daemon, broker, _client, data_dir) = started().await;
    let (broker, open) = blocking(move || {
        write(&broker);
        let open = producer(&broker, "open", &[]);
        open.init_transactions(PATIENCE).unwrap();
        open.begin_transaction().unwrap();
        send(&open, "t", 0, "undecided");
        open.flush(PATIENCE).unwrap();
        let offset = broker_end(&broker);
        write(&broker);
        (broker, (open, offset))
    })
    .await;
    let mut rpc = BrokerClient::connect(format!("http://{}", broker.handle.rpc))
        .await
        .unwrap();
    daemon.upload(&mut rpc, &data_dir).await;
    let tiered = broker.partition("t", 0).await.unwrap()["tiered_end"].clone();
    let (open, offset) = open;
    assert!(tiered.as_i64() < Some(offset), "{tiered} of {offset}");
    blocking(move || open.abort_transaction(PATIENCE).unwrap()).await;
    eventually("the rest", async || {
        daemon.upload(&mut rpc, &data_dir).await;
        let partition = broker.partition("t", 0).await?;
        (partition["tiered_end"].as_i64() > Some(offset)).then_some(())
    })
    .await;
    broker.stop().await;
}

/// The offset after the last record.
fn broker_end(broker: &Broker) -> i64 {
    let reader = crate::transactions::consumer(broker, "end", "read_uncommitted");
    reader.fetch_watermarks("t", 0, PATIENCE).unwrap().1
}
