//! Transactions with librdkafka, whose producer and consumer know nothing of us.

use std::{collections::HashMap, time::Duration};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, BaseRecord, Producer},
};

use crate::{
    client::Client,
    fleet::{Broker, EAST, Fleet},
};

pub const PATIENCE: Duration = Duration::from_secs(30);

/// Runs what blocks; librdkafka's calls do.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

pub fn producer(broker: &Broker, id: &str, settings: &[(&str, &str)]) -> BaseProducer {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", broker.handle.kafka.to_string())
        .set("transactional.id", id)
        .set("linger.ms", "0");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config.create().unwrap()
}

pub fn consumer(broker: &Broker, group: &str, isolation: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", broker.handle.kafka.to_string())
        .set("group.id", group)
        .set("isolation.level", isolation)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap()
}

pub fn send(producer: &BaseProducer, topic: &str, partition: i32, value: &str) {
    let record = BaseRecord::<(), str>::to(topic)
        .partition(partition)
        .payload(value);
    producer.send(record).unwrap();
}

/// All values up to the end of the topic's partitions, as a reader in this isolation sees them.
pub fn values(broker: &Broker, topic: &str, partitions: i32, isolation: &str) -> Vec<String> {
    let reader = consumer(broker, "reader", isolation);
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment
            .add_partition_offset(topic, partition, Offset::Beginning)
            .unwrap();
    }
    reader.assign(&assignment).unwrap();
    let (mut found, mut ends) = (Vec::new(), 0);
    while ends < partitions {
        match reader.poll(PATIENCE).expect("records or an end") {
            Err(KafkaError::PartitionEOF(_)) => ends += 1,
            polled => {
                let message = polled.unwrap();
                found.push(String::from_utf8(message.payload().unwrap().to_vec()).unwrap());
            }
        }
    }
    found.sort();
    found
}

fn code(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    error.rdkafka_error_code()
}

async fn started(topics: &[(&str, i32)]) -> (Fleet, Broker) {
    let fleet = Fleet::start().await;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    for (topic, partitions) in topics {
        client.create_topic(topic, *partitions, &[]).await;
    }
    (fleet, broker)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_is_read_and_what_is_aborted_is_not() {
    let (_fleet, broker) = started(&[("t", 2)]).await;
    let broker = blocking(move || {
        let producer = producer(&broker, "tx", &[]);
        producer.init_transactions(PATIENCE).unwrap();
        for (round, commit) in [(1, true), (2, false), (3, true), (4, false)] {
            producer.begin_transaction().unwrap();
            for partition in 0..2 {
                send(&producer, "t", partition, &format!("{round}-{partition}"));
            }
            if commit {
                producer.commit_transaction(PATIENCE).unwrap();
            } else {
                producer.flush(PATIENCE).unwrap();
                producer.abort_transaction(PATIENCE).unwrap();
            }
        }
        let committed = values(&broker, "t", 2, "read_committed");
        assert_eq!(committed, ["1-0", "1-1", "3-0", "3-1"]);
        assert_eq!(values(&broker, "t", 2, "read_uncommitted").len(), 8);
        broker
    })
    .await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_holds_readers_and_a_second_producer_ends_it() {
    let (_fleet, broker) = started(&[("t", 1)]).await;
    let broker = blocking(move || {
        let first = producer(&broker, "tx", &[]);
        first.init_transactions(PATIENCE).unwrap();
        first.begin_transaction().unwrap();
        send(&first, "t", 0, "of the first");
        first.flush(PATIENCE).unwrap();
        assert!(values(&broker, "t", 1, "read_committed").is_empty());
        assert_eq!(values(&broker, "t", 1, "read_uncommitted").len(), 1);
        let second = producer(&broker, "tx", &[]);
        second.init_transactions(PATIENCE).unwrap();
        second.begin_transaction().unwrap();
        send(&second, "t", 0, "of the second");
        second.commit_transaction(PATIENCE).unwrap();
        let refused = first.commit_transaction(PATIENCE).unwrap_err();
        assert_eq!(code(&refused), Some(RDKafkaErrorCode::Fenced), "{refused}");
        let committed = values(&broker, "t", 1, "read_committed");
        assert_eq!(committed, ["of the second"]);
        broker
    })
    .await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_takes_too_long_is_aborted() {
    let (_fleet, broker) = started(&[("t", 1)]).await;
    let broker = blocking(move || {
        let slow = producer(&broker, "tx", &[("transaction.timeout.ms", "1000")]);
        slow.init_transactions(PATIENCE).unwrap();
        slow.begin_transaction().unwrap();
        send(&slow, "t", 0, "too slow");
        slow.flush(PATIENCE).unwrap();
        let other = producer(&broker, "other", &[]);
        other.init_transactions(PATIENCE).unwrap();
        other.begin_transaction().unwrap();
        send(&other, "t", 0, "behind it");
        other.commit_transaction(PATIENCE).unwrap();
        // Readers wait for the open transaction, and for no longer than its timeout.
        let reader = consumer(&broker, "reader", "read_committed");
        let mut assignment = TopicPartitionList::new();
        assignment
            .add_partition_offset("t", 0, Offset::Beginning)
            .unwrap();
        reader.assign(&assignment).unwrap();
        let first = loop {
            match reader.poll(PATIENCE).expect("a record") {
                Err(KafkaError::PartitionEOF(_)) => {}
                polled => break polled.unwrap().payload().unwrap().to_vec(),
            }
        };
        assert_eq!(first, b"behind it");
        assert!(slow.commit_transaction(PATIENCE).is_err());
        broker
    })
    .await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_above_the_brokers_limit_is_refused() {
    let (_fleet, broker) = started(&[]).await;
    let broker = blocking(move || {
        let greedy = producer(&broker, "tx", &[("transaction.timeout.ms", "900001")]);
        let refused = greedy.init_transactions(PATIENCE).unwrap_err();
        assert_eq!(
            code(&refused),
            Some(RDKafkaErrorCode::InvalidTransactionTimeout),
            "{refused}"
        );
        broker
    })
    .await;
    broker.stop().await;
}

fn committed(broker: &Broker, group: &str, topic: &str) -> Option<i64> {
    let reader = consumer(broker, group, "read_committed");
    let mut places = TopicPartitionList::new();
    places.add_partition(topic, 0);
    let found = reader.committed_offsets(places, PATIENCE).unwrap();
    let offsets: HashMap<_, _> = found.to_topic_map();
    offsets[&(topic.to_owned(), 0)]
        .to_raw()
        .filter(|at| *at >= 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_sent_with_a_transaction_stand_or_fall_with_it() {
    let (_fleet, broker) = started(&[("in", 1), ("out", 1)]).await;
    let broker = blocking(move || {
        let group = consumer(&broker, "app", "read_committed");
        group.subscribe(&["in"]).unwrap();
        // Joined once it was told of the end of the empty partition.
        while !matches!(group.poll(PATIENCE), Some(Err(KafkaError::PartitionEOF(_)))) {}
        let app = producer(&broker, "app", &[]);
        app.init_transactions(PATIENCE).unwrap();
        let transfer = |position: i64, commit: bool| {
            app.begin_transaction().unwrap();
            send(&app, "out", 0, &format!("up to {position}"));
            let mut places = TopicPartitionList::new();
            places
                .add_partition_offset("in", 0, Offset::Offset(position))
                .unwrap();
            let metadata = group.group_metadata().unwrap();
            app.send_offsets_to_transaction(&places, &metadata, PATIENCE)
                .unwrap();
            if commit {
                app.commit_transaction(PATIENCE).unwrap();
            } else {
                app.flush(PATIENCE).unwrap();
                app.abort_transaction(PATIENCE).unwrap();
            }
        };
        transfer(5, true);
        assert_eq!(committed(&broker, "app", "in"), Some(5));
        transfer(9, false);
        assert_eq!(committed(&broker, "app", "in"), Some(5));
        transfer(7, true);
        assert_eq!(committed(&broker, "app", "in"), Some(7));
        let out = values(&broker, "out", 1, "read_committed");
        assert_eq!(out, ["up to 5", "up to 7"]);
        broker
    })
    .await;
    broker.stop().await;
}
